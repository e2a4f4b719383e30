"""``headroom models``: what there is, what is on this machine, and how to get and prepare more."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from . import pull as download
from .decoders import LAYOUTS, known_layouts
from .errors import ModelError
from .optimise import file_sha256, load, metadata, session
from .quantise import Frame, assess, quantise
from .registry import (
    MODES,
    WEIGHTS,
    Mode,
    ModelEntry,
    ResolvedModel,
    cache_folder,
    int8_path,
    looks_like_path,
    make_optimised,
    optimised_path,
    published_path,
    pulled_path,
    recipe_for_file,
    registry,
    resolve,
    stand_in_path,
)

P = ParamSpec("P")
R = TypeVar("R")

MODE = click.Choice(MODES)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout and nothing else.")


def _clear(command: Callable[P, R]) -> Callable[P, R]:
    """Turn a ModelError into the program's error: exit code 2 for what does not exist, 1 for what went wrong."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except ModelError as error:
            text = str(error)
            usage = "is not known" in text or "there is no such" in text
            raise (click.UsageError(text) if usage else click.ClickException(text)) from error

    return wrapped


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def models() -> None:
    """List, pull, verify and optimise detection models.

    \b
    Examples:
      headroom models list
      headroom models pull yolox-nano
      headroom count video.mp4 --model yolox-nano
    """


def _state(name: str, entry: ModelEntry) -> str:
    """Where the file of a model is on this machine."""
    if entry.ships:
        return "ships" if all((WEIGHTS / file).is_file() for file in entry.weights.values()) else "missing"
    if pulled_path(name).is_file():
        return "pulled"
    return "in HEADROOM_DATA" if stand_in_path(entry) else "not here"


@models.command("list")
@AS_JSON
@_clear
def list_models(as_json: bool) -> None:
    """List the models that can be named."""
    book = registry()
    rows = [
        {
            "name": name,
            "title": entry.title,
            "bytes": entry.bytes,
            "licence": entry.licence,
            "state": _state(name, entry),
            "default_for": [mode for mode in MODES if book.defaults[mode] == name],
            "note": entry.note,
        }
        for name, entry in book.models.items()
    ]
    if as_json:
        click.echo(json.dumps({"models": rows, "cache": str(cache_folder())}, indent=2))
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("name", "MB", "on this machine", "default for", "what"):
        table.add_column(title, justify="right" if title == "MB" else "left", no_wrap=title != "what")
    for row in rows:
        size = f"{row['bytes'] / 1e6:.1f}" if isinstance(row["bytes"], int) else ""
        default = ", ".join(mode for mode in MODES if book.defaults[mode] == row["name"])
        table.add_row(str(row["name"]), size, str(row["state"]), default, f"{row['title']}; {row['licence']}")
    console = Console()
    if not console.is_terminal:  # a file or a pipe has no width: let no column be folded
        console = Console(width=140)
    console.print(table)
    console.print(f"\nCache: {cache_folder()}. Fetch one: headroom models pull NAME", highlight=False)


def _described(model: ResolvedModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "path": str(model.path),
        "sha256": file_sha256(model.path),
        "precision": model.precision,
        "input_size": list(model.input_size),
        "threshold": model.threshold,
        "low_threshold": model.low_threshold,
        "alternatives": [_described(other) for other in model.alternatives],
    }


@models.command()
@click.argument("model")
@AS_JSON
@_clear
def info(model: str, as_json: bool) -> None:
    """Say everything about one model, named or given as a file.

    \b
    Examples:
      headroom models info rtmdet-nano
      headroom models info ./my-detector.onnx --json
    """
    facts: dict[str, Any] = {}
    if looks_like_path(model):
        facts["metadata"] = metadata(load(Path(model)))
    else:
        entry = registry().entry(model)
        facts = {"name": model, "state": _state(model, entry), **entry.model_dump(exclude_defaults=True)}
    if looks_like_path(model) or _state(model, registry().entry(model)) not in {"not here", "missing"}:
        facts["modes"] = {mode: _described(resolve(model, mode)) for mode in MODES}
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in facts.items():
        if key == "modes":
            for mode, data in value.items():
                width, height = data["input_size"]
                table.add_row(mode, f"{width}x{height}, threshold {data['threshold']:g}, {data['path']}")
        else:
            table.add_row(key, json.dumps(value) if isinstance(value, dict | list | tuple) else str(value))
    Console().print(table, highlight=False)


