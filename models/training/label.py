"""``python -m models.training.label``: pseudo-labels of the open clips, as a shard for training."""

from __future__ import annotations

from pathlib import Path

import click

from .data.real import TRAIN_CLIPS, Teacher, pseudo_labelled
from .data.shards import Shards, write_shard


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--data",
    envvar="HEADROOM_DATA",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with footage/ and teachers/; default: $HEADROOM_DATA.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the shard.")
@click.option(
    "--teacher", default="rtmdet_nano_person_320.onnx", show_default=True, help="File in teachers/ (Apache-2.0)."
)
def main(data: Path, out: Path, teacher: str) -> None:
    """Label the CC BY clips that may be trained on.

    \b
    Example: python -m models.training.label --out runs/real
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / "real.npz"
    write_shard(path, pseudo_labelled(data / "footage", Teacher(data / "teachers" / teacher)), quality=95)
    click.echo(f"{path}: {len(Shards([path]))} frames of {len(TRAIN_CLIPS)} clips")


if __name__ == "__main__":
    main()
