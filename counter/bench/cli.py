"""``headroom bench``: how well people are counted, on video with truth."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from counter.bench.dataset import Clip, DatasetError, load_dataset
from counter.bench.evaluate import Score, score, together
from counter.bench.systems import TRACKERS, PeerError, System, parse_system
from counter.detector import DetectorError, cpu_model
from counter.sources import SourceError

PEERS = Path(".venv-peers/bin/python")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("datasets", nargs=-1, required=True, metavar="DATASET...", type=click.Path(path_type=Path))
@click.option("--model", help="Name in the registry or path of an ONNX file; default: the default of the clip's mode.")
@click.option(
    "--compare",
    multiple=True,
    metavar="MODEL[+TRACKER]",
    help=f"Run this too, in turn, on the same frames; may be given again. Trackers: {', '.join(TRACKERS)}.",
)
@click.option(
    "--interval", type=click.FloatRange(0.1, 86_400), default=60.0, show_default=True, help="Seconds of an interval."
)
@click.option("--clip", "names", multiple=True, help="Only clips of this name; may be given again.")
@click.option("--threads", type=click.IntRange(1, 64), help="Threads of one inference; default: the CPUs, at most 4.")
@click.option(
    "--peers",
    type=click.Path(path_type=Path),
    help="Python with trackers and supervision; default: $HEADROOM_PEERS, or .venv-peers, which make bench creates.",
)
@click.option("--html", "html_path", type=click.Path(dir_okay=False, path_type=Path), help="Write a page with charts.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout and nothing else.")
def bench(
    datasets: tuple[Path, ...], model: str | None, compare: tuple[str, ...], interval: float, names: tuple[str, ...],
    threads: int | None, peers: Path | None, html_path: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Measure counting and tracking accuracy on video with truth.

    A DATASET is a MOTChallenge sequence, a folder of such, or a manifest (TOML or JSON) that names clips, lines, zones,
    and the true events and presence.

    \b
    Examples:
      headroom bench MOT17/train/MOT17-09-FRCNN
      headroom bench footage.toml --interval 10 --html report.html
      headroom bench footage.toml --model rtmdet-nano --compare rtmdet-nano+bytetrack --compare yolox-nano --json
    """
    if html_path is not None:
        _check_html(html_path)
    clips = _clips(datasets, names)
    peers = peers or Path(os.environ.get("HEADROOM_PEERS") or PEERS)
    try:
        systems = [parse_system(text, peers, threads) for text in (model or "", *compare)]
    except PeerError as error:
        raise click.UsageError(str(error)) from error
    if len({system.name for system in systems}) < len(systems):
        raise click.UsageError("--compare: the same system is named twice")
    try:
        scores = _run_all(clips, systems, interval, quiet=as_json)
    except (DetectorError, SourceError) as error:
        usage = isinstance(error, DetectorError) or error.usage
        raise (click.UsageError(str(error)) if usage else click.ClickException(str(error))) from error
    except PeerError as error:
        raise click.ClickException(str(error)) from error
    shown = scores + ([together([s for s in scores if s.system == x.name]) for x in systems] if len(clips) > 1 else [])
    title = f"headroom bench: {', '.join(path.name for path in datasets)}"
    if html_path is not None:
        from counter.bench.report import write_html

        write_html(html_path, shown, interval, title)
    if as_json:
        click.echo(json.dumps(_document(shown, interval, systems), indent=2))
    else:
        from counter.bench.report import ACCURACY, SPEED, legend, table

        console = Console()
        if not console.is_terminal:  # a file or a pipe has no width: let no column be cut
            console = Console(width=140)
        for headings in (ACCURACY, SPEED):
            console.print(table(shown, headings))
            console.print()
        console.print(legend(interval), style="dim", highlight=False)
        if html_path is not None:
            console.print(f"Charts: {html_path}", highlight=False)


def _check_html(path: Path) -> None:
    try:
        importlib.metadata.version("plotly")
    except importlib.metadata.PackageNotFoundError:
        raise click.UsageError("--html needs the package plotly: pip install 'headroom[bench]'") from None
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise click.BadParameter(
            f"{path}: the folder {path.parent} is not there or cannot be written", param_hint="--html"
        )


def _clips(datasets: Sequence[Path], names: Sequence[str]) -> list[Clip]:
    try:
        clips = [clip for path in datasets for clip in load_dataset(path)]
    except DatasetError as error:
        raise click.UsageError(str(error)) from error
    except OSError as error:
        raise click.UsageError(f"{error.filename}: cannot be read: {error.strerror}") from error
    if names:
        unknown = set(names) - {clip.name for clip in clips}
        if unknown:
            known = ", ".join(clip.name for clip in clips)
            raise click.BadParameter(
                f"{sorted(unknown)[0]!r} is no clip of the dataset; it has {known}", param_hint="--clip"
            )
        clips = [clip for clip in clips if clip.name in names]
    return clips


def _run_all(clips: Sequence[Clip], systems: Sequence[System], interval: float, *, quiet: bool) -> list[Score]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
               TextColumn("{task.fields[rate]}"))  # fmt: skip
    scores = []
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=quiet) as bar:
        for clip in clips:
            for system in systems:
                task = bar.add_task(f"{clip.name}: {system.name}", total=None, rate="")

                def step(task: Any = task) -> None:
                    speed = bar.tasks[-1].finished_speed or bar.tasks[-1].speed
                    bar.update(task, advance=1, rate=f"{speed:.0f} frames/s" if speed else "")

                run = system.run(clip, step)
                bar.remove_task(task)
                if not len(run.times):
                    raise click.ClickException(f"clip {clip.name!r}: {clip.source} has no frames")
                scores.append(score(clip, run, interval))
    return scores


def _document(scores: Sequence[Score], interval: float, systems: Sequence[System]) -> dict[str, Any]:
    return {
        "interval_seconds": interval,
        "systems": [system.name for system in systems],
        "machine": {"cpu": cpu_model(), "cores": os.cpu_count(), "python": platform.python_version(),
                    "onnxruntime": importlib.metadata.version("onnxruntime")},
        "scores": [one.as_dict() for one in scores],
    }  # fmt: skip
