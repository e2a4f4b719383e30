"""Headroom against ``trackers``' ByteTrack and ``supervision``'s LineZone with the same models, on footage with truth.

Short form: the three shortest clips, YOLOX-Nano. ``--long``: every clip with truth, YOLOX-Nano and RTMDet-nano.
Values are shares of the time in which presence is right, and F1 of the crossings (within 1 s, same direction). Needs
HEADROOM_DATA and the environment that ``make bench`` creates.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from counter.bench.dataset import load_dataset
from counter.bench.evaluate import Score, score, together
from counter.bench.systems import Headroom, parse_system

MANIFEST = Path(__file__).parent / "data" / "footage.toml"
PEERS = Path(os.environ.get("HEADROOM_PEERS") or ".venv-peers/bin/python")


def f1(one: Score) -> float | None:
    """Of the crossings whose time is known."""
    if one.events is None:
        return None
    return 2 * one.events.hits / max(2 * one.events.hits + one.events.invented + one.events.missed, 1)


def report(name: str, unit: str, ours: float | None, peer: str, theirs: float | None) -> None:
    """One JSON line."""
    if ours is None or theirs is None:
        return
    ratio = round(ours / theirs, 4) if theirs else None
    print(json.dumps({"name": name, "value": round(ours, 4), "unit": unit, "peer": peer,
                      "peer_value": round(theirs, 4), "ratio": ratio}), flush=True)  # fmt: skip


def compare(model: str, names: set[str], interval: float) -> None:
    """Measure one model with both trackers on some clips."""
    clips = [clip for clip in load_dataset(MANIFEST) if not names or clip.name in names]
    mine = [score(clip, Headroom(model).run(clip, lambda: None), interval) for clip in clips]
    for text in (f"{model}+bytetrack", f"{model}+bytetrack-defaults"):
        peer = parse_system(text, PEERS, None)
        theirs_all = [score(clip, peer.run(clip, lambda: None), interval) for clip in clips]
        pairs = [*zip(mine, theirs_all, strict=True), (together(mine), together(theirs_all))]
        for ours, theirs in pairs:
            where = f"{model}, {ours.clip}"
            if ours.presence and theirs.presence:
                seconds = ours.presence.seconds
                report(f"{where}: presence right", "share of the time", ours.presence.exact / seconds,
                       peer.name, theirs.presence.exact / seconds)  # fmt: skip
                report(
                    f"{where}: presence MAE", "people", ours.presence.error.mae, peer.name, theirs.presence.error.mae
                )
            report(f"{where}: crossings F1", "share", f1(ours), peer.name, f1(theirs))
            report(f"{where}: frames per second", "1/s", ours.frames / ours.seconds, peer.name,
                   theirs.frames / theirs.seconds)  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Print one JSON line per figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long", action="store_true")
    long = parser.parse_args(argv).long
    if not os.environ.get("HEADROOM_DATA"):
        print("HEADROOM_DATA names no folder with footage: nothing to measure", file=sys.stderr)
        return 0
    if not PEERS.is_file():
        print(f"{PEERS} is not there: make bench creates it", file=sys.stderr)
        return 0
    if long:
        for model in ("yolox-nano", "rtmdet-nano"):
            compare(model, set(), 10.0)
    else:
        compare("yolox-nano", {"people-detection", "worker-zone", "store-aisle"}, 1.0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
