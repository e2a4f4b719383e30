"""The commands of the uplink: ``headroom sensor send``, and by their own modules ``enrol`` and ``tunnel``."""

from __future__ import annotations

import importlib
import json
import logging
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from uplink.identity import Identity, IdentityError, load_sensor_key, save_sensor_key, state_folder
from uplink.sender import Result, Sender, Step
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
    """Deliver what waits in the spool, once.

    Ends with 0 when nothing waits any more, with 1 when something does, with 2 when the sensor is not enrolled. A
    sensor's agent sends by itself; while it runs, this command is refused.
    """
    if verbose:
        logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    folder = state_folder(state)
    try:
        identity = Identity.load(folder)
        key = load_sensor_key(folder, identity.sensor_id)
    except IdentityError as error:
        raise click.UsageError(str(error)) from None
    try:
        with Spool(folder / SPOOL_FOLDER, identity.sensor_id, identity.seal_public_key) as spool:
            transport = RequestsTransport()
            sender = Sender(
                spool,
                identity.service_url,
                key,
                transport,
                on_new_key=lambda new: save_sensor_key(folder, new),
            )
            try:
                step = sender.drain(attempts=attempts)
            finally:
                transport.close()
            status = spool.status()
    except (SpoolBusyError, SpoolError) as error:
        raise click.ClickException(str(error)) from None
    _report(step, sender, status, as_json)
    if status.waiting:
        sys.exit(1)


def _report(step: Step, sender: Sender, status: SpoolStatus, as_json: bool) -> None:
    done = sender.status
    reason = step.reason or done.last_error
    if as_json:
        document = {
            "sent": done.records,
            "batches": done.batches,
            "bytes": done.bytes_sent,
            "waiting": status.waiting,
            "result": step.result.value,
            "reason": reason,
            "clock_skew_seconds": done.clock_skew,
            "totals": asdict(status.counters),
        }
        click.echo(json.dumps(document))
        return
    console = Console(highlight=False)
    console.print(
        f"{done.records} records sent in {done.batches} batches, {done.bytes_sent} bytes; {status.waiting} wait"
    )
    if status.waiting and reason:
        console.print(f"[yellow]{reason}[/]" + (": a person must look" if step.result is Result.CONFIGURATION else ""))
    if status.counters.lost:
        c = status.counters
        console.print(
            f"[red]lost so far: {c.dropped} (spool full), {c.damaged} (damaged on the disk), "
            f"{c.rejected} (the service refuses them)[/]"
        )