@models.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--url", help="Fetch from this mirror; length and checksum of the registry still hold.")
@click.option("--force", is_flag=True, help="Fetch again even when the file is here.")
@_clear
def pull(names: tuple[str, ...], url: str | None, force: bool) -> None:
    """Fetch models by name, check them and prepare them for this machine.

    A cut download is continued where it stopped. Where HEADROOM_DATA names a folder that holds the very file (equal
    SHA-256), that file is used and nothing is fetched.

    \b
    Examples:
      headroom models pull rtmdet-nano
      headroom models pull yolox-s --url https://mirror.example.org/yolox_s.onnx
    """
    if url and len(names) > 1:
        raise click.UsageError("--url: give one NAME with it")
    console = Console(stderr=True)
    for name in names:
        entry = registry().entry(name)
        if entry.ships:
            console.print(f"{name}: ships with headroom, nothing to fetch", highlight=False)
            continue
        stand_in = stand_in_path(entry)
        if pulled_path(name).is_file() and not force and file_sha256(pulled_path(name)) == entry.sha256:
            console.print(f"{name}: is here already, {pulled_path(name)}", highlight=False)
        elif stand_in is not None and not force and url is None:
            console.print(f"{name}: {stand_in} has the same SHA-256 and stands in for the download", highlight=False)
        else:
            path = _download(name, entry, url, console)
            console.print(f"{name}: {path}, {entry.bytes} bytes, SHA-256 as in the registry", highlight=False)
        for mode in MODES:
            width, height = resolve(name, mode).input_size
            console.print(f"{name}: ready for {mode} at {width}x{height}", highlight=False)


def _download(name: str, entry: ModelEntry, url: str | None, console: Console) -> Path:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(name, total=entry.bytes)
        return download.pull(
            name, entry, url=url, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )


@models.command()
@click.argument("names", nargs=-1, metavar="[NAME...]")
@AS_JSON
@_clear
def verify(names: tuple[str, ...], as_json: bool) -> None:
    """Check the models that are on this machine: checksum, structure, and one run on a grey frame.

    Ends with exit code 1 when one of them is damaged. Without NAME, all that are here.
    """
    book = registry()
    chosen = names or tuple(n for n, e in book.models.items() if _state(n, e) != "not here")
    results = []
    for name in chosen:
        entry = book.entry(name)
        try:
            for mode in MODES:
                _run_once(resolve(name, mode))
            results.append({"name": name, "ok": True, "state": _state(name, entry), "problem": ""})
        except ModelError as error:
            results.append({"name": name, "ok": False, "state": _state(name, entry), "problem": str(error)})
    if as_json:
        click.echo(json.dumps({"ok": all(r["ok"] for r in results), "models": results}, indent=2))
    else:
        for result in results:
            click.echo(f"{result['name']}: {'ok' if result['ok'] else result['problem']} ({result['state']})")
        if not results:
            click.echo("No model is on this machine. Fetch one: headroom models pull NAME")
    if not all(r["ok"] for r in results):
        raise click.exceptions.Exit(1)


def _run_once(model: ResolvedModel) -> None:
    try:
        rows = session(model.path).run(None, {"frame": np.full((1, 72, 128, 3), 114, np.uint8)})[0]
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"{model.path}: it does not run: {error}") from error
    if rows.ndim != 2 or rows.shape[1] != 6:
        raise ModelError(f"{model.path}: expected detections [N, 6], got {list(rows.shape)}")


class _Size(click.ParamType[tuple[int, int]]):
    name = "WxH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        try:
            width, height = (int(part) for part in str(value).lower().split("x"))
        except ValueError:
            self.fail(f"{value!r} is not a size such as 416x256", param, ctx)
        if any(side < 32 or side > 4096 or side % 32 for side in (width, height)):
            self.fail(f"{value!r}: width and height are multiples of 32, from 32 to 4096", param, ctx)
        return width, height


