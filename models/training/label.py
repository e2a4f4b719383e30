"""``python -m models.training.label``: pseudo-labels of the open clips, as a shard for training."""

from __future__ import annotations

from pathlib import Path

import click

from . import options
from .data.paste import cutouts, pasted
from .data.real import TRAIN_CLIPS, Teacher, empty_views, pseudo_labelled
from .data.shards import Shards, write_shard
from .scenes.picture import Backdrops


@click.command(context_settings=options.HELP)
@options.data("footage/, backgrounds/ and teachers/")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the shard.")
@click.option(
    "--teacher", default="rtmdet_nano_person_320.onnx", show_default=True, help="File in teachers/ (Apache-2.0)."
)
@click.option("--empty", default=900, show_default=True, type=click.IntRange(1), help="Views without people.")
@click.option("--seed", default=1, show_default=True, help="Of those views.")
@options.without
def main(data: Path, out: Path, teacher: str, empty: int, seed: int, without: tuple[str, ...]) -> None:
    """Label the CC BY clips that may be trained on, and cut views without people out of the CC0 panoramas.

    \b
    Example: python -m models.training.label --out runs/real
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / "real.npz"
    write_shard(path, pseudo_labelled(data / "footage", Teacher(data / "teachers" / teacher)), quality=95)
    click.echo(f"{path}: {len(Shards([path]))} frames of {len(TRAIN_CLIPS)} clips")
    panoramas = Backdrops(data / "backgrounds", without=without).panoramas
    write_shard(out / "empty.npz", empty_views(panoramas, empty, seed))
    click.echo(f"{out / 'empty.npz'}: {empty} views without people")
    views = Shards([out / "empty.npz"])
    rooms = [views[k].image for k in range(len(views))]
    write_shard(out / "pasted.npz", pasted(cutouts(Shards([path]), step=1), rooms, 2 * empty, seed), quality=95)
    click.echo(f"{out / 'pasted.npz'}: {2 * empty} pictures with real people in other rooms")


if __name__ == "__main__":
    main()
