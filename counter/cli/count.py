"""``headroom count``: count the people in a video, camera or stream."""

from __future__ import annotations

import json
import logging
import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any

import click
from click.core import ParameterSource
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from counter.cli._shared import fail, friendly_source, quiet_codecs
from counter.detector import DetectorError
from counter.offline import Summary, Viewer, count_source
from counter.outputs import OutputError, RecordSink, Sinks, open_sink
from counter.pipeline import PeopleCounter
from counter.preview import Painter
from counter.preview_writer import PreviewSink, open_preview
from counter.scene import MaskPainter, Scene, SceneError, line_from_text, load_scene, parse_scene, zone_from_text
from counter.sources import FrameSource, SourceError
from counter.spool_sink import SpoolSink
from uplink.messages import SENSOR_ID_PATTERN


@click.command(
    epilog="""\b
Examples:
  headroom count video.mp4
  headroom count video.mp4 --line door=0.1,0.6,0.9,0.6 --out counts.csv --preview out.mp4
  headroom count lecture.mp4 --mode room --start 2026-03-02T09:00:00+01:00 --interval 300
  headroom count rtsp://camera.local/stream --scene hall.toml --max-seconds 3600 --out hall.jsonl
  headroom count pictures/ --fps 2 --json
  headroom count lecture.mp4 --start 2026-03-02T09:00:00+01:00 --send
"""
)
@click.argument("source")
@click.option(
    "--line",
    "lines",
    multiple=True,
    metavar="[NAME=]X1,Y1,X2,Y2",
    help="Door line, 0 to 1; crossing it from "
    "its left to its right hand side, seen from its start, is `entered`. May be repeated.",
)
@click.option(
    "--zone",
    "zones",
    multiple=True,
    metavar="[NAME=]X1,Y1,X2,Y2,X3,Y3...",
    help="Polygon in which people are present. May be repeated; without zones the whole view counts.",
)
@click.option("--scene", "scene_file", type=click.Path(dir_okay=False), help="Scene file; see 'headroom scene'.")
@click.option("--model", help="Name ('headroom models list') or path of an ONNX file.")
@click.option("--mode", type=click.Choice(["door", "room"]), help="People walk (door, the default) or sit (room).")
@click.option("--min-score", type=click.FloatRange(0.05, 0.95), help="Least score of a person; default: the model's.")
@click.option("--interval", type=click.IntRange(1, 3600), default=60, show_default=True, help="Seconds of a record.")
@click.option(
    "--out", "outs", multiple=True, type=click.Path(), help="Records as .csv, .jsonl or .parquet. May be repeated."
)
@click.option(
    "--preview",
    "previews",
    multiple=True,
    type=click.Path(),
    help="Annotated .mp4, .webm (plays in web "
    "browsers), .avi, .gif (first 30 s) or .png (nine moments). Writes pictures to disk. May be repeated.",
)
@click.option(
    "--preview-pixelate/--no-preview-pixelate",
    default=True,
    show_default=True,
    help="Make detected people unrecognisable in the preview.",
)
@click.option("--sensor-id", default="camera", show_default=True, help="Name of the sensor in the records.")
@click.option(
    "--start",
    help="When a recording began, with its zone: 2026-03-02T09:00:00+01:00. "
    "Without it, records count from 1970-01-01T00:00:00Z.",
)
@click.option(
    "--fps", type=click.FloatRange(min=0.01), help="Pictures per second of a folder, wished rate of a camera."
)
@click.option("--max-seconds", type=click.FloatRange(min=0, min_open=True), help="Stop after this much of the source.")
@click.option("--allow-cut", is_flag=True, help="Count what can be read of a recording that breaks off.")
@click.option(
    "--send", is_flag=True, help="Send the records to the service, through this sensor's sealed spool. Needs enrolment."
)
@click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="HEADROOM_STATE",
    show_envvar=True,
    help="State folder of the enrolled sensor, for --send.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def count(
    source: str,
    lines: tuple[str, ...],
    zones: tuple[str, ...],
    scene_file: str | None,
    model: str | None,
    mode: str | None,
    min_score: float | None,
    interval: int,
    outs: tuple[str, ...],
    previews: tuple[str, ...],
    preview_pixelate: bool,
    sensor_id: str,
    start: str | None,
    fps: float | None,
    max_seconds: float | None,
    allow_cut: bool,
    send: bool,
    state: Path | None,
    as_json: bool,
) -> None:
    """Count the people in SOURCE and those who cross its lines.

    SOURCE is a video file or GIF, a folder of pictures or a MOTChallenge sequence, a camera number or /dev/video0, an
    address (rtsp://, http://), or a GStreamer pipeline. Frames stay in memory; only --preview writes pictures.
    """
    console = Console(stderr=True)
    _set_up(console)
    if not re.fullmatch(SENSOR_ID_PATTERN, sensor_id):
        raise click.BadParameter(
            f"{sensor_id!r} must be lower-case letters, digits and hyphens, at most 63", param_hint="--sensor-id"
        )
    began = _start(start)
    scene = _scene(scene_file, lines, zones, mode, min_score)
    with ExitStack() as stack:
        stack.enter_context(_terminable())
        opened = stack.enter_context(friendly_source(source, fps=fps, strict=not allow_cut))
        if opened.live and began is not None:
            raise click.BadParameter("a live source has its own clock; --start is for recordings", param_hint="--start")
        if send and not opened.live and began is None:
            raise click.BadParameter("--send needs to know when the recording began", param_hint="--start")
        spool = _spool_sink(send, state, sensor_id)
        sensor_id = spool.sensor_id if spool else sensor_id
        sinks = stack.enter_context(_all_or_nothing(_record_sinks(outs, spool)))
        pictures = stack.enter_context(_preview_sinks(previews, opened))
        counter = _counter(scene, model, interval, sensor_id, began)
        viewer = None
        if pictures:
            viewer = Viewer(Painter(scene.lines, scene.zones, pixelate=preview_pixelate), pictures)
        progress = stack.enter_context(_Display(console, opened, max_seconds, hidden=as_json))
        try:
            summary = count_source(
                opened,
                counter,
                sink=sinks,
                masks=MaskPainter(scene.masks) if scene.masks else None,
                viewer=viewer,
                max_seconds=max_seconds,
                on_frame=progress.update,
            )
            sinks.commit()
            for picture in pictures:
                picture.commit()
        except SourceError as error:
            raise fail(error) from error
        except (OutputError, DetectorError, OSError) as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt:
            console.print("Interrupted: nothing was written.")
            raise SystemExit(130) from None
    if as_json:
        click.echo(json.dumps(summary.as_json()))
    else:
        _print_summary(Console(), summary, [*outs, *previews])
        if spool is not None:
            waits = f"; {spool.waiting} wait: headroom sensor send" if spool.waiting else ", all delivered"
            Console().print(f"sent as {sensor_id}{waits}", highlight=False, soft_wrap=True)


