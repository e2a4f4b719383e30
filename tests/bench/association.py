"""Association alone: milliseconds per frame of the tracker with people who walk among each other, on one core.

CPU time of the one thread. Every frame is timed in several equal runs and the least of them is its time: other work on
the machine only ever adds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import numpy as np

from counter.tracker import Tracker
from counter.types import Detections

WIDTH, HEIGHT, FPS = 1280.0, 720.0, 15.0


class Crowd:
    """People of about 60x150 pixels who walk to and fro and whom a detector sees with noise and misses."""

    def __init__(self, people: int, seed: int = 0, miss: float = 0.1) -> None:
        self._rng = np.random.default_rng(seed)
        self._miss = miss
        self._centre = self._rng.uniform((100, 100), (WIDTH - 100, HEIGHT - 100), (people, 2))
        self._velocity = self._rng.normal(0.0, 90.0, (people, 2))
        self._size = self._rng.uniform((45, 120), (75, 180), (people, 2))

    def step(self) -> Detections:
        """The detections of the next frame."""
        self._centre += self._velocity / FPS
        outside = (self._centre < 80) | (self._centre > np.array((WIDTH, HEIGHT)) - 80)
        self._velocity[outside] *= -1.0
        self._centre = np.clip(self._centre, 80, np.array((WIDTH, HEIGHT)) - 80)
        seen = self._rng.random(len(self._centre)) >= self._miss
        noise = self._rng.normal(0.0, 2.0, (int(seen.sum()), 4))
        half = self._size[seen] / 2
        boxes = np.concatenate((self._centre[seen] - half, self._centre[seen] + half), axis=1) + noise
        scores = self._rng.uniform(0.3, 0.95, len(boxes))
        return Detections(boxes.astype(np.float32), scores.astype(np.float32))


def milliseconds(people: int, frames: int, runs: int) -> list[float]:
    """Time of each frame, the least of all runs."""
    crowd = Crowd(people)
    detections = [crowd.step() for _ in range(frames)]
    least = [float("inf")] * frames
    for _ in range(runs):
        tracker = Tracker()
        for i, found in enumerate(detections):
            begin = time.thread_time()
            tracker.update(found, i / FPS, int(WIDTH), int(HEIGHT))
            least[i] = min(least[i], (time.thread_time() - begin) * 1e3)
    return least[frames // 10 :]


def main(argv: list[str] | None = None) -> int:
    """Print one JSON line per crowd."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long", action="store_true")
    frames, runs = (10_000, 10) if parser.parse_args(argv).long else (1_000, 5)
    for people in (5, 20, 50):
        times = milliseconds(people, frames, runs)
        for name, value in (("median", statistics.median(times)), ("p95", statistics.quantiles(times, n=20)[-1])):
            line = {
                "name": f"association {people} tracks {name}",
                "value": round(value, 4),
                "unit": "ms/frame",
                "peer": "goal at 20 tracks",
                "peer_value": 0.3,
                "ratio": round(value / 0.3, 3),
            }
            print(json.dumps(line), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
