"""``make demo``: count people in a real video and leave counts, an annotated preview and a summary in ``.demo/``.

The clip comes from the folder that HEADROOM_DATA names, else from its public address with a pinned sha256
(``counter/clips.toml``), else the project's own rendered clip serves, and the demo says so.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from rich.console import Console

ROOT = Path(__file__).resolve().parent.parent
CLIPS = ROOT / "counter" / "clips.toml"
RENDERED = ROOT / "tests" / "clips"
_TIMEOUT = (10, 30)


class ClipError(Exception):
    """A clip cannot be had; the message says why."""


@dataclass(frozen=True)
class Clip:
    """One entry of ``clips.toml``."""

    name: str
    file: str
    url: str
    bytes: int
    sha256: str
    licence: str
    attribution: str
    truth: str
    scene: str = ""
    lines: tuple[str, ...] = ()


def read_clips(path: Path = CLIPS) -> dict[str, Clip]:
    """The clips that the demo knows, by name."""
    entries: list[dict[str, Any]] = tomllib.loads(path.read_text(encoding="utf-8"))["clips"]
    return {entry["name"]: Clip(**entry) for entry in entries}


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_clip(clip: Clip, folder: Path, data: str | None) -> Path:
    """The clip from the data folder, from an earlier download, or from its public address.

    Args:
        folder: where downloads are kept.
        data: value of HEADROOM_DATA.

    Raises:
        ClipError: it is in none of these places.
    """
    if data:
        local = Path(data) / "footage" / clip.file
        if local.is_file() and sha256_of(local) == clip.sha256:
            return local
    kept = folder / clip.file
    if kept.is_file() and sha256_of(kept) == clip.sha256:
        return kept
    return download(clip, kept)


def download(clip: Clip, target: Path) -> Path:
    """Fetch a clip; nothing but exactly the named file is ever kept.

    Raises:
        ClipError: no answer, a refusal, or another file than the one named.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    digest, size = hashlib.sha256(), 0
    try:
        with requests.get(clip.url, stream=True, timeout=_TIMEOUT) as answer, part.open("wb") as file:
            if answer.status_code != 200:
                raise ClipError(f"{clip.url} answered {answer.status_code} {answer.reason}")
            for chunk in answer.iter_content(1 << 16):
                size += len(chunk)
                if size > clip.bytes:
                    raise ClipError(f"{clip.url} is longer than the {clip.bytes} bytes it should have")
                digest.update(chunk)
                file.write(chunk)
        if digest.hexdigest() != clip.sha256:
            raise ClipError(f"{clip.url} is not the clip it should be: {size} bytes, sha256 {digest.hexdigest()}")
        part.replace(target)
    except requests.RequestException as error:
        raise ClipError(f"{clip.url} could not be fetched ({type(error).__name__})") from error
    except OSError as error:
        raise ClipError(f"{target} could not be written: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
    return target


def rendered_clip(folder: Path = RENDERED) -> Clip | None:
    """The project's own clip as a fallback: nobody in it is real."""
    for video in sorted(folder.glob("*door*rendered*.mp4")) + sorted(folder.glob("*rendered*.mp4")):
        truth = video.with_suffix(".json")
        facts = json.loads(truth.read_text(encoding="utf-8")) if truth.is_file() else {}
        lines = tuple(
            f"{x['name']}=" + ",".join(f"{v:g}" for v in (*x["start"], *x["end"])) for x in facts.get("lines", [])
        )
        crossings = [x["direction"] for x in facts.get("crossings", [])]
        said = f"{crossings.count('entered')} entered, {crossings.count('left')} left" if crossings else ""
        return Clip(video.stem, str(video), "", 0, "", "Apache-2.0", "rendered by this project", said, "", lines)
    return None


def choose(console: Console, clip: Clip, folder: Path, data: str | None) -> tuple[Clip, Path]:
    """The real clip, or the rendered one with the reason said.

    Raises:
        ClipError: there is neither.
    """
    try:
        path = find_clip(clip, folder, data)
    except ClipError as error:
        console.print(f"[yellow]The real clip cannot be had:[/yellow] {error}.", highlight=False, soft_wrap=True)
        fallback = rendered_clip()
        if fallback is None:
            raise ClipError(
                "there is no rendered clip in tests/clips either: set HEADROOM_DATA, or go online"
            ) from error
        console.print("Using the project's own [bold]rendered[/bold] clip instead: nobody in it is real.\n")
        return fallback, Path(fallback.file)
    console.print(f"Clip: {path.name} ({clip.licence}; {clip.attribution})\n", highlight=False, soft_wrap=True)
    return clip, path


def ready_model(console: Console) -> None:
    """Fetch the default model where it neither ships nor lies on this machine.

    Raises:
        Exception: whatever the registry says.
    """
    from counter import _models

    registry = _models.load("registry")
    try:
        registry.resolve(None, "door")
    except registry.ModelError:
        name = registry.registry().defaults["door"]
        console.print(f"Fetching the model {name} ...")
        _models.load("pull").pull(name, registry.registry().entry(name))
        registry.resolve(None, "door")


def count_clip(clip: Clip, path: Path, folder: Path) -> int:
    """Run ``headroom count`` as a user would; returns its exit code."""
    import headroom

    args = ["count", str(path), "--out", str(folder / "counts.csv"), "--preview", str(folder / "preview.mp4")]
    args += ["--preview", str(folder / "preview.png"), "--sensor-id", "demo", "--interval", "10"]
    if clip.scene:
        args += ["--scene", str(ROOT / clip.scene)]
    for line in clip.lines:
        args += ["--line", line]
    try:
        headroom.cli(args, prog_name="headroom")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(".demo"), help="where the results go")
    folder: Path = parser.parse_args(argv).folder
    console = Console()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("HEADROOM_CACHE", str((folder / "cache").resolve()))
    try:
        clip, path = choose(console, read_clips()["one-by-one"], folder / "clips", os.environ.get("HEADROOM_DATA"))
        ready_model(console)
    except Exception as error:  # the demo ends with a sentence, whatever is missing
        console.print(f"[red]The demo cannot run:[/red] {error}", highlight=False, soft_wrap=True)
        return 1
    code = count_clip(clip, path, folder)
    if code:
        return code
    console.print("\n[bold]Look at[/bold]")
    console.print(
        f"  {folder / 'counts.csv'}    one record every 10 s: present, entered, left, coverage",
        highlight=False,
        soft_wrap=True,
    )
    console.print(
        f"  {folder / 'preview.mp4'}   lines, people (pixelated) and totals, for a video player",
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"  {folder / 'preview.png'}   nine moments of it on one picture", highlight=False, soft_wrap=True)
    if clip.truth:
        console.print(f"Counted by hand or known from rendering: {clip.truth}.", highlight=False, soft_wrap=True)
    console.print("Then try your own: headroom scene VIDEO, and headroom count VIDEO --scene scene.toml")
    return 0


if __name__ == "__main__":
    sys.exit(main())