def _set_up(console: Console) -> None:
    quiet_codecs()
    if not logging.getLogger().handlers:
        handler = RichHandler(console=console, show_time=False, show_path=False)
        logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does: a camera's counts are written, a recording's half is not."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _start(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is not a time; write 2026-03-02T09:00:00+01:00", param_hint="--start"
        ) from None
    if value.tzinfo is None:
        raise click.BadParameter(f"{text!r} has no zone; add Z for UTC, or +01:00", param_hint="--start")
    return value


def _scene(
    file: str | None, lines: tuple[str, ...], zones: tuple[str, ...], mode: str | None, min_score: float | None
) -> Scene:
    """The scene file with the options of the command line on top."""
    try:
        scene = load_scene(file) if file is not None else Scene()
        data = scene.model_dump(mode="json", exclude_none=True)
        where = "command line" if file is None else f"{file} with the command line"
        data["lines"] += [line_from_text(text, i + len(scene.lines)) for i, text in enumerate(lines)]
        data["zones"] += [zone_from_text(text, i + len(scene.zones)) for i, text in enumerate(zones)]
        data |= {key: value for key, value in (("mode", mode), ("min_score", min_score)) if value is not None}
        return parse_scene(data, where)
    except SceneError as error:
        raise click.UsageError(str(error)) from error


