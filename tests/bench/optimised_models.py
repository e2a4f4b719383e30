"""One file from frame to people, against the usual pipeline around the published file.

The peer is what detector repositories show: letterbox with OpenCV, float32, transpose, the published network, decode
and suppression in numpy. Same frames, one thread, taken in turns; medians. ``--long`` adds the size of rooms.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from models.decoders import grid
from models.optimise import SCORE_FLOOR, optimise, session
from models.registry import ModelEntry, registry

FRAMES = {"8 MP": (3840, 2160), "1080p": (1920, 1080), "768x432": (768, 432)}


def usual(run: Any, entry: ModelEntry, size: tuple[int, int], yolox: bool) -> Callable[[Any], Any]:
    """The usual pipeline around a published file."""
    name = run.get_inputs()[0].name
    cells, strides = grid(size, (8, 16, 32))
    mean, std = np.float32(entry.mean), np.float32(entry.std)

    def detect(frame: Any) -> Any:
        height, width = frame.shape[:2]
        scale = min(size[1] / height, size[0] / width)
        inner = (round(width * scale), round(height * scale))
        canvas = np.full((size[1], size[0], 3), 114, np.uint8)
        canvas[: inner[1], : inner[0]] = cv2.resize(frame, inner, interpolation=cv2.INTER_LINEAR)
        data = canvas.astype(np.float32)
        if not yolox:
            data = (data - mean) / std
        out = run.run(None, {name: np.ascontiguousarray(data.transpose(2, 0, 1))[None]})[0][0]
        if yolox:
            centre, extent = (out[:, :2] + cells) * strides, np.exp(out[:, 2:4]) * strides
            boxes, scores = np.hstack([centre - extent / 2, centre + extent / 2]), out[:, 4] * out[:, 5]
        else:
            boxes, scores = out[:, :4], out[:, 4]
        strong = scores > SCORE_FLOOR
        boxes, scores = boxes[strong], scores[strong]
        sizes = np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])
        kept = cv2.dnn.NMSBoxes(sizes.tolist(), scores.tolist(), SCORE_FLOOR, entry.nms_iou)
        index = np.array(kept, int).reshape(-1)
        return np.hstack([boxes[index] / scale, scores[index, None]])

    return detect


def compare(ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int) -> tuple[float, float]:
    """Medians in milliseconds, taken in turns."""
    spent: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for work, times in zip((ours, theirs), spent, strict=True):
            begin = time.perf_counter()
            work()
            times.append((time.perf_counter() - begin) * 1e3)
    return statistics.median(spent[0][1:]), statistics.median(spent[1][1:])


def picture(data: Path) -> Any:
    """A real frame with a person in it."""
    capture = cv2.VideoCapture(str(data / "footage" / "one-by-one-person-detection.mp4"))
    capture.set(cv2.CAP_PROP_POS_FRAMES, 100)
    return capture.read()[1]


def main(argv: list[str] | None = None) -> int:
    """Print one JSON line per model and frame size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long", action="store_true")
    long = parser.parse_args(argv).long
    data = Path(os.environ.get("HEADROOM_DATA", ""))
    if not (data / "teachers").is_dir():
        print("HEADROOM_DATA names no folder with teachers/: nothing to measure", file=sys.stderr)
        return 0
    frame = picture(data)
    with tempfile.TemporaryDirectory() as folder:
        for name in ("yolox-nano", "rtmdet-nano"):
            entry = registry().entry(name)
            source = data / "teachers" / str(entry.stand_in)
            # The published YOLOX-Nano knows 416x416 alone: at the size of rooms it is no peer.
            for mode in ("door", "room") if long and name != "yolox-nano" else ("door",):
                size = entry.sizes[mode]
                published = (416, 416) if name == "yolox-nano" else size
                run = session(
                    optimise(source, Path(folder) / f"{name}-{mode}.onnx", size=size, recipe=entry.recipe(mode)).path
                )
                peer = usual(session(source), entry, published, name == "yolox-nano")
                for label, (width, height) in FRAMES.items():
                    image = cv2.resize(frame, (width, height))
                    ours, theirs = compare(lambda i=image, r=run: r.run(None, {"frame": i[None]}),
                                           lambda i=image, p=peer: p(i), 40 if long else 15)  # fmt: skip
                    got, wanted = run.run(None, {"frame": image[None]})[0], peer(image)
                    best = float(np.abs(got[0, :4] - wanted[0, :4]).max()) / max(width, height)
                    line = {
                        "name": f"{name} {mode} {size[0]}x{size[1]}, frame {label}",
                        "value": round(ours, 2),
                        "unit": "ms",
                        "peer": f"OpenCV letterbox, published file at {published[0]}x{published[1]}, numpy decode",
                        "peer_value": round(theirs, 2),
                        "ratio": round(theirs / ours, 3),
                        "box_difference_share_of_frame": round(best, 5),
                    }
                    print(json.dumps(line), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
