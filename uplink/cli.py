"""The commands of the uplink: ``headroom sensor send``, and by their own modules ``enrol`` and ``tunnel``."""

from __future__ import annotations

import importlib
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from uplink.identity import Enrolled, Identity, IdentityError, enrolled, save_sensor_key, state_folder
from uplink.keys import SensorKey
from uplink.sender import Result, Sender, SenderStatus, Step
from uplink.spool import SPOOL_FOLDER, Spool, SpoolBusyError, SpoolError, SpoolStatus
from uplink.transport import RequestsTransport

_OTHERS = {"enrol": "uplink.cli_enrol", "tunnel": "uplink.cli_tunnel"}

__all__ = ["send"]


def __getattr__(name: str) -> Any:
    """`enrol` and `tunnel` load when they are asked for: ``send`` must not wait for what it does not need."""
    if name in _OTHERS:
        return getattr(importlib.import_module(_OTHERS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@click.command(
    epilog="""\b
Examples:
  headroom sensor send
  headroom sensor send --state ./state --json | jq .waiting
  headroom sensor send --attempts 1 || echo "something still waits"
"""
)
@click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="HEADROOM_STATE",
    show_envvar=True,
    help="State folder. Default: /var/lib/headroom for root, ~/.local/state/headroom otherwise.",
)
@click.option(
    "--attempts", type=click.IntRange(1, 100), default=3, show_default=True, help="Failures in a row to bear."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("-v", "--verbose", is_flag=True, help="Show what happens, on stderr.")
def send(state: Path | None, attempts: int, as_json: bool, verbose: bool) -> None:
    """Deliver what waits in the spool, once; on a board with several cameras, what waits in the spool of each.

    Ends with 0 when nothing waits any more, with 1 when something does, with 2 when the sensor is not enrolled. A
    sensor's agent sends by itself; while it runs, this command is refused.
    """
    if verbose:
        logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    folder = state_folder(state)
    try:
        sensors = enrolled(folder) or [Enrolled(folder, Identity.load(folder))]  # the latter says what to do
        keys = [one.identity.load_key(one.folder) for one in sensors]
    except IdentityError as error:
        raise click.UsageError(str(error)) from None
    try:
        done = [_deliver(one, key, attempts) for one, key in zip(sensors, keys, strict=True)]
    except (SpoolBusyError, SpoolError) as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        _print_json(done)
    else:
        for delivery in done:
            _print_words(delivery, named=len(done) > 1)
    if any(delivery.spool.waiting for delivery in done):
        sys.exit(1)


@dataclass(frozen=True, slots=True)
class _Delivery:
    """What became of one sensor's spool."""

    sensor_id: str
    step: Step
    sent: SenderStatus
    spool: SpoolStatus

    @property
    def reason(self) -> str:
        return self.step.reason or self.sent.last_error

    def as_json(self) -> dict[str, Any]:
        return {
            "sent": self.sent.records,
            "batches": self.sent.batches,
            "bytes": self.sent.bytes_sent,
            "waiting": self.spool.waiting,
            "result": self.step.result.value,
            "reason": self.reason,
            "clock_skew_seconds": self.sent.clock_skew,
            "totals": asdict(self.spool.counters),
        }


def _deliver(one: Enrolled, key: SensorKey, attempts: int) -> _Delivery:
    identity = one.identity
    with Spool(one.folder / SPOOL_FOLDER, identity.sensor_id, identity.seal_public_key) as spool:
        transport = RequestsTransport()
        sender = Sender(
            spool,
            identity.service_url,
            key,
            transport,
            on_new_key=lambda new: save_sensor_key(one.folder, new),
        )
        try:
            step = sender.drain(attempts=attempts)
        finally:
            transport.close()
        return _Delivery(identity.sensor_id, step, sender.status, spool.status())


def _print_json(done: Sequence[_Delivery]) -> None:
    """Sums over the sensors; result, reason and clock are of the first that still has something waiting."""
    each = [delivery.as_json() for delivery in done]
    worst = next((document for document in each if document["waiting"]), each[0])
    sums = {name: sum(document[name] for document in each) for name in ("sent", "batches", "bytes", "waiting")}
    totals = {name: sum(document["totals"][name] for document in each) for name in worst["totals"]}
    sensors = {delivery.sensor_id: document for delivery, document in zip(done, each, strict=True)}
    click.echo(json.dumps(worst | sums | {"totals": totals, "sensors": sensors}))


def _print_words(delivery: _Delivery, *, named: bool) -> None:
    console = Console(highlight=False)
    sent, status = delivery.sent, delivery.spool
    name = f"{delivery.sensor_id}: " if named else ""
    console.print(
        f"{name}{sent.records} records sent in {sent.batches} batches, {sent.bytes_sent} bytes; {status.waiting} wait"
    )
    if status.waiting and delivery.reason:
        person = ": a person must look" if delivery.step.result is Result.CONFIGURATION else ""
        console.print(f"[yellow]{name}{delivery.reason}[/]{person}")
    if status.counters.lost:
        c = status.counters
        console.print(
            f"[red]{name}lost so far: {c.dropped} (spool full), {c.damaged} (damaged on the disk), "
            f"{c.rejected} (the service refuses them)[/]"
        )
