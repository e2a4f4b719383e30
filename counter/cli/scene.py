"""``headroom scene``: draw lines and zones on a still picture in the browser."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import click
import numpy as np
from rich.console import Console

from counter.cli._shared import fail, friendly_source, quiet_codecs
from counter.scene import Scene, SceneError, load_scene
from counter.scene_page.server import ScenePage
from counter.sources import FrameSource, LiveSource, SourceError
from counter.types import Frame


@click.command(
    epilog="""\b
Examples:
  headroom scene video.mp4
  headroom scene rtsp://camera.local/stream --out hall.toml
  headroom scene 0 --no-browser --port 8123     (then: ssh -L 8123:127.0.0.1:8123 sensor)
"""
)
@click.argument("source")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("scene.toml"),
    show_default=True,
    help="Scene file to write; when it exists, it is where drawing begins.",
)
@click.option("--at", type=click.FloatRange(min=0), default=1.0, show_default=True, help="Second of the still picture.")
@click.option("--fps", type=click.FloatRange(min=0.01), help="Pictures per second of a folder of pictures.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port on 127.0.0.1; 0 takes a free one.")
@click.option("--no-browser", is_flag=True, help="Only print the address.")
def scene(source: str, out: Path, at: float, fps: float | None, port: int, no_browser: bool) -> None:
    """Draw lines and zones on a still of SOURCE and save them as a scene file.

    The page runs on this machine alone (127.0.0.1, behind a random address); the still is kept in memory and is gone
    when the page is closed.
    """
    console = Console(stderr=True)
    quiet_codecs()
    try:
        start = load_scene(out) if out.exists() else Scene()
    except SceneError as error:
        raise click.BadParameter(str(error), param_hint="--out") from error
    if not out.parent.is_dir():
        raise click.BadParameter(f"there is no folder {str(out.parent)!r}; create it first", param_hint="--out")
    with friendly_source(source, fps=fps) as opened:
        try:
            still = grab_still(opened, at)
        except SourceError as error:
            raise fail(error) from error
    try:
        page = ScenePage(still, out, start, source=opened.name, port=port)
    except OSError as error:
        raise click.BadParameter(f"{port} cannot be used: {error.strerror}", param_hint="--port") from error
    still.fill(0)
    console.print(
        f"Draw at [bold]{page.url}[/bold]\nSave writes {out}; Ctrl-C or Close ends.", highlight=False, soft_wrap=True
    )
    if not no_browser and not webbrowser.open(page.url):
        console.print("No browser could be opened: open the address above yourself.")
    try:
        while not page.done.wait(0.5):
            pass
    except KeyboardInterrupt:
        pass
    finally:
        page.close()
    if page.saved.is_set():
        console.print(
            f"Saved [bold]{out}[/bold]. Next: headroom count {source} --scene {out}", highlight=False, soft_wrap=True
        )
    else:
        console.print("Nothing was saved.")


def grab_still(source: FrameSource, at: float, patience: float = 15.0) -> Frame:
    """A copy of the frame at second ``at`` (of the last one before, where the recording is shorter).

    Raises:
        SourceError: there is no frame.
    """
    if isinstance(source, LiveSource):
        deadline = source.clock() + patience
        still = None
        while still is None and source.clock() < deadline:
            still = source.read(0.5)
        if still is None:
            raise SourceError(
                "SOURCE", source.name, f"no picture within {patience:g} s ({source.failure or 'no answer'})"
            )
        return still.frame.copy()
    last: Frame | None = None
    for item in source:
        if last is None:
            last = np.empty_like(item.frame)
        np.copyto(last, item.frame)
        if item.t >= at:
            break
    assert last is not None  # a source without frames has raised
    return last
