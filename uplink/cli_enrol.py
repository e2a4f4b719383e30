"""``headroom sensor enrol``."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import click

from uplink.enrolment import CodeError, EnrolmentCode, EnrolmentError, EnrolmentGrant, request_grant
from uplink.identity import IDENTITY_FILE, save_sensor_key, state_folder
from uplink.keyfiles import KeyFileError, make_private_folder
from uplink.wgconf import ConfigError, check_interface_name, save
from uplink.wgkeys import PrivateKey

TUNNEL_FILE = "tunnel.conf"


@click.command(
    epilog="""\b
Examples:
  headroom sensor enrol 7K3M-X2PQ-... --service http://192.0.2.10:8401
  headroom sensor enrol --service http://counts.example.org:8401       (asks for the codes)
  headroom sensor enrol 7K3M-X2PQ-... --service http://192.0.2.10:8401 --outgoing eth0.20"""
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
@click.option("--again", is_flag=True, help="Replace the identity of a sensor that is enrolled already.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
def enrol(
    code: str | None,
    service: str,
    verification: str | None,
    outgoing: str | None,
    state: Path | None,
    again: bool,
    as_json: bool,
) -> None:
    """Turn a one-time code into an enrolled sensor.

    CODE is what `headroom service sensor add` printed; without it, it is asked for, so that it appears in no process
    list. Plain HTTP is enough: the code itself proves both sides and seals what they exchange. Writes identity.toml,
    sensor.key and tunnel.conf in the state folder, all of them or none.
    """
    folder = state_folder(state)
    _check_url(service)
    if outgoing is not None:
        try:
            check_interface_name(outgoing)
        except ConfigError as error:
            raise click.BadParameter(str(error), param_hint="--outgoing") from None
    if (folder / IDENTITY_FILE).exists() and not again:
        raise click.UsageError(f"{folder / IDENTITY_FILE}: this sensor is enrolled already; --again replaces it")
    parsed, verification = _codes(code, verification)
    _check_writable(folder)  # before the code is spent
    private_key = PrivateKey.generate()
    try:
        grant = request_grant(service, parsed, wireguard_public_key=private_key.public, verification=verification or "")
        _keep(folder, grant, private_key, outgoing)
    except (EnrolmentError, ConfigError, KeyFileError, ValueError, OSError) as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        address = grant.tunnel.address if grant.tunnel else None
        report = {"sensor_id": grant.sensor_id, "tunnel_address": address, "service_url": grant.service_url}
        click.echo(json.dumps({**report, "state": str(folder)}))
        return
    click.echo(f"This is now sensor {grant.sensor_id}. Its keys are in {folder}.")
    if grant.tunnel is not None:
        click.echo(f"Its address in the tunnel is {grant.tunnel.address}. Next: headroom tunnel up")


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