@models.command(
    epilog="Known layouts of outputs:\n\n\b\n" + known_layouts(),
    short_help="Turn a published detector into one file from frame to people.",
)
@click.argument("model")
@click.option("--mode", type=MODE, default="door", show_default=True, help="Which size and threshold to prepare for.")
@click.option("--size", type=_Size(), help="Input of the network; default 416x256 for door, 960x544 for room.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="File to write; default: the cache.")
@click.option("--layout", type=click.Choice(list(LAYOUTS)), help="How the outputs are arranged; default: detected.")
@click.option("--mean", type=float, nargs=3, help="Subtracted per channel, 0 to 255, in the network's channel order.")
@click.option("--std", type=float, nargs=3, help="Divided by per channel.")
@click.option("--rgb/--bgr", default=None, help="Channel order of the network.")
@click.option("--threshold", type=click.FloatRange(0.1, 1, max_open=True), help="Score from which a box is a person.")
@click.option("--int8", is_flag=True, help="Also make an int8 twin; kept only if faster here at one point of recall.")
@click.option(
    "--pictures",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of pictures like the camera's, for --int8: half calibrate, half compare.",
)
@_clear
def optimise(
    model: str, mode: Mode, size: tuple[int, int] | None, out: Path | None, layout: str | None,
    mean: tuple[float, float, float] | None, std: tuple[float, float, float] | None, rgb: bool | None,
    threshold: float | None, int8: bool, pictures: Path | None,
) -> None:  # fmt: skip
    """Put preparation, decoder and suppression into the graph of MODEL (a name or a file).

    The result takes a frame (uint8, [1, H, W, 3], BGR, any size) and gives people ([N, 6]: x1, y1, x2, y2 in
    pixels of the frame, score, 0).

    \b
    Examples:
      headroom models optimise yolox-nano --mode room
      headroom models optimise my.onnx --size 640x384 --mean 0 0 0 --std 255 255 255 --rgb --out my-people.onnx
      headroom models optimise rtmdet-nano --int8 --pictures stills/
    """
    if int8 and pictures is None:
        raise click.UsageError("--int8 needs --pictures: a folder with pictures like those of the camera")
    if looks_like_path(model):
        source = Path(model)
        name, recipe, usual = recipe_for_file(source, mode, layout)
    else:
        entry = registry().entry(model)
        if entry.ships:
            raise click.UsageError(f"{model}: it ships optimised; there is nothing to do")
        name, source, recipe, usual = model, published_path(model, entry), entry.recipe(mode), entry.sizes[mode]
    recipe = replace(
        recipe,
        layout=layout or recipe.layout,
        mean=mean or recipe.mean,
        std=std or recipe.std,
        rgb=recipe.rgb if rgb is None else rgb,
        threshold=threshold or recipe.threshold,
    )
    target = out or optimised_path(name, source, recipe, size or usual, mode)
    make_optimised(name, source, target, recipe, size or usual, mode)
    width, height = resolve(str(target), mode).input_size
    click.echo(f"{target}: {width}x{height}, threshold {recipe.threshold:g}")
    if size and (width, height) != size:
        click.echo(f"The network was exported for {width}x{height} and cannot be run at {size[0]}x{size[1]}.", err=True)
    if int8 and pictures is not None:
        _make_int8(target, pictures)


def _make_int8(path: Path, pictures: Path) -> None:
    frames = _read_pictures(pictures)
    twin = quantise(path, int8_path(path), frames[::2])
    verdict = assess(path, twin, frames[1::2])
    text = (f"fp32 {verdict.fp32_ms:.1f} ms, int8 {verdict.int8_ms:.1f} ms; of {verdict.people} people int8 finds "
            f"{verdict.recall:.1%}, and {1 - verdict.precision:.1%} of what it finds is new")  # fmt: skip
    if verdict.keep:
        click.echo(f"{twin}: kept. {text}")
    else:
        twin.unlink()
        click.echo(f"The int8 twin does not pay on this machine and was not kept. {text}")


def _read_pictures(folder: Path) -> list[Frame]:
    import cv2

    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in {".jpg", ".jpeg", ".png", ".webp", ".bmp"})
    read = (cv2.imread(str(path), cv2.IMREAD_COLOR) for path in paths[:256])
    frames = [np.asarray(picture, np.uint8) for picture in read if picture is not None]
    if len(frames) < 16:
        raise click.BadParameter(f"{folder}: {len(frames)} pictures that can be read; at least 16 are needed",
                                 param_hint="--pictures")  # fmt: skip
    return frames
