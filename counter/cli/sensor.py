"""``headroom sensor run|init|check|status``, and by their own modules ``install`` and ``validate``."""

from __future__ import annotations

import importlib
import json
import logging
import signal
import threading
from pathlib import Path
from typing import Any

import click

from counter.agent.settings import SETTINGS_FILE, SensorSettings, SettingsError, load_settings
from uplink.identity import state_folder

log = logging.getLogger(__name__)

_OTHERS = {"install": "counter.install.cli", "validate": "counter.validation.cli"}

__all__ = ["check", "init", "run", "status"]


def __getattr__(name: str) -> Any:
    """`install` and `validate` load when they are asked for."""
    if name in _OTHERS:
        return getattr(importlib.import_module(_OTHERS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


_config = click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="HEADROOM_SENSOR_CONFIG",
    show_envvar=True,
    help=f"Settings. Default: {SETTINGS_FILE} in the state folder, else /etc/headroom/{SETTINGS_FILE}.",
)
_state = click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="HEADROOM_STATE",
    show_envvar=True,
    help="State folder. Default: /var/lib/headroom for root, ~/.local/state/headroom otherwise.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout and nothing else.")


def settings_path(config: Path | None, state: Path) -> Path:
    """Where the settings are: as named, else in the state folder, else in /etc."""
    if config is not None:
        return config
    inside, system = state / SETTINGS_FILE, Path("/etc/headroom") / SETTINGS_FILE
    return system if system.exists() and not inside.exists() else inside


def load(config: Path | None, state: Path) -> SensorSettings:
    """The settings, with errors as the command line says them."""
    try:
        return load_settings(settings_path(config, state))
    except SettingsError as error:
        raise click.UsageError(str(error)) from None


@click.command(
    epilog="""\b
Examples:
  headroom sensor run
  headroom sensor run --config sensor.toml --dry-run | jq .     (prints the records, sends nothing, needs no enrolment)
  headroom sensor run --strict                                  (refuses to run when a privacy lock does not hold)
"""
)
@_config
@_state
@click.option("--strict", is_flag=True, help="Refuse to run when a lock of the privacy promise does not hold.")
@click.option("--dry-run", is_flag=True, help="Print each record as a line of JSON instead of spooling and sending it.")
@click.option("--unlocked", is_flag=True, help="Leave the privacy locks off, on a developer's desk. Said in the log.")
@click.option("-v", "--verbose", is_flag=True, help="Log more.")
def run(config: Path | None, state: Path | None, strict: bool, dry_run: bool, unlocked: bool, verbose: bool) -> None:
    """Capture, count, spool and send, until stopped.

    One process for all cameras of the board. Cameras and links that fail are tried again for ever. SIGTERM or Ctrl-C
    ends it within 5 s, with the interval that has begun recorded.
    """
    from counter.agent.starting import start
    from counter.agent.supervisor import Agent
    from counter.agent.systemd import set_up_logging
    from counter.care import run_with_care
    from counter.cli._shared import quiet_codecs

    set_up_logging(verbose=verbose)
    quiet_codecs()
    folder = state_folder(state)
    settings = load(config, folder)

    def begin(chosen: SensorSettings) -> Agent:
        return start(
            chosen,
            settings_path(config, folder),
            folder,
            strict=strict or settings.strict,
            dry_run=dry_run,
            unlocked=unlocked,
        )

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if dry_run:
        begin(settings).run(stop)
    else:
        run_with_care(begin, settings, folder, stop)


@click.command(
    epilog="""\b
Examples:
  headroom sensor init --camera /dev/video0 --zone Europe/Amsterdam
  headroom sensor init --camera rtsp://user:password@192.0.2.7/stream --scene door.toml --out sensor.toml
"""
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Default: in the state folder.")
@_state
@click.option("--camera", default="/dev/video0", show_default=True, help="The camera: see `source` in the file.")
@click.option("--zone", help="Time zone of the site, e.g. Europe/Amsterdam. Default: this machine's.")
@click.option("--scene", type=click.Path(dir_okay=False), help="Scene file of the camera.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def init(out: Path | None, state: Path | None, camera: str, zone: str | None, scene: str | None, force: bool) -> None:
    """Write a commented sensor.toml."""
    from counter.agent.settings import parse_settings
    from counter.agent.template import local_zone, render
    from uplink.keyfiles import write_atomic

    target = out or state_folder(state) / SETTINGS_FILE
    if target.exists() and not force:
        raise click.UsageError(f"{target} is there already; --force replaces it")
    text = render(camera, zone or local_zone(), scene)
    try:
        parse_settings(text, "options", target.parent)
    except SettingsError as error:
        hint = ""
        if scene is not None and Path(scene).exists() and not (target.parent / scene).exists():
            hint = f". It is looked for beside {target}: copy it there (cp {scene} {target.parent}/)"
        raise click.UsageError(f"{error}{hint}") from None
    try:
        write_atomic(target, text.encode())
    except OSError as error:
        raise click.ClickException(f"{target}: cannot be written: {error.strerror}") from None
    where = f" --config {target}" if out else f" --state {state}" if state is not None else ""
    click.echo(f"wrote {target}. Next: headroom sensor check{where}")


@click.command(
    epilog="""\b
Examples:
  headroom sensor check
  headroom sensor check --config sensor.toml --json | jq '.[] | select(.state != "ok")'
"""
)
@_config
@_state
@_json
def check(config: Path | None, state: Path | None, as_json: bool) -> None:
    """Test camera, model, tunnel and service, and say what is wrong and what to do.

    Ends with 0 when everything is well or a warning, with 1 when something fails, with 2 when the settings cannot be
    used. Pictures are looked at in memory and overwritten.
    """
    from counter.agent.checks import check_all
    from counter.cli._sensor_tables import print_checks
    from counter.cli._shared import quiet_codecs

    quiet_codecs()
    folder = state_folder(state)
    settings = load(config, folder)
    cameras = logging.getLogger("counter.sources")
    level = cameras.level
    cameras.setLevel(logging.ERROR)  # what it would say is in what is found
    try:
        found = check_all(settings, folder)
    finally:
        cameras.setLevel(level)
    if as_json:
        click.echo(json.dumps([item.as_json() for item in found], indent=2))
    else:
        print_checks(found)
    if any(item.state == "fail" for item in found):
        raise click.exceptions.Exit(1)


@click.command(
    epilog="""\b
Examples:
  headroom sensor status
  headroom sensor status --json | jq '.cameras[].health'
  headroom sensor status --strict || systemctl restart headroom-sensor
"""
)
@_state
@_json
@click.option("--strict", is_flag=True, help="End with 1 when anything is not as it should be.")
def status(state: Path | None, as_json: bool, strict: bool) -> None:
    """Show locks, spool, tunnel, health and cameras of the running sensor.

    Ends with 1 when no sensor is running here, and with --strict when anything is not as it should be.
    """
    from counter.agent.summary import faults_of, read_status
    from counter.cli._sensor_tables import print_status

    folder = state_folder(state)
    try:
        document = read_status(folder)
    except PermissionError:
        raise click.ClickException(f"{folder}: the sensor runs as another user; use sudo") from None
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{folder}: the sensor does not answer ({error}); restart it") from None
    faults = faults_of(document)
    if as_json:
        click.echo(json.dumps(document | {"faults": faults}, indent=2))
    else:
        print_status(document, faults)
    if not document["running"] or (strict and faults):
        raise click.exceptions.Exit(1)
