"""``headroom sensor enrol``."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import click

from uplink.enrolment import CodeError, EnrolmentCode, EnrolmentError, EnrolmentGrant, request_grant
from uplink.identity import IDENTITY_FILE, TAKEN_FOLDERS, Identity, IdentityError, save_sensor_key, state_folder
from uplink.keyfiles import KeyFileError, make_private_folder
from uplink.keys import SensorKey
from uplink.wgconf import ConfigError, check_interface_name, save
from uplink.wgkeys import PrivateKey

TUNNEL_FILE = "tunnel.conf"


@click.command(
    epilog="""\b
Examples:
  headroom sensor enrol 7K3M-X2PQ-... --service http://192.0.2.10:8401
  headroom sensor enrol --service http://counts.example.org:8401       (asks for the codes)
  headroom sensor enrol 7K3M-X2PQ-... --service http://192.0.2.10:8401 --outgoing eth0.20
  headroom sensor enrol 5TQ9-B1ZC-... --service http://192.0.2.10:8401 --camera      (a second camera of this board)"""
)
@click.argument("code", required=False)
@click.option("--service", required=True, metavar="URL", help="Where the service enrols: http://HOST:PORT.")
@click.option("--verification", metavar="DIGITS", help="The second code, where the service asks for one.")
@click.option("--outgoing", metavar="INTERFACE", help="Interface or VLAN that the tunnel must leave by, e.g. eth0.20.")
@click.option(
    "--state",
    envvar="HEADROOM_STATE",
    show_envvar=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="State folder. Default: /var/lib/headroom for root, ~/.local/state/headroom otherwise.",
)
@click.option("--camera", is_flag=True, help="The code is of a further camera of this board, which is enrolled.")
@click.option("--again", is_flag=True, help="Replace the identity of a sensor that is enrolled already.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
def enrol(
    code: str | None,
    service: str,
    verification: str | None,
    outgoing: str | None,
    state: Path | None,
    camera: bool,
    again: bool,
    as_json: bool,
) -> None:
    """Turn a one-time code into an enrolled sensor.

    CODE is what `headroom service sensor add` printed; without it, it is asked for, so that it appears in no process
    list. Plain HTTP is enough: the code itself proves both sides and seals what they exchange. Writes identity.toml,
    sensor.key and tunnel.conf in the state folder, all of them or none.

    A further camera of the board (--camera) becomes a sensor of its own that speaks through the board's tunnel: its
    identity.toml and sensor.key go into the subfolder of its name. Its code works on this board alone.
    """
    folder = state_folder(state)
    _check_url(service)
    if outgoing is not None:
        try:
            check_interface_name(outgoing)
        except ConfigError as error:
            raise click.BadParameter(str(error), param_hint="--outgoing") from None
    if camera:
        if again or outgoing is not None:
            raise click.UsageError("--camera leaves the board as it is; --again and --outgoing are for the board")
        _enrol_camera(folder, service, code, verification, as_json)
        return
    if (folder / IDENTITY_FILE).exists() and not again:
        raise click.UsageError(
            f"{folder / IDENTITY_FILE}: this sensor is enrolled already; --camera enrols a further camera of this "
            "board, --again replaces it"
        )
    parsed, verification = _codes(code, verification)
    _check_writable(folder)  # before the code is spent
    private_key = PrivateKey.generate()
    try:
        grant = request_grant(service, parsed, wireguard_public_key=private_key.public, verification=verification or "")
        _keep(folder, grant, private_key, outgoing)
    except (EnrolmentError, ConfigError, KeyFileError, ValueError, OSError) as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        _print_report(grant, grant.tunnel.address if grant.tunnel else None, folder)
        return
    click.echo(f"This is now sensor {grant.sensor_id}. Its keys are in {folder}.")
    if grant.tunnel is not None:
        click.echo(f"Its address in the tunnel is {grant.tunnel.address}. Next: headroom tunnel up")


def _enrol_camera(folder: Path, service: str, code: str | None, verification: str | None, as_json: bool) -> None:
    board, key = _board(folder)
    parsed, verification = _codes(code, verification)
    _check_writable(folder)
    try:
        grant = request_grant(service, parsed, verification=verification or "", board=key)
        own = _keep_camera(folder, grant, board)
    except (EnrolmentError, KeyFileError, ValueError, OSError) as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        _print_report(grant, board.tunnel_address or None, own)
        return
    click.echo(f"Sensor {grant.sensor_id} is now a camera of board {board.sensor_id}. Its keys are in {own}.")
    click.echo(f'Next: sensor_id = "{grant.sensor_id}" for its [[camera]] in sensor.toml, then restart the sensor.')


def _board(folder: Path) -> tuple[Identity, SensorKey]:
    """Whose board this is, with the key that proves it."""
    try:
        identity = Identity.load(folder)
        key = identity.load_key(folder)
    except IdentityError as error:
        raise click.UsageError(f"{error} (the board itself comes first, without --camera)") from None
    if identity.board:
        raise click.UsageError(f"{folder} belongs to a camera of board {identity.board}; give the board's own --state")
    return identity, key


def _print_report(grant: EnrolmentGrant, address: str | None, folder: Path) -> None:
    report = {"sensor_id": grant.sensor_id, "board": grant.board, "tunnel_address": address}
    click.echo(json.dumps({**report, "service_url": grant.service_url, "state": str(folder)}))


def _codes(code: str | None, verification: str | None) -> tuple[EnrolmentCode, str | None]:
    if code is None:
        code = click.prompt("Enrolment code", err=True)
        if verification is None:
            verification = click.prompt("Verification code (empty when there is none)", default="", err=True)
    elif verification is None and sys.stdin.isatty():
        verification = click.prompt("Verification code (empty when there is none)", default="", err=True)
    try:
        return EnrolmentCode.parse(code), verification
    except CodeError as error:
        raise click.BadParameter(str(error), param_hint="CODE") from None


def _check_url(service: str) -> None:
    parts = urlsplit(service)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/") or parts.query:
        raise click.BadParameter(f"{service!r} is not http://HOST:PORT or https://HOST:PORT", param_hint="--service")


def _check_writable(folder: Path) -> None:
    try:
        make_private_folder(folder)
    except OSError as error:
        raise click.UsageError(f"{folder}: {error.strerror}; choose another --state or run as root") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise click.UsageError(f"{folder} is not writable; choose another --state or run as root")


def _keep(folder: Path, grant: EnrolmentGrant, private_key: PrivateKey, outgoing: str | None) -> None:
    """Everything is made before anything is written; the identity, which says "enrolled", goes last."""
    identity, key, tunnel = grant.identity(), grant.sensor_key(), grant.tunnel_config(private_key, outgoing)
    if tunnel is not None:
        save(folder / TUNNEL_FILE, tunnel)
    else:
        (folder / TUNNEL_FILE).unlink(missing_ok=True)
    save_sensor_key(folder, key)
    identity.save(folder)


def _keep_camera(folder: Path, grant: EnrolmentGrant, board: Identity) -> Path:
    """Write identity and key of a further camera, the identity last; gives its folder."""
    if grant.board != board.sensor_id:
        raise EnrolmentError(
            f"the service did not enrol {grant.sensor_id} as a camera of {board.sensor_id}, and nothing was stored; "
            "is its program older than this one?"
        )
    if grant.sensor_id in TAKEN_FOLDERS:
        raise EnrolmentError(f"a camera cannot be called {grant.sensor_id!r} here: add one of another name")
    own = folder / grant.sensor_id
    identity, key = grant.identity(), grant.sensor_key()
    save_sensor_key(own, key)
    identity.save(own)
    return own
