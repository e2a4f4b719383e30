"""``headroom serve``."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.logging import RichHandler

from analytics.runtime import ListenError, Service, ensure_organisation, open_store
from analytics.service_keys import load_or_create
from analytics.settings import ServiceSettings, SettingsError, load_settings
from analytics.site_rules import RulesError
from analytics.store.errors import StoreError
from uplink.keyfiles import KeyFileError, make_private_folder
from uplink.wg_backends import TunnelError

DATA_VARIABLE = "HEADROOM_SERVICE"


def data_option(command: Any) -> Any:
    """The option that names the service's data folder."""
    return click.option(
        "--data",
        envvar=DATA_VARIABLE,
        show_envvar=True,
        type=click.Path(file_okay=False, path_type=Path),
        default=_default_data,
        help="Folder of keys, store and service.toml. Default: /var/lib/headroom-service for root, else your own.",
    )(command)


def _default_data() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/headroom-service")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "headroom-service"


def settings_or_usage_error(data: Path, overrides: dict[str, Any]) -> ServiceSettings:
    """Load the settings; a wrong one ends the command with exit code 2."""
    try:
        return load_settings(data.absolute(), overrides)
    except SettingsError as error:
        raise click.UsageError(str(error)) from None


@click.command(
    epilog="""\b
Examples:
  headroom serve --data ./service
  headroom serve --host 0.0.0.0 --port 443 --certificate fullchain.pem --key privkey.pem
  headroom serve --public-url https://rooms.example.org     (a TLS proxy stands before it)
  HEADROOM_STORE=mongodb+srv://... headroom serve
  headroom serve --tunnel 10.77.0.1/16 --endpoint counts.example.org:51820 --enrol 0.0.0.0:8401"""
)
@data_option
@click.option("--host", help="Address for portal, API and ingest on this machine. Default: 127.0.0.1.")
@click.option("--port", type=click.IntRange(0, 65535), help="TCP port. Default: 8400; 0 = any free one.")
@click.option("--certificate", type=click.Path(path_type=Path), help="PEM file: HTTPS by the program itself.")
@click.option("--key", "private_key", type=click.Path(path_type=Path), help="PEM file with the certificate's key.")
@click.option("--behind-proxy", is_flag=True, default=None, help="Only a TLS proxy can reach --host.")
@click.option("--public-url", metavar="URL", help="Where people reach the portal, e.g. the TLS proxy's address.")
@click.option("--tunnel", metavar="ADDRESS/PREFIX", help="Bring up WireGuard; the service's address and network.")
@click.option("--endpoint", metavar="HOST:PORT", help="Where sensors reach this machine's WireGuard from outside.")
@click.option("--interface", help="Name of the WireGuard interface. Default: headroom0.")
@click.option("--enrol", metavar="HOST:PORT", help="Address where blank sensors enrol, besides --host.")
@click.option("-v", "--verbose", is_flag=True, help="Log more.")
def serve(
    data: Path,
    host: str | None,
    port: int | None,
    certificate: Path | None,
    private_key: Path | None,
    behind_proxy: bool | None,
    public_url: str | None,
    tunnel: str | None,
    endpoint: str | None,
    interface: str | None,
    enrol: str | None,
    verbose: bool,
) -> None:
    """Run the service: portal, API, ingest and enrolment, until Ctrl-C.

    The first start in an empty folder makes the keys and the store, and prints a link that works once: with it you
    create the first account. Keep a copy of the keys folder in a safe place: without it the store cannot be opened and
    sensors must be enrolled again. Several machines that share one MongoDB share the keys folder too.
    """
    given: dict[str, Any] = {
        "host": host,
        "port": port,
        "enrol": enrol,
        "certificate": certificate and certificate.absolute(),
        "private_key": private_key and private_key.absolute(),
        "behind_proxy": behind_proxy,
        "public_url": public_url,
    }
    overrides = {name: value for name, value in given.items() if value is not None}
    wireguard = {"address": tunnel, "endpoint": endpoint, "interface": interface}
    if any(value is not None for value in wireguard.values()):
        overrides["tunnel"] = {name: value for name, value in wireguard.items() if value is not None}
    settings = settings_or_usage_error(data, overrides)
    console = Console(stderr=True)
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(message)s",
        handlers=[RichHandler(console=console, show_path=False)],
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    try:
        make_private_folder(settings.data)
        fresh = not settings.keys.exists()
        keys = load_or_create(settings.data, settings.keys)
        if fresh:
            console.print(f"New keys in [bold]{settings.keys}[/]: keep a copy of that folder in a safe place.")
        with open_store(settings, keys) as store:
            ensure_organisation(store, settings)
            service = Service(settings, keys, store)
            asyncio.run(service.run(lambda urls: _announce(console, service, settings, urls)))
    except RulesError as error:
        raise click.UsageError(str(error)) from None
    except (KeyFileError, StoreError, TunnelError, ListenError, OSError) as error:
        raise click.ClickException(str(error)) from None


def _announce(console: Console, service: Service, settings: ServiceSettings, urls: list[str]) -> None:
    console.print(f"Listening on {', '.join(urls)}", highlight=False, soft_wrap=True)
    people = service.services.portal.people
    if not people.nobody_yet():
        return
    known = [organisation.id for organisation in service.services.store.organisations()]
    org_id = settings.organisation if settings.organisation in known else known[0]
    base = (settings.public_url or urls[0]).rstrip("/")
    # On stdout and nowhere else: who reads it becomes the controller.
    click.echo("Nobody has an account yet. This link works once; with it you create the first one, within 7 days:")
    click.echo(f"  {base}/invitation/{people.first_link(org_id).secret}")
