"""``python -m models.training.curve``: how accuracy grew with training, as points in a file and as a picture."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from . import options
from .data.mix import shards_in
from .data.shards import Shards
from .evaluate import Model, evaluate
from .export import export, read_checkpoint, without_teacher

Point = dict[str, Any]
WIDTH, HEIGHT, LEFT, BOTTOM = 760, 360, 60, 46
SERIES: tuple[tuple[str, str, Callable[[Point], float]], ...] = (
    ("meeting rooms: recall at 5 % empty-room alarms", "#c2541b",
     lambda p: p["linto_at_5%_alarms"]["top"]["value"]),
    ("meeting rooms: AP by top-centre point", "#2a8a4a", lambda p: p["linto"]["ap_top"]),
    ("meeting rooms: AP50", "#8fce9f", lambda p: p["linto"]["ap50"]),
    ("held-out renderings: AP by top-centre point", "#6fb1e0", lambda p: p["held_out"]["all"]["ap_top"]),
    ("held-out renderings: AP50", "#1f6fb2", lambda p: p["held_out"]["all"]["ap50"]),
    ("class room: error in people of four", "#7b4fa3", lambda p: p["classroom"]["mae"] / 4),
)  # fmt: skip


def look(checkpoint: Path, data: Path, held: Shards, step: int) -> Point:
    """A point of the curve: all viewpoints with a checkpoint's averaged weights."""
    import torch

    seen = int(torch.load(checkpoint, map_location="cpu", weights_only=True)["seen"])
    with tempfile.TemporaryDirectory() as folder:
        weights = without_teacher(read_checkpoint(checkpoint))
        files = export(weights, Path(folder), {"door": 0.05, "room": 0.05})
        return {"seen": seen, **evaluate(Model(files["door"]["fp32"]), data, held, step)}


def drawing(points: list[Point]) -> str:
    """The points as SVG: shares over pictures seen, a line a viewpoint."""
    points = sorted(points, key=lambda p: int(p["seen"]))
    most = max(p["seen"] for p in points) * 1.02

    def x(seen: float) -> float:
        return LEFT + (WIDTH - LEFT - 20) * seen / most

    def y(share: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - 20) * min(share, 1.0)

    box = f'viewBox="0 0 {WIDTH} {HEIGHT + 64}" font-family="sans-serif" font-size="12"'
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} role="img" aria-label="Training curve">',
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]
    for tenth in range(0, 11, 2):
        level = y(tenth / 10)
        out += [
            f'<line x1="{LEFT}" x2="{WIDTH - 20}" y1="{level:.1f}" y2="{level:.1f}" stroke="#ddd"/>',
            f'<text x="{LEFT - 8}" y="{level + 4:.1f}" text-anchor="end" fill="#333">{tenth / 10:.1f}</text>',
        ]
    unit = 20_000 if most < 200_000 else 50_000
    for seen in range(0, int(most) + 1, unit):
        label = f"{seen // 1000} k"
        out.append(
            f'<text x="{x(seen):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle" fill="#333">{label}</text>'
        )
    middle = (LEFT + WIDTH - 20) / 2
    out.append(f'<text x="{middle}" y="{HEIGHT - BOTTOM + 36}" text-anchor="middle" fill="#333">pictures seen</text>')
    for k, (name, colour, value) in enumerate(SERIES):
        places = [(x(p["seen"]), y(value(p))) for p in points]
        line = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
        out.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{line}"/>')
        out += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3.2" fill="{colour}"/>' for a, b in places]
        left, top = LEFT + (k % 2) * 360, HEIGHT + 6 + (k // 2) * 18
        out.append(
            f'<line x1="{left}" x2="{left + 24}" y1="{top}" y2="{top}" stroke="{colour}" stroke-width="3"/>'
            f'<text x="{left + 30}" y="{top + 4}" fill="#333">{name}</text>'
        )
    return "\n".join([*out, "</svg>", ""])


@click.command(context_settings=options.HELP)
@click.argument("checkpoints", nargs=-1, type=options.FILE)
@options.data("benchmark/, footage/ and truth.json")
@options.held_out
@click.option(
    "--points", required=True, type=click.Path(path_type=Path), help="Points so far (.jsonl); new ones are added."
)
@click.option("--out", default=None, type=click.Path(path_type=Path), help="The .svg to draw.")
@click.option("--step", default=2, show_default=True, type=click.IntRange(1), help="Every so many pictures only.")
def main(
    checkpoints: tuple[Path, ...], data: Path, shards: Path, points: Path, out: Path | None, step: int
) -> None:  # fmt: skip
    """Look at checkpoints, in turn, and draw how accuracy grew.

    \b
    Example: python -m models.training.curve runs/a/last.pt runs/final/last.pt --held-out runs/held \\
                 --points runs/points.jsonl --out docs/images/training-curve.svg
    """
    held = Shards(shards_in(shards))
    for checkpoint in checkpoints:
        point = look(checkpoint, data, held, step)
        with points.open("a", encoding="utf-8") as file:
            file.write(json.dumps(point) + "\n")
        click.echo(f"{checkpoint}: {point['seen']} pictures seen")
    known = [json.loads(line) for line in points.read_text(encoding="utf-8").splitlines()] if points.exists() else []
    if not known:
        raise click.UsageError("no points: name a checkpoint")
    if out is not None:
        temporary = out.with_suffix(".part")
        temporary.write_text(drawing(known), encoding="utf-8")
        os.replace(temporary, out)


if __name__ == "__main__":
    main()
