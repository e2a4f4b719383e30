"""The one program of the product: ``headroom``.

Subcommands are loaded when they are called and not before, so that a sensor never imports the service's packages
and the service never imports OpenCV (docs/architecture.md).
"""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType
from typing import Any

import click

_SENSOR = "install the sensor part: pip install 'headroom[sensor]'"
_BENCH = "install the benchmark part: pip install 'headroom[sensor,bench]'"
_SERVICE = "install the service part: pip install 'headroom[service]'"

# name -> ("module:attribute", one-line help, what to install when an import fails) or a nested table.
Command = tuple[str, str, str]
COMMANDS: dict[str, Command | dict[str, Any]] = {
    "count": ("counter.cli.count:count", "Count people in a video, camera or stream.", _SENSOR),
    "scene": ("counter.cli.scene:scene", "Draw lines and zones on a still and save scene.toml.", _SENSOR),
    "bench": ("counter.bench.cli:bench", "Measure counting and tracking accuracy on video with truth.", _BENCH),
    "models": ("models.cli:models", "List, pull, verify and optimise detection models.", _SENSOR),
    "sensor": {
        "help": "Run, set up and look after a sensor.",
        "run": ("counter.cli.sensor:run", "Capture, count, spool and send, until stopped.", _SENSOR),
        "init": ("counter.cli.sensor:init", "Write a commented sensor.toml.", _SENSOR),
        "check": ("counter.cli.sensor:check", "Test camera, model, tunnel and service.", _SENSOR),
        "status": ("counter.cli.sensor:status", "Show locks, spool, tunnel and health.", _SENSOR),
        "install": ("counter.cli.sensor:install", "Install the systemd unit.", _SENSOR),
        "validate": ("counter.cli.sensor:validate", "Compare the sensor with a person counting by hand.", _SENSOR),
        "enrol": ("uplink.cli:enrol", "Turn a one-time code into an enrolled sensor.", ""),
        "send": ("uplink.cli:send", "Deliver what waits in the spool, once.", ""),
    },
    "tunnel": ("uplink.cli:tunnel", "Bring the WireGuard tunnel up or down, show its health.", ""),
    "serve": ("analytics.cli.serve:serve", "Run the service: ingest, API and portal.", _SERVICE),
    "service": ("analytics.cli.service:service", "Administer the service: sensors, keys, users.", _SERVICE),
    "timetable": ("analytics.cli.timetable:timetable", "Check and pull timetables.", _SERVICE),
    "room": ("analytics.cli.room:room", "Import and list rooms.", _SERVICE),
    "report": ("analytics.cli.report:report", "Planned beside measured, as a table in the terminal.", _SERVICE),
    "export": ("analytics.cli.export:export", "Write figures as CSV, Parquet or JSON.", _SERVICE),
    "demo": ("analytics.cli.demo:demo", "A whole organisation with a simulated term, and the portal.", _SERVICE),
}


class LazyGroup(click.Group):
    """A click group whose subcommands are imported when they are invoked.

    The listing (``--help``) shows the table's one-line help and imports nothing.
    """

    def __init__(self, table: dict[str, Command | dict[str, Any]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in self._table if name != "help"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self._table.get(cmd_name)
        if entry is None or cmd_name == "help":
            return None
        if isinstance(entry, dict):
            return LazyGroup(entry, name=cmd_name, help=str(entry.get("help", "")))
        target, _, hint = entry
        module_name, attribute = target.split(":")
        try:
            command = getattr(_load(module_name), attribute)
        except ModuleNotFoundError as error:
            missing = error.name or str(error)
            if missing.split(".")[0] in {"counter", "models", "uplink", "analytics", "timetable_adapters"}:
                raise click.ClickException(
                    f"'{cmd_name}' is not part of this version ({missing} is missing)"
                ) from error
            raise click.ClickException(f"'{cmd_name}' needs the package {missing!r}; {hint or 'install it'}") from error
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = []
        for name in self.list_commands(ctx):
            entry = self._table[name]
            rows.append((name, entry["help"] if isinstance(entry, dict) else entry[1]))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _load(module_name: str) -> ModuleType:
    """Import a module of ours; `models` by location, because a user's folder may hold a package of that name."""
    package, _, rest = module_name.partition(".")
    if package == "models":
        module: ModuleType = importlib.import_module("counter._models").load(rest)
        return module
    return importlib.import_module(module_name)


@click.group(
    cls=LazyGroup,
    table=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Try: headroom count video.mp4 --preview out.mp4",
)
@click.version_option(package_name="headroom", message="headroom %(version)s")
def cli() -> None:
    """Count people in rooms, in RAM only, and hold the counts against the timetable."""


def main() -> None:
    """Entry point. Exit code 2: usage and configuration; 1: a run that failed; 130: interrupted."""
    if sys.argv[1:3] == ["sensor", "run"]:
        # The locks confine one thread and begin the program anew where an import has started others.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        cli(prog_name="headroom")
    except BrokenPipeError:  # `headroom ... | head`
        sys.stderr.close()
        sys.exit(1)


if __name__ == "__main__":
    main()
