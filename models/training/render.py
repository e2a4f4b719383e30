"""``python -m models.training.render``: labelled pictures of people in rooms, deterministic per seed."""

from __future__ import annotations

import time
from collections.abc import Container, Sequence
from dataclasses import astuple
from pathlib import Path

import click
import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from . import options
from .data.shards import COLUMNS, Sample, write_shard
from .scenes.assets import Assets
from .scenes.catalogue import Catalogue
from .scenes.clips import door_clip, room_clip, write_clip
from .scenes.layouts import LAYOUTS, compose
from .scenes.people import Cast
from .scenes.picture import Backdrops, Person, Picture, render

CAST = 400
SIZE = (512, 320)


def label_row(person: Person) -> tuple[float, ...]:
    """One person as a row of ``shards.COLUMNS``."""
    identity, box, head, visible, in_frame, pixels, _ = astuple(person)
    return (identity, *box, *head, visible, in_frame, pixels)


def to_sample(picture: Picture) -> Sample:
    rows = [label_row(p) for p in picture.people]
    return Sample(picture.image, np.array(rows, np.float32).reshape(-1, len(COLUMNS)), picture.kind)


class Studio:
    """Renders picture ``k`` of production ``seed``, always the same one."""

    def __init__(
        self, data: Path, seed: int, size: tuple[int, int] = SIZE, kind: str = "", supersample: float = 1.5,
        nobody: bool = False, catalogue: Sequence[Path] = (), without: Container[str] = (),
    ) -> None:  # fmt: skip
        self.cast = Cast(Assets(data / "makehuman"), seed, CAST)
        self.backdrops = Backdrops(data / "backgrounds", Catalogue(catalogue) if catalogue else None, without)
        self.seed, self.size, self.kind, self.supersample = seed, size, kind, supersample
        self.nobody = nobody

    def picture(self, k: int) -> Picture:
        rng = np.random.default_rng([self.seed, 12 if self.nobody else 11, k])
        # people come in batches, so that not everybody has to be dressed for every picture
        scene = compose(rng, self.size, self.backdrops, CAST, self.kind)
        if self.nobody:
            scene.people.clear()
        return render(scene, self.cast, self.backdrops, self.supersample)


@click.command(context_settings=options.HELP)
@options.data("makehuman/ and backgrounds/ (CC0)")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the shards.")
@click.option("--pictures", default=1000, show_default=True, type=click.IntRange(1), help="How many pictures.")
@click.option("--first", default=0, show_default=True, type=click.IntRange(0), help="Number of the first shard.")
@click.option("--shard", default=250, show_default=True, type=click.IntRange(1), help="Pictures a shard.")
@click.option("--seed", default=1, show_default=True, help="Same seed, same bytes.")
@click.option("--kind", default="", type=click.Choice(["", *LAYOUTS]), help="Only this kind of scene.")
@click.option("--nobody", is_flag=True, help="The same kinds of scenes, but everybody has gone home.")
@click.option(
    "--catalogue",
    default=None,
    type=options.FOLDER,
    help="Folder with furniture libraries (*.sh3f; Debian: sweethome3d-furniture), mixed into the rooms.",
)
@options.without
@click.option(
    "--clip",
    default="",
    type=click.Choice(["", "door", "room"]),
    help="A clip with truth instead: --out names the .mp4.",
)
@click.option("--width", default=SIZE[0], show_default=True, type=click.IntRange(64, 4096))
@click.option("--height", default=SIZE[1], show_default=True, type=click.IntRange(64, 4096))
def main(
    data: Path,
    out: Path,
    pictures: int,
    first: int,
    shard: int,
    seed: int,
    kind: str,
    nobody: bool,
    catalogue: Path | None,
    without: tuple[str, ...],
    clip: str,
    width: int,
    height: int,
) -> None:
    """Render pictures into shards; shards that are there already are kept, so an interrupted run goes on.

    \b
    Example: python -m models.training.render --out runs/shards --pictures 5000 --seed 1
             python -m models.training.render --clip door --seed 5 --out door.mp4
    """
    if clip:
        studio = Studio(data, 1)
        make = door_clip if clip == "door" else room_clip
        truth = write_clip(out, make(seed, studio.backdrops, studio.cast), studio.cast, studio.backdrops)
        click.echo(
            f"{out}: {truth['frames']} frames, {len(truth['crossings'])} crossings, "
            f"at most {truth['max_present']} present"
        )
        return
    out.mkdir(parents=True, exist_ok=True)
    libraries = sorted(catalogue.glob("*.sh3f")) if catalogue is not None else []
    if catalogue is not None and not libraries:
        raise click.BadParameter(f"{catalogue}: no .sh3f in it", param_hint="--catalogue")
    studio = Studio(data, seed, (width, height), kind, nobody=nobody, catalogue=libraries, without=without)
    name = f"seed{seed}-{kind or 'all'}{'-nobody' if nobody else ''}"
    done, spent = 0, 0.0
    columns = (
        TextColumn("rendering"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.1f}/s"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        task = progress.add_task("", total=pictures, rate=0.0)
        for number in range(first, first + -(-pictures // shard)):
            path = out / f"{name}-{number:05d}.npz"
            size = min(shard, pictures - (number - first) * shard)
            if path.exists():
                progress.advance(task, size)
                continue
            samples = []
            for k in range(number * shard, number * shard + size):
                start = time.perf_counter()
                samples.append(to_sample(studio.picture(k)))
                spent += time.perf_counter() - start
                done += 1
                progress.update(task, advance=1, rate=done / spent)
            write_shard(path, samples)
    click.echo(
        f"{done} pictures rendered, {done / spent:.2f} pictures a second on this core" if done else "nothing to do"
    )


if __name__ == "__main__":
    main()
