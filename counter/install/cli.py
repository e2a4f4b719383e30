"""``headroom sensor install``."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import click
from rich.console import Console

from counter.install.plan import InstallError, Step, obstacles, plan_install, plan_removal, still_missing
from counter.install.units import DEFAULT_STATE, DEFAULT_USER, Place, UnitError, files


@click.command(
    epilog="""\b
Examples:
  headroom sensor install                      (shows what it would do, and changes nothing)
  sudo headroom sensor install --apply
  headroom sensor install --show | less        (the units themselves)
  headroom sensor install --root ./image --apply --program /opt/headroom/bin/headroom
  sudo headroom sensor install --remove --apply"""
)
@click.option("--apply", "do", is_flag=True, help="Do it. Without, only the steps are shown.")
@click.option("--show", is_flag=True, help="Print the files that would be written.")
@click.option("--remove", is_flag=True, help="The way back: stop and remove the units. The state folder stays.")
@click.option("--no-start", is_flag=True, help="Enable the sensor for the next boot, but do not start it now.")
@click.option(
    "--root",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("/"),
    help="Prepare an image: write beneath this folder, start nothing.",
)
@click.option("--program", type=click.Path(path_type=Path), help="The headroom program. Default: this one.")
@click.option(
    "--state",
    envvar="HEADROOM_STATE",
    show_envvar=True,
    type=click.Path(file_okay=False, path_type=Path),
    default=DEFAULT_STATE,
    show_default=True,
    help="State folder.",
)
@click.option("--user", default=DEFAULT_USER, show_default=True, help="System user that the sensor runs as.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
def install(
    do: bool,
    show: bool,
    remove: bool,
    no_start: bool,
    root: Path,
    program: Path | None,
    state: Path,
    user: str,
    as_json: bool,
) -> None:
    """Make the sensor a service of this board.

    Writes two systemd units (the sensor, and its tunnel) with a narrow sandbox, makes a system user without a password
    or shell, and starts both. Safe to repeat: what is so already stays. --apply ends with 1, and changes nothing, when
    something stands in the way.
    """
    root = root.absolute()
    try:
        place = Place(program.absolute() if program else _this_program(), state, user)
    except UnitError as error:
        raise click.UsageError(str(error)) from None
    if show:
        for path, text in files(place).items():
            click.echo(f"# {path}\n{text}")
        return
    try:
        steps = plan_removal(place, root) if remove else plan_install(place, root, start=not no_start)
    except OSError as error:
        raise click.ClickException(f"{root}: {error.strerror}") from None
    wrong, missing = list(obstacles(place, root)), list(still_missing(place, root))
    if do and wrong:
        raise click.ClickException("\n".join(wrong))
    done = _perform(steps) if do else []
    if as_json:
        document = {
            "applied": do,
            "obstacles": wrong,
            "missing": [] if remove else missing,
            "steps": [{"step": step.words, "needed": step.needed, "done": step in done} for step in steps],
        }
        click.echo(json.dumps(document))
        return
    _tell(steps, wrong, do=do)
    if not remove and missing:
        click.echo(f"The sensor starts once it has what it needs: {', '.join(missing)}; then repeat this command.")
    elif do and not remove and root == Path("/"):
        click.echo("Next: headroom sensor status, and journalctl -u headroom-sensor -f")


def _this_program() -> Path:
    """The program beside this interpreter: found again after an update, whatever PATH is then."""
    beside = Path(sys.prefix) / "bin" / "headroom"
    found = shutil.which("headroom")
    return beside if beside.exists() or found is None else Path(found).resolve()


def _perform(steps: list[Step]) -> list[Step]:
    done = []
    for step in steps:
        if step.needed:
            try:
                step.do()
            except InstallError as error:
                raise click.ClickException(f"{error}\nWhat went before is done; repeat the command to go on.") from None
            done.append(step)
    return done


def _tell(steps: list[Step], wrong: list[str], *, do: bool) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for step in steps:
        mark = "so already" if not step.needed else "done" if do else "would"
        console.print(f"  {mark:>10}  {step.words}", markup=False)
    if not do:
        for reason in wrong:
            console.print(f"[yellow]In the way:[/] {reason}")
        console.print("Nothing was changed. --apply does it, --show prints the files.")
