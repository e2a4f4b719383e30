"""``python -m models.training.calibrate``: the numbers that are fixed before any test picture is seen.

The threshold of each mode, and how much is added to the scores of the head that learned from the teacher, so that both
heads reach their own best threshold at the same score. Looked at for this: renderings that training has not seen and
empty views into the CC0 panoramas, nothing else.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from pathlib import Path

import click

from .data.mix import shards_in
from .data.shards import Shards
from .evaluate import Model, fixed_threshold
from .export import State, export, of_teacher, read_checkpoint, with_teacher, without_teacher
from .viewpoints import held_out

_ALL = {"door": 0.05, "room": 0.05}  # low enough to see every score that could become the threshold


def _threshold(state: State, mode: str, data: Path, shards: Shards, count: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        find = Model(export(state, Path(folder), _ALL)[mode]["fp32"])
        return float(fixed_threshold(find, held_out(find, shards, count)["all"], data))


def _logit(p: float) -> float:
    return math.log(p / (1 - p))


def calibrate(state: State, data: Path, shards: Shards) -> dict[str, float | None]:
    """``door`` and ``room``: thresholds; ``lift``: see :func:`with_teacher`, None without such a head."""
    lift, heads = None, without_teacher(state)
    if "copies.score.0.weight" in state:
        own, copied = (_threshold(s, "door", data, shards, 160) for s in (heads, of_teacher(state)))
        lift = round(_logit(own) - _logit(copied), 3)
        heads = with_teacher(state, lift)
    return {
        "door": round(_threshold(heads, "door", data, shards, 160), 2),
        "room": round(_threshold(heads, "room", data, shards, 80), 2),
        "lift": lift,
    }


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--checkpoint",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="last.pt of training, or the small .npz that ships.",
)
@click.option(
    "--held-out",
    "shards",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Rendered shards of a seed that training has not seen.",
)
@click.option(
    "--data",
    envvar="HEADROOM_DATA",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with backgrounds/ (CC0); default: $HEADROOM_DATA.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The .json to write.")
def main(checkpoint: Path, shards: Path, data: Path, out: Path) -> None:
    """Fix thresholds, away from all test pictures.

    \b
    Example: python -m models.training.calibrate --checkpoint runs/final/last.pt --held-out runs/held \\
                 --out runs/calibration.json
    """
    text = json.dumps(calibrate(read_checkpoint(checkpoint), data, Shards(shards_in(shards))))
    temporary = out.with_suffix(".part")
    temporary.write_text(text + "\n", encoding="utf-8")
    os.replace(temporary, out)
    click.echo(text)


if __name__ == "__main__":
    main()