def _counter(scene: Scene, model: str | None, interval: int, sensor_id: str, began: datetime | None) -> PeopleCounter:
    try:
        return PeopleCounter(
            model,
            scene.counting_lines(),
            scene.counting_zones(),
            scene.mode,
            threshold=scene.min_score,
            interval=interval,
            sensor_id=sensor_id,
            start=began,
        )
    except DetectorError as error:
        raise click.BadParameter(str(error), param_hint="--model") from error
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _spool_sink(send: bool, state: Path | None, sensor_id: str) -> SpoolSink | None:
    """The spool of the enrolled sensor; its records bear the sensor's own name."""
    if not send:
        return None
    try:
        sink = SpoolSink(state)
    except OutputError as error:
        raise click.UsageError(str(error)) from error
    given = click.get_current_context().get_parameter_source("sensor_id")
    if given is ParameterSource.COMMANDLINE and sensor_id != sink.sensor_id:
        sink.abort()
        raise click.BadParameter(f"this sensor is enrolled as {sink.sensor_id!r}", param_hint="--sensor-id")
    return sink


def _record_sinks(outs: tuple[str, ...], spool: SpoolSink | None) -> Iterator[RecordSink]:
    """Everything that takes records."""
    if spool is not None:
        yield spool
    for out in outs:
        yield open_sink(out)


@contextmanager
def _all_or_nothing(opening: Iterator[RecordSink]) -> Iterator[Sinks]:
    """The sinks as one, aborted when anything fails before they are committed."""
    opened: list[RecordSink] = []
    try:
        opened.extend(opening)
    except OutputError as error:
        Sinks(opened).abort()
        raise click.UsageError(str(error)) from error
    sinks = Sinks(opened)
    try:
        yield sinks
    finally:
        sinks.abort()  # does nothing for what has been committed


@contextmanager
def _preview_sinks(paths: tuple[str, ...], source: FrameSource) -> Iterator[list[PreviewSink]]:
    opened: list[PreviewSink] = []
    try:
        opened.extend(open_preview(path, source.fps) for path in paths)
        yield opened
    except OutputError as error:
        raise click.UsageError(str(error)) from error
    finally:
        for sink in opened:
            sink.abort()  # does nothing for what has been committed


class _Display:
    """Progress on stderr: frames a second, people now, in and out."""

    def __init__(self, console: Console, source: FrameSource, max_seconds: float | None, *, hidden: bool) -> None:
        known = source.frame_count is not None or max_seconds is not None
        columns: list[Any] = [SpinnerColumn(), TextColumn("{task.description}")]
        columns += [BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeRemainingColumn()] if known else []
        columns += [TimeElapsedColumn(), TextColumn("{task.fields[state]}")]
        self._progress = Progress(*columns, console=console, disable=hidden or not console.is_terminal, transient=True)
        self._frames = source.frame_count
        self._seconds = max_seconds
        self._task = self._progress.add_task(source.name, total=1.0 if known else None, state="")

    def __enter__(self) -> _Display:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, summary: Summary) -> None:
        shares = [summary.frames / self._frames] if self._frames else []
        shares += [summary.seconds / self._seconds] if self._seconds else []
        flow = f"  in {summary.totals.entered}  out {summary.totals.left}" if summary.totals.per_line else ""
        self._progress.update(
            self._task,
            completed=min(1.0, max(shares, default=0.0)),
            state=f"{summary.fps:.0f} frames/s  people now {summary.present_final}{flow}",
        )


def _print_summary(console: Console, summary: Summary, written: list[str]) -> None:
    table = Table(title=f"{summary.source}: {summary.seconds:.1f} s, {summary.frames} frames", title_justify="left")
    table.add_column("")
    table.add_column("entered", justify="right")
    table.add_column("left", justify="right")
    table.add_column("present at the end", justify="right")
    table.add_column("most", justify="right")
    table.add_column("mean", justify="right")
    flow = [str(summary.totals.entered), str(summary.totals.left)] if summary.totals.per_line else ["–", "–"]
    mean = "–" if summary.present_mean is None else f"{summary.present_mean:.2f}"
    table.add_row("total", *flow, str(summary.present_final), str(summary.present_max), mean, style="bold")
    if len(summary.totals.per_line) > 1:
        for name, (entered, left) in summary.totals.per_line.items():
            table.add_row(f"line {name}", str(entered), str(left))
    for name, present in summary.zones.items():
        table.add_row(f"zone {name}", "", "", str(present))
    console.print(table)
    console.print(
        f"{summary.fps:.0f} frames/s with {summary.model} ({summary.mode}); the network ran on {summary.inferred} of "
        f"{summary.frames} frames; {len(summary.records)} records",
        highlight=False,
    )
    for path in written:
        console.print(f"wrote {Path(path)}", highlight=False, soft_wrap=True)
