"""The pipeline without the network: frames a second with 10 people in view who walk, a line and a zone, on one core.

A frame costs the look for motion, association, a line, a zone, intervals and records; networks read it in place.
CPU time of the one thread, so that other work on the machine disturbs less.
"""

from __future__ import annotations

import argparse
import json
import time

import cv2
import numpy as np

from counter import Detections, Frame, PeopleCounter, Zone
from tests.bench.association import FPS, HEIGHT, WIDTH, Crowd


class RecordedDetector:
    """Hands out detections made beforehand."""

    name = "recorded"

    def __init__(self, detections: list[Detections]) -> None:
        self._detections = iter(detections)

    def detect(self, frame: Frame) -> Detections:
        return next(self._detections)


def frames_a_second(frames: int, people: int = 10) -> tuple[float, int]:
    """Frames a second of CPU time, and the crossings counted on the way."""
    crowd = Crowd(people)
    detector = RecordedDetector([crowd.step() for _ in range(frames)])
    zone = Zone("room", ((0.2, 0.1), (0.9, 0.1), (0.9, 0.9), (0.2, 0.9)))
    counter = PeopleCounter(detector, lines=["0.5,0,0.5,1"], zones=[zone])
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (int(HEIGHT), int(WIDTH), 3), np.uint8) for _ in range(4)]
    crossings = 0
    begin = time.thread_time()
    for i in range(frames):
        crossings += len(counter.update(pictures[i % 4], i / FPS).crossings)
    counter.close()
    return frames / (time.thread_time() - begin), crossings


def main(argv: list[str] | None = None) -> int:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long", action="store_true")
    cv2.setNumThreads(1)
    rate, _ = frames_a_second(20_000 if parser.parse_args(argv).long else 3_000)
    line = {
        "name": "pipeline without network, 10 people, 1280x720",
        "value": round(rate),
        "unit": "frames/s",
        "peer": "goal",
        "peer_value": 1000,
        "ratio": round(rate / 1000, 3),
    }
    print(json.dumps(line), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
