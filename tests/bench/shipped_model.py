"""The detector that ships, beside YOLOX-Nano and RTMDet-nano through the same code in one run.

Short: milliseconds a frame (one thread, CPU time, in turns) and the whole pipeline in door mode; crossings of the
committed rendered door through :class:`counter.PeopleCounter`. ``--long``: crossings of twelve more rendered doors that
training has not seen, and accuracy per viewpoint (``models.training.evaluate``). Peers need HEADROOM_DATA.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import models
from counter import PeopleCounter
from counter.detector import OnnxDetector
from models.optimise import load, metadata, optimise, session
from models.registry import MODES, Mode, registry
from models.training.export import SIZES

WEIGHTS = Path(models.__file__).parent / "weights"
CLIP = Path(__file__).parents[1] / "clips" / "door-overhead-rendered.mp4"
LINE = "0,0.5,1,0.5"
SIZE = SIZES["door"]
PEERS = ("yolox-nano", "rtmdet-nano")
SECONDS = 1.0  # a crossing counts as found within this time, same direction


def _print(name: str, value: float, unit: str, peer: str | None = None, peer_value: float | None = None) -> None:
    ratio = round(value / peer_value, 3) if peer_value else None
    print(json.dumps({"name": name, "value": round(value, 4), "unit": unit, "peer": peer,
                      "peer_value": None if peer_value is None else round(peer_value, 4), "ratio": ratio}))  # fmt: skip


def files(folder: Path, mode: Mode) -> dict[str, Path]:
    """Optimised files of a mode by name: ours, and the peers where the data folder has them."""
    found = {
        "ours fp32": WEIGHTS / f"headroom-person-{mode}.onnx",
        "ours int8": WEIGHTS / f"headroom-person-{mode}-int8.onnx",
    }
    teachers = Path(os.environ.get("HEADROOM_DATA", "/nonexistent")) / "teachers"
    for name in PEERS:
        entry = registry().entry(name)
        source = teachers / (entry.stand_in or "")
        if source.is_file():
            found[name] = folder / f"{name}-{mode}.onnx"
            optimise(source, found[name], size=SIZES[mode], recipe=entry.recipe(mode))
    return found


def milliseconds(paths: dict[str, Path], frames: list[np.ndarray[Any, Any]], rounds: int) -> dict[str, float]:
    """Median CPU milliseconds of one frame, in turns."""
    sessions = {name: session(path) for name, path in paths.items()}
    spent: dict[str, list[float]] = {name: [] for name in sessions}
    for k in range(rounds + 2):
        for name, run in sessions.items():
            begin = time.process_time()
            run.run(None, {"frame": frames[k % len(frames)][None]})
            spent[name].append(time.process_time() - begin)
    return {name: statistics.median(times[2:]) * 1e3 for name, times in spent.items()}


def read(path: Path) -> Iterator[np.ndarray[Any, Any]]:
    video = cv2.VideoCapture(str(path))
    while True:
        ok, image = video.read()
        if not ok:
            return
        yield image


def events(
    counter: PeopleCounter, frames: Iterable[np.ndarray[Any, Any]], truth: dict[str, Any]
) -> tuple[int, int, int]:
    """Crossings found rightly, found in all, and there in truth."""
    found = [c for k, image in enumerate(frames) for c in counter.update(image, k / truth["fps"]).crossings]
    waiting = list(truth["crossings"])
    right = 0
    for crossing in found:
        match = next(
            (t for t in waiting if t["direction"] == str(crossing.direction) and abs(t["t"] - crossing.t) <= SECONDS),
            None,
        )
        if match is not None:
            waiting.remove(match)
            right += 1
    return right, len(found), len(truth["crossings"])


def doors(
    make: Callable[[], PeopleCounter], clips: list[tuple[list[np.ndarray[Any, Any]], dict[str, Any]]]
) -> tuple[float, float]:
    """Recall and precision of crossings over all clips."""
    totals = np.sum([events(make(), frames, truth) for frames, truth in clips], axis=0)
    return float(totals[0] / max(totals[2], 1)), float(totals[0] / max(totals[1], 1))


def rendered_doors(count: int) -> list[tuple[list[np.ndarray[Any, Any]], dict[str, Any]]]:
    """Fresh door clips of a cast and seeds that training has not seen."""
    data = os.environ.get("HEADROOM_DATA")
    if not data or not count:
        return []
    from models.training.render import Studio
    from models.training.scenes.clips import door_clip, truth_of

    studio = Studio(Path(data), 77)
    clips = []
    for seed in range(500, 500 + count):
        clip = door_clip(seed, studio.backdrops, studio.cast, seconds=20, people=9)
        made = list(clip.render(studio.cast, studio.backdrops, 1.0))
        clips.append(([image for image, _ in made], truth_of(clip, [p for _, p in made], studio.cast)))
    return clips


def crowd() -> list[np.ndarray[Any, Any]]:
    """Ten people or so in view: two moments of the committed meeting room over two of the committed door."""
    room, door = list(read(CLIP.with_name("meeting-room-rendered.mp4"))), list(read(CLIP))
    frames = []
    for k in range(100):
        quarters = room[95 + k], room[130 + k], door[50 + k], door[200 + k]
        frames.append(np.vstack([np.hstack(quarters[:2]), np.hstack(quarters[2:])]))
    return frames


def crowded(paths: dict[str, Path], frames: list[np.ndarray[Any, Any]]) -> None:
    """Frames a second of one core with many people in view, in turns of whole passes."""
    spent: dict[str, list[float]] = {name: [] for name in paths}
    seen: dict[str, list[int]] = {name: [] for name in paths}
    for _ in range(3):
        for name, path in paths.items():
            counter = PeopleCounter(
                OnnxDetector(path, threads=1, size=SIZE), lines=[LINE], mode="door", skip_still=False
            )
            counter.update(frames[0], 0.0)
            begin = time.process_time()
            for k, frame in enumerate(frames[1:]):
                seen[name].append(len(counter.update(frame, (k + 1) / 10).tracks))
            spent[name].append((time.process_time() - begin) / (len(frames) - 1))
    for name in paths:
        count = statistics.mean(seen[name])
        label = f"pipeline in door mode with the network, {count:.0f} people tracked, {name}"
        _print(label, 1 / statistics.median(spent[name]), "frames/s", "goal", 60)


def main(argv: list[str] | None = None) -> int:
    """Print JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--doors", type=int, default=12, help="rendered doors of the long form")
    options = parser.parse_args(argv)
    cv2.setNumThreads(1)
    committed = list(read(CLIP))
    truth = json.loads(CLIP.with_suffix(".json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        optimised = {mode: files(Path(folder), mode) for mode in MODES}
        paths = optimised["door"]
        for mode in MODES:
            width, height = SIZES[mode]
            pictures = [cv2.resize(frame, (width, height)) for frame in committed[::20]]
            times = milliseconds(optimised[mode], pictures, 120 if options.long else 25)
            yolox = times.get("yolox-nano")
            for name, value in times.items():
                label = f"network and frame handling at {width}x{height}, {name}"
                _print(label, value, "ms CPU", "yolox-nano" if yolox else None, yolox)
        clips = [(committed, truth), *rendered_doors(options.doors if options.long else 0)]
        for name, path in paths.items():

            def make(path: Path = path) -> PeopleCounter:
                threshold = float(metadata(load(path))["headroom.threshold"])
                detector = OnnxDetector(path, threads=1, size=SIZE)
                return PeopleCounter(detector, lines=[LINE], mode="door", skip_still=False, threshold=threshold)

            begin = time.process_time()
            recall, precision = doors(make, clips)
            rate = sum(len(frames) for frames, _ in clips) / (time.process_time() - begin)
            _print(
                f"crossings of {len(clips)} rendered door(s) from above, recall, {name}", recall, "share", "goal", 0.98
            )
            _print(
                f"crossings of {len(clips)} rendered door(s) from above, precision, {name}",
                precision,
                "share",
                "goal",
                0.98,
            )
            _print(f"pipeline in door mode with the network, {name}", rate, "frames/s", "goal", 60)
        crowded(paths, crowd())
        if options.long and os.environ.get("HEADROOM_DATA"):
            _viewpoints(paths)
    return 0


def _viewpoints(paths: dict[str, Path]) -> None:
    from models.training.data.shards import Shards, write_shard
    from models.training.evaluate import Model, evaluate
    from models.training.render import Studio, to_sample

    data = Path(os.environ["HEADROOM_DATA"])
    with tempfile.TemporaryDirectory() as folder:
        studio = Studio(data, 2)
        write_shard(Path(folder) / "held.npz", (to_sample(studio.picture(k)) for k in range(160)))
        held = Shards([Path(folder) / "held.npz"])
        for name, path in paths.items():
            print(json.dumps({"name": f"accuracy per viewpoint, {name}", **evaluate(Model(path), data, held)}))


if __name__ == "__main__":
    raise SystemExit(main())
