"""``make demo``: count people in a real video, then show the whole product with the portal.

First counts, an annotated preview and a summary are left in ``.demo/``; then ``headroom demo`` plays the same clip
through an enrolled sensor into a service with a simulated term. Where nobody sits at the terminal it opens every page
once and ends.

The clip comes from the folder that HEADROOM_DATA names, else from its public address with a pinned sha256
(``analytics/demo/clips.toml``), else the project's own rendered clip serves, and the demo says so.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from rich.console import Console

from analytics.demo.footage import Clip, ClipError, download, find_clip, read_clips

__all__ = ["Clip", "ClipError", "choose", "download", "find_clip", "main", "read_clips", "rendered_clip"]

ROOT = Path(__file__).resolve().parent.parent
RENDERED = ROOT / "tests" / "clips"


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


def count_clip(clip: Clip, path: Path, folder: Path) -> int:
    """Run ``headroom count`` as a user would; returns its exit code."""
    args = ["count", str(path), "--out", str(folder / "counts.csv"), "--preview", str(folder / "preview.mp4")]
    args += ["--preview", str(folder / "preview.png"), "--sensor-id", "demo", "--interval", "10"]
    return run([*args, *what_to_count(clip)])


def what_to_count(clip: Clip) -> list[str]:
    """The clip's scene or lines, as options."""
    scene = ["--scene", clip.scene] if clip.scene else []
    return [*scene, *(part for line in clip.lines for part in ("--line", line))]


def show_portal(clip: Clip, path: Path, folder: Path, *, once: bool) -> int:
    """Run ``headroom demo`` with the clip; returns its exit code."""
    args = ["demo", "--folder", str(folder), "--video", str(path), *what_to_count(clip)]
    return run([*args, "--once"] if once else args)


def run(args: list[str]) -> int:
    """Run the program in this process; returns its exit code."""
    import headroom

    try:
        headroom.cli(args, prog_name="headroom")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(".demo"), help="where the results go")
    parser.add_argument("--once", action="store_true", help="open every page once and end; so without a terminal")
    given = parser.parse_args(argv)
    folder: Path = given.folder
    console = Console()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("HEADROOM_CACHE", str((folder / "cache").resolve()))
    try:
        clip, path = choose(console, read_clips()["one-by-one"], folder / "clips", os.environ.get("HEADROOM_DATA"))
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
    console.print(
        "Then try your own: headroom scene VIDEO, and headroom count VIDEO --scene scene.toml\n", soft_wrap=True
    )
    console.rule("The whole: sensor, service, portal")
    return show_portal(clip, path, folder, once=given.once or not (sys.stdin.isatty() and sys.stdout.isatty()))


if __name__ == "__main__":
    sys.exit(main())
