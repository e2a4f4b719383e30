"""``python -m models.training.calibrate``: the numbers that are fixed before any test picture is seen.

The threshold of each mode. Looked at for this: renderings that training has not seen, with people and without, and
empty views into the CC0 panoramas, nothing else. What stands still crosses no line, but is present in a room all day
long: the room mode must not raise an alarm in more than 2 % of the rooms that are rendered empty, either.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import click

from . import options
from .data.mix import shards_in
from .data.shards import Shards
from .evaluate import Model, fixed_threshold
from .export import State, export, read_checkpoint, without_teacher
from .viewpoints import alarm_threshold, held_out, surest

ROOM_ALARMS = 0.02
_PICTURES = {"door": 160, "room": 80}
_EVERYTHING = 0.05  # low enough to see every score that could become the threshold


def calibrate(state: State, data: Path, shards: Shards, nobody: Shards) -> dict[str, float]:
    """The threshold of ``door`` and of ``room`` (see :func:`models.training.evaluate.fixed_threshold`).

    Args:
        shards: renderings that training has not seen.
        nobody: the same without people.
    """
    thresholds = {}
    with tempfile.TemporaryDirectory() as folder:
        files = export(without_teacher(state), Path(folder), dict.fromkeys(_PICTURES, _EVERYTHING))
        for mode, count in _PICTURES.items():
            find = Model(files[mode]["fp32"])
            fixed = fixed_threshold(find, held_out(find, shards, count)["all"], data)
            if mode == "room":
                alarms = [surest(find(nobody[k].image)) for k in range(len(nobody))]
                fixed = max(fixed, alarm_threshold(alarms, ROOM_ALARMS))
            thresholds[mode] = round(fixed, 2)
    return thresholds


@click.command(context_settings=options.HELP)
@options.checkpoint
@options.held_out
@click.option(
    "--nobody",
    required=True,
    type=options.FOLDER,
    help="Rendered shards without people (models.training.render --nobody) of such a seed.",
)
@options.data("backgrounds/ (CC0)")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The .json to write.")
def main(checkpoint: Path, shards: Path, nobody: Path, data: Path, out: Path) -> None:
    """Fix thresholds, away from all test pictures.

    \b
    Example: python -m models.training.calibrate --checkpoint runs/final/last.pt --held-out runs/held \\
                 --nobody runs/nobody --out runs/calibration.json
    """
    text = json.dumps(calibrate(read_checkpoint(checkpoint), data, *(Shards(shards_in(f)) for f in (shards, nobody))))
    temporary = out.with_suffix(".part")
    temporary.write_text(text + "\n", encoding="utf-8")
    os.replace(temporary, out)
    click.echo(text)


if __name__ == "__main__":
    main()
