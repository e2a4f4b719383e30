"""Memory of the counter over many frames: peak, and growth after the first tenth, with people who come and go for ever.

The network is the real one where it is on this machine, run on some frames only; everything else runs on every frame.
"""

from __future__ import annotations

import argparse
import json
import resource
from pathlib import Path

import numpy as np

from counter import Detections, Detector, Frame, PeopleCounter, Zone
from tests.bench.static_room import network

WIDTH, HEIGHT, FPS = 768, 432, 10.0
NETWORK_EVERY = 50


class PassersBy:
    """One to four people who walk from left to right and leave, new ones all the time; a real network now and then."""

    name = "passers-by"

    def __init__(self, inner: Detector) -> None:
        self._inner = inner
        self._n = 0

    def detect(self, frame: Frame) -> Detections:
        self._n += 1
        if self._n % NETWORK_EVERY == 0:
            self._inner.detect(frame)
        x = np.array([(self._n * 12 + k * 331) % (WIDTH + 200) - 100 for k in range(4)], np.float32)
        x = x[(x > 0) & (x < WIDTH - 60)]
        boxes = np.stack((x, np.full_like(x, 100), x + 60, np.full_like(x, 260)), axis=1)
        return Detections(boxes, np.full(len(x), 0.8, np.float32))


def resident() -> float:
    """Resident memory in MB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 1e6


def main(argv: list[str] | None = None) -> int:
    """Print one JSON line for the peak and one for the growth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--model")
    arguments = parser.parse_args(argv)
    frames = 100_000 if arguments.long else 5_000
    detector, name = network(arguments.model, "door")
    zone = Zone("room", ((0.2, 0.1), (0.9, 0.1), (0.9, 0.9), (0.2, 0.9)))
    counter = PeopleCounter(PassersBy(detector), lines=["0.5,0,0.5,1"], zones=[zone])
    frame = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    for _ in range(50):  # the allocator keeps what a few inferences need and no more from then on
        detector.detect(frame)
    settled, people = 0.0, 0
    for i in range(frames):
        people += len(counter.update(frame if i % 2 else frame[:, ::-1], i / FPS).crossings)
        if i + 1 == frames // 10:  # like the last frame one on which the network ran
            settled = resident()
        counter.records()
    growth = resident() - settled
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    what = f"{frames} frames, {people} crossings, {name}"
    for label, value, goal in (("peak memory", peak, 250.0), ("memory growth after the first tenth", growth, 5.0)):
        line = {
            "name": f"{label}, {what}",
            "value": round(value, 1),
            "unit": "MB",
            "peer": "goal",
            "peer_value": goal,
            "ratio": round(value / goal, 3),
        }
        print(json.dumps(line), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
