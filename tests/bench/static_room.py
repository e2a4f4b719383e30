"""A room in which nobody moves: frames a second all in, with the network resting.

The picture is still but for the noise of the sensor. The network is the default of the room mode or what ``--model``
names; a stand-in that takes as long is used where no model is on this machine.
"""

from __future__ import annotations

import argparse
import json
import time

import cv2
import numpy as np

from counter import Detections, Detector, DetectorError, Frame, PeopleCounter
from counter.detector import Mode, open_model, resolve

WIDTH, HEIGHT, FPS = 1280, 720, 10.0
STAND_IN_SECONDS = 0.08


class StandIn:
    """Finds four people, after the time that a small network would take."""

    name = "stand-in"

    def detect(self, frame: Frame) -> Detections:
        until = time.perf_counter() + STAND_IN_SECONDS
        while time.perf_counter() < until:
            pass
        x = np.arange(4, dtype=np.float32) * 250 + 100
        boxes = np.stack((x, np.full(4, 300), x + 90, np.full(4, 480)), axis=1).astype(np.float32)
        return Detections(boxes, np.full(4, 0.8, np.float32))


def network(model: str | None, mode: Mode) -> tuple[Detector, str]:
    """The real network where it is here, else the stand-in."""
    try:
        detector, chosen = open_model(resolve(model, mode))
    except DetectorError:
        if model is not None:
            raise
        return StandIn(), StandIn.name
    return detector, chosen.name


def still_pictures(noise: float = 2.0) -> list[Frame]:
    """Some frames of one view, different in noise only."""
    rng = np.random.default_rng(0)
    view = cv2.GaussianBlur(rng.integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.float32), (0, 0), 15)
    return [np.clip(view + rng.normal(0, noise, view.shape), 0, 255).astype(np.uint8) for _ in range(8)]


def run(detector: Detector, pictures: list[Frame], frames: int) -> tuple[float, float]:
    """Frames a second of wall time and the share of frames on which the network ran."""
    counter = PeopleCounter(detector, mode="room")
    inferred = 0
    begin = time.perf_counter()
    for i in range(frames):
        inferred += counter.update(pictures[i % len(pictures)], i / FPS).inferred
    counter.close()
    return frames / (time.perf_counter() - begin), inferred / frames


def main(argv: list[str] | None = None) -> int:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--model")
    arguments = parser.parse_args(argv)
    detector, name = network(arguments.model, "room")
    rate, share = run(detector, still_pictures(), 100_000 if arguments.long else 10_000)
    line = {
        "name": f"static room all in, {name}, 1280x720, network on {share:.2%} of frames",
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
