"""``headroom demo``."""

from __future__ import annotations

import json
import logging
import os
import time
import webbrowser
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from analytics.demo.campus import ORGANISATION, ROOM
from analytics.demo.check import Answer, CheckError
from analytics.demo.footage import DATA_VARIABLE, DEFAULT_CLIP, ClipError, find_clip, read_clips
from analytics.demo.run import Demo, DemoError, Options, Told
from analytics.demo.sensor import Counted, Footage, FootageError
from analytics.runtime import ListenError
from analytics.store.errors import StoreError
from uplink.keyfiles import KeyFileError


@click.command(
    epilog="""\b
Examples:
  headroom demo
  headroom demo --rooms 60 --weeks 12 --port 8400
  headroom demo --video lobby.mp4 --line door=0.1,0.6,0.9,0.6
  headroom demo --once --json            (no people about: start, open every page, end)"""
)
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), default=Path(".demo"), show_default=True,
              help="Where the demo lives. Its service in there is made anew each time.")  # fmt: skip
@click.option("--rooms", type=click.IntRange(1, 2000), default=24, show_default=True, help="Simulated rooms.")
@click.option("--weeks", type=click.IntRange(1, 52), default=8, show_default=True, help="Simulated weeks, up to today.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="TCP port on this machine. Default: a free one.")
@click.option("--video", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Count this instead.")
@click.option("--scene", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Its scene file.")
@click.option("--line", "lines", multiple=True, metavar="NAME=X1,Y1,X2,Y2", help="A door line in it; repeatable.")
@click.option("--no-footage", is_flag=True, help="Simulate only: the sensor part need not be installed.")
@click.option("--no-browser", is_flag=True, help="Print the link and open nothing.")
@click.option("--once", is_flag=True, help="Open every page once, say how they answered, and end.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout once all is ready.")
def demo(
    folder: Path,
    rooms: int,
    weeks: int,
    port: int,
    video: Path | None,
    scene: Path | None,
    lines: tuple[str, ...],
    no_footage: bool,
    no_browser: bool,
    once: bool,
    as_json: bool,
) -> None:
    """Show everything: a simulated term, one room counted from real footage, and the portal over both.

    The portal listens on this machine alone. A link that works once is printed; with it you create your account. Every
    page says that its data are simulated. The footage goes the whole way: a sensor is enrolled with a one-time code,
    the counter counts, and the sealed counts travel into the service. Ctrl-C ends it.
    """
    if (scene or lines) and video is None:
        raise click.UsageError("--scene and --line say what to count in --video; name the video too")
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    logging.basicConfig(
        level=logging.WARNING, format="%(message)s", handlers=[RichHandler(console=console, show_path=False)]
    )
    footage = None if no_footage else _footage(console, folder, video, scene, lines)
    screen = _Screen(console, rooms, as_json=as_json, once=once, browser=not (no_browser or once or as_json))
    if footage is not None:
        screen.says = footage.says
    try:
        with screen:
            Demo(Options(folder, rooms, weeks, port, once, footage), screen.told()).run()
    except (DemoError, CheckError, ListenError, StoreError, KeyFileError, OSError) as error:
        raise click.ClickException(str(error)) from None


def _footage(
    console: Console, folder: Path, video: Path | None, scene: Path | None, lines: tuple[str, ...]
) -> Footage | None:
    if video is not None:
        return Footage(video.absolute(), scene, lines)
    clip = read_clips()[DEFAULT_CLIP]
    try:
        path = find_clip(clip, folder / "clips", os.environ.get(DATA_VARIABLE))
    except ClipError as error:
        console.print(f"[yellow]No real footage:[/] {error}. Name a video of yours with --video.")
        return None
    says = f"{clip.file} ({clip.licence}; {clip.attribution}). Counted by hand: {clip.truth}."
    return Footage(path, Path(clip.scene) if clip.scene else None, clip.lines, says)


class _Screen:
    """What the person in front sees; stdout carries the link or, with --json, the document."""

    def __init__(self, console: Console, rooms: int, *, as_json: bool, once: bool, browser: bool) -> None:
        self._console = console
        self._as_json = as_json
        self._once = once
        self._browser = browser
        self._began = time.monotonic()
        self._document: dict[str, Any] = {"organisation": ORGANISATION, "rooms": rooms, "footage": None}
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._progress.add_task("simulating", total=rooms)
        self.says = ""

    def __enter__(self) -> _Screen:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def told(self) -> Told:
        return Told(self._step, lambda: self._progress.advance(self._task), self._listening, self._counted,
                    self._checked)  # fmt: skip

    def _step(self, text: str) -> None:
        self._progress.update(self._task, description=text)
        if not self._console.is_terminal:
            self._console.print(f"{text} ...")

    def _listening(self, url: str, link: str) -> None:
        self._document |= {"url": url, "link": link, "portal_seconds": round(time.monotonic() - self._began, 1)}
        self._progress.stop()
        if self._as_json:
            return
        self._console.print(f"The portal listens on {url}, after {self._document['portal_seconds']:.0f} s.")
        if self._once:
            return
        click.echo("This link works once; with it you create your account:")
        click.echo(f"  {link}")
        if self._browser and (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            webbrowser.open(link)

    def _counted(self, result: Counted | FootageError) -> None:
        if isinstance(result, FootageError):
            self._document["footage"] = {"problem": str(result)}
            self._console.print(f"[yellow]The footage was not counted:[/] {result}")
        else:
            self._document["footage"] = result.as_json()
            self._console.print(
                f"Counted {result.seconds:.0f} s of footage: {result.entered} entered, {result.left} left; "
                f"{result.records} records delivered, sealed and acknowledged. {self.says}"
            )
        if not self._once:
            self._ready()

    def _checked(self, answers: list[Answer]) -> None:
        self._document["pages"] = [
            {"path": a.path, "status": a.status, "milliseconds": round(a.milliseconds, 1)} for a in answers
        ]
        for answer in answers:
            self._console.print(f"  {answer.path}  {answer.milliseconds:.0f} ms")
        self._document.pop("link", None)  # used up
        self._console.print(f"{len(answers)} pages answered. Look yourself: headroom demo")
        self._ready()

    def _ready(self) -> None:
        self._document["ready_seconds"] = round(time.monotonic() - self._began, 1)
        if self._as_json:
            click.echo(json.dumps(self._document))
        elif not self._once:
            base = f"{self._document['url']}/o/{ORGANISATION}"
            self._console.print("Look at")
            for path, text in _SIGHTS:
                self._console.print(f"  {base}/{path}   {text}")
            self._console.print("Ctrl-C ends the demo.")


_SIGHTS = (
    ("now", "which rooms stand empty while booked"),
    ("overview", "planned against measured, with the coverage of every figure"),
    (f"rooms/{ROOM}", "the room that was counted from footage, and is again every five minutes"),
    ("bookings", "no-shows, and rooms that are too large for what happens in them"),
)
