"""``python -m models.training.evaluate``: accuracy per viewpoint, the same code for every model."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from models.optimise import session

from . import options
from .data.mix import shards_in
from .data.real import empty_views
from .data.shards import Shards
from .matching import Matcher
from .scenes.picture import KEPT, Backdrops
from .viewpoints import (
    F32,
    U8,
    Find,
    Rate,
    alarm_threshold,
    best_f1,
    classroom,
    empty_scores,
    held_out,
    linto,
    linto_whole,
    one_by_one,
    surest,
    wisenet,
)


class Model:
    """An optimised file as a function from frames to people, with the time it takes."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        self.session = session(path, threads)
        self.seconds: list[float] = []

    def __call__(self, frame: U8) -> F32:
        start = time.perf_counter()
        found = self.session.run(None, {"frame": frame[None]})[0]
        self.seconds.append(time.perf_counter() - start)
        return np.asarray(found, np.float32)


def evaluate(find: Find, data: Path, shards: Shards, step: int = 1, threshold: float | None = None) -> dict[str, Any]:
    """All viewpoints.

    Args:
        shards: renderings that training has not seen; the threshold is fixed on them.
        step: look at every ``step``-th picture or frame only.
        threshold: use this one instead.
    """
    renderings = held_out(find, shards, max(len(shards) // step, 100))
    fixed = fixed_threshold(find, renderings["all"], data) if threshold is None else threshold
    result: dict[str, Any] = {"threshold": round(fixed, 3)}
    result["held_out"] = {name: m.summary() for name, m in sorted(renderings.items())}
    bench = data / "benchmark"
    empty = empty_scores(find, bench / "empty_rooms", step)
    views = linto(find, bench / "linto_panoramic", step)
    for share in (0.05, 0.1):
        at = alarm_threshold(empty, share)
        result[f"linto_at_{share:.0%}_alarms"] = {
            "threshold": round(at, 3),
            "top": _recall(views, "top", at),
            "iou": _recall(views, "iou", at),
        }
    result["linto"] = views.summary() | {
        "recall_top": _recall(views, "top", fixed),
        "precision_top": round(views.precision("top", fixed), 4),
    }
    whole = linto_whole(find, bench / "linto_panoramic", step)
    result["linto_whole"] = whole.summary() | {
        "recall_top": _recall(whole, "top", fixed),
        "precision_top": round(whole.precision("top", fixed), 4),
    }
    result["empty_alarms"] = Rate(sum(s >= fixed for s in empty), len(empty)).as_dict()
    mean, error = classroom(find, data, fixed)
    result["classroom"] = {"mean": round(mean, 3), "mae": round(error, 3)}
    exact, presence = one_by_one(find, data, fixed, 4 * step)
    result["one_by_one"] = {"count": exact.as_dict(), "presence": presence.as_dict()}
    result["wisenet"] = {"presence": wisenet(find, data, fixed, 4 * step).as_dict()}
    return result


def fixed_threshold(find: Find, renderings: Matcher, data: Path, views: int = 105) -> float:
    """The one threshold of a model, fixed away from all test pictures.

    The best F1 (by point) on held-out renderings, but not so low that more than 5 % of views without people into the
    photographed interior that training does not see raise an alarm.
    """
    backdrops = Backdrops(data / "backgrounds")
    kept = [p for name, p in zip(backdrops.names, backdrops.panoramas, strict=True) if name in KEPT]
    alarms = [surest(find(sample.image)) for sample in empty_views(kept or backdrops.panoramas, views, seed=2)]
    return max(best_f1(renderings), alarm_threshold(alarms))


def _recall(matcher: Matcher, rule: str, threshold: float) -> dict[str, Any]:
    hits = sum(ok for score, ok in matcher.records[rule] if score >= threshold)
    return Rate(hits, matcher.people).as_dict()


@click.command(context_settings=options.HELP)
@click.argument("models", nargs=-1, required=True, type=options.FILE)
@options.data("benchmark/, footage/ and truth.json")
@options.held_out
@click.option("--step", default=1, show_default=True, type=click.IntRange(1), help="Every so many pictures only.")
@click.option(
    "--threshold", default=None, type=click.FloatRange(0.05, 0.99), help="Instead of the one fixed on the renderings."
)
def main(models: tuple[Path, ...], data: Path, shards: Path, step: int, threshold: float | None) -> None:
    """Evaluate optimised files (headroom models optimise) and print one JSON line each.

    \b
    Example: python -m models.training.evaluate models/weights/headroom-person-door.onnx \\
                 yolox-door.onnx --held-out runs/held
    """
    pictures = Shards(shards_in(shards))
    for path in models:
        model = Model(path)
        result = evaluate(model, data, pictures, step, threshold)
        result = {"model": path.name, **result, "median_ms": round(float(np.median(model.seconds)) * 1e3, 2)}
        click.echo(json.dumps(result))


if __name__ == "__main__":
    main()
