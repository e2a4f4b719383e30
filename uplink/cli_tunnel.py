"""``headroom tunnel up|down|status``."""

from __future__ import annotations

import json
import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from uplink.cli_enrol import TUNNEL_FILE
from uplink.identity import state_folder
from uplink.tunnel import DEFAULT_INTERFACE, Tunnel
from uplink.tunnel_health import PeerStatus, TunnelHealth, TunnelState
from uplink.wg_backends import TunnelError, default_backends
from uplink.wgconf import ConfigError, TunnelConfig, check_interface_name, load

logger = logging.getLogger(__name__)

_TICK_S = 25.0


def _options(command: Any) -> Any:
    for option in (
        click.option(
            "--interface",
            default=DEFAULT_INTERFACE,
            show_default=True,
            envvar="HEADROOM_INTERFACE",
            help="Name of the WireGuard interface.",
        ),
        click.option(
            "--config",
            type=click.Path(dir_okay=False, path_type=Path),
            help=f"wg-quick file. Default: {TUNNEL_FILE} in the state folder.",
        ),
        click.option(
            "--state",
            envvar="HEADROOM_STATE",
            show_envvar=True,
            type=click.Path(file_okay=False, path_type=Path),
            help="State folder. Default: /var/lib/headroom for root.",
        ),
    ):
        command = option(command)
    return command


def _load(config: Path | None, state: Path | None) -> TunnelConfig:
    try:
        return load(config or state_folder(state) / TUNNEL_FILE)
    except ConfigError as error:
        raise click.UsageError(f"{error} (headroom sensor enrol writes the file)") from None


def _tunnel(interface: str, config: TunnelConfig, backend: str | None = None) -> Tunnel:
    try:
        return Tunnel(check_interface_name(interface), config, backends=default_backends(name=backend))
    except ConfigError as error:
        raise click.BadParameter(str(error), param_hint="--interface") from None


@contextmanager
def _reasons() -> Iterator[None]:
    try:
        yield
    except TunnelError as error:
        raise click.ClickException(str(error)) from None


@click.group()
def tunnel() -> None:
    """Bring the WireGuard tunnel up or down, show its health."""


@tunnel.command(
    epilog="""\b
Examples:
  headroom tunnel up
  headroom tunnel up --keep            (in a systemd unit: mends the tunnel until stopped)"""
)
@_options
@click.option("--backend", type=click.Choice(["kernel", "userspace", "python-wireguard"]), help="Default: what works.")
@click.option("--wait", type=click.FloatRange(0, 300), default=10.0, show_default=True, help="Seconds to wait.")
@click.option("--keep", is_flag=True, help="Stay, follow a moving endpoint, mend the tunnel; down at the end.")
def up(interface: str, config: Path | None, state: Path | None, backend: str | None, wait: float, keep: bool) -> None:
    """Bring the tunnel up and wait for the service to answer in it.

    Safe to repeat. Ends with 1 when the service does not answer in time; the tunnel then stays up and goes on trying.
    """
    ours = _tunnel(interface, _load(config, state), backend)
    if keep:
        _keep(ours)
        return
    with _reasons():
        ours.up()
        health = _wait(ours, wait)
    if health.state is not TunnelState.OK and wait > 0:
        raise click.ClickException(f"{interface} is up, but {health.words}")
    click.echo(f"{interface} is up: {health.words}")


@tunnel.command(epilog="Example: headroom tunnel down")
@_options
def down(interface: str, config: Path | None, state: Path | None) -> None:
    """Take the tunnel down. Safe to repeat."""
    with _reasons():
        _tunnel(interface, _load(config, state)).down()
    click.echo(f"{interface} is down")


@tunnel.command(epilog="Example: headroom tunnel status --json")
@_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
def status(interface: str, config: Path | None, state: Path | None, as_json: bool) -> None:
    """Show the tunnel's health: ok, never (no handshake yet), stale or down, and what to check.

    Ends with 0 when it is ok, with 1 otherwise.
    """
    ours = _tunnel(interface, _load(config, state))
    with _reasons():
        seen = ours.status()
        health = ours.health()
    if as_json:
        report = {
            "interface": interface,
            "state": health.state.value,
            "words": health.words,
            "backend": seen.backend,
            "public_key": str(seen.public_key) if seen.public_key else None,
            "listen_port": seen.listen_port,
            "peers": [_peer(peer) for peer in seen.peers],
        }
        click.echo(json.dumps(report))
    else:
        click.echo(f"{interface}: {health.state.value}: {health.words}")
        if seen.up:
            table = Table("peer", "endpoint", "last handshake", "received", "sent", box=None, title_justify="left")
            for peer in seen.peers:
                age = "never" if peer.latest_handshake is None else f"{time.time() - peer.latest_handshake:.0f} s ago"
                sizes = f"{peer.rx_bytes} B", f"{peer.tx_bytes} B"
                table.add_row(str(peer.public_key), peer.endpoint or "", age, *sizes)
            Console().print(table)
            click.echo(f"backend: {seen.backend}")
    if health.state is not TunnelState.OK:
        raise click.exceptions.Exit(1)


def _peer(peer: PeerStatus) -> dict[str, Any]:
    return {
        "public_key": str(peer.public_key),
        "endpoint": peer.endpoint,
        "allowed_ips": list(peer.allowed_ips),
        "latest_handshake": peer.latest_handshake,
        "rx_bytes": peer.rx_bytes,
        "tx_bytes": peer.tx_bytes,
        "persistent_keepalive": peer.persistent_keepalive,
    }


def _wait(ours: Tunnel, seconds: float) -> TunnelHealth:
    deadline = time.monotonic() + seconds
    while True:
        health = ours.health()
        if health.state is TunnelState.OK or time.monotonic() >= deadline:
            return health
        time.sleep(0.05)


def _keep(ours: Tunnel) -> None:
    """Mend until SIGTERM or SIGINT. A tunnel that does not come up is tried again: the network may be late."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    said = ""
    while not stop.is_set():
        try:
            health = ours.tick()
            words = f"{health.state.value}: {health.words}" if health.state is not TunnelState.OK else "ok"
        except TunnelError as error:
            words = str(error)
        if words.partition(":")[0] != said:
            said = words.partition(":")[0]
            logger.info("%s: %s", ours.interface, words)
        stop.wait(_TICK_S if said == "ok" else 5.0)
    with _reasons():
        ours.down()
