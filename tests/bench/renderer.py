"""Labelled pictures a second that one core renders, over all kinds of scenes; the people are dressed beforehand.

CPU time of the one thread, so that other work on the machine disturbs less. Needs HEADROOM_DATA (CC0 assets).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

from models.training.render import CAST, SIZE, Studio
from models.training.scenes.layouts import LAYOUTS, compose
from models.training.scenes.picture import render


def main(argv: list[str] | None = None) -> int:
    """Print one JSON line for all scenes, and with ``--long`` one a kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long", action="store_true")
    long = parser.parse_args(argv).long
    data = os.environ.get("HEADROOM_DATA")
    if not data:
        print("HEADROOM_DATA names no folder with the CC0 assets: nothing measured", file=sys.stderr)
        return 0
    studio = Studio(Path(data), 1)
    studio.picture(0)  # compiles
    rates: dict[str, list[float]] = {}
    for kind in LAYOUTS:
        for k in range(10 if long else 3):
            rng = np.random.default_rng([3, k])
            scene = compose(rng, SIZE, studio.backdrops, CAST, kind)
            for placed in scene.people:
                studio.cast.get(placed.character)
            begin = time.thread_time()
            render(scene, studio.cast, studio.backdrops)
            rates.setdefault(kind, []).append(time.thread_time() - begin)
    spent = [s for group in rates.values() for s in group]
    lines = [("rendered pictures a second of one core, 512x320", len(spent) / sum(spent))]
    if long:
        lines += [(f"rendered pictures a second, {kind}", len(group) / sum(group)) for kind, group in rates.items()]
    for name, value in lines:
        print(
            json.dumps(
                {
                    "name": name,
                    "value": round(value, 2),
                    "unit": "pictures/s",
                    "peer": None,
                    "peer_value": None,
                    "ratio": None,
                }
            )
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
