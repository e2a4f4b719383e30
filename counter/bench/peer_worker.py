"""ByteTrack of the package ``trackers`` and LineZone of ``supervision`` on given detections.

A program of its own, run by the Python of an environment that holds those packages (``make bench`` creates
``.venv-peers``): ``supervision`` brings the GUI build of OpenCV, which fights with the headless one. One JSON document
on standard input, one on standard output; nothing of Headroom is imported.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def main() -> None:
    """Read the job, track, count, write the result."""
    import numpy as np
    import supervision as sv
    from trackers import ByteTrackTracker

    job: dict[str, Any] = json.load(sys.stdin)
    width, height, fitted = job["width"], job["height"], job["fitted"]
    settings: dict[str, Any] = {"frame_rate": job["fps"]}
    anchors: dict[str, Any] = {}
    if fitted:  # to the model's own threshold, and to the point that Headroom counts by
        settings |= {"track_activation_threshold": job["threshold"], "high_conf_det_threshold": job["threshold"]}
        anchors = {"triggering_anchors": (sv.Position.CENTER,)}
    tracker = ByteTrackTracker(**settings)
    zones = []
    for line in job["lines"]:
        ends = [sv.Point(x * width, y * height) for x, y in (line["start"], line["end"])]
        zones.append((line["name"], sv.LineZone(*ends, **anchors)))
    frames, events, spent = [], [], []
    for number, rows in enumerate(job["detections"]):
        table = np.array(rows, np.float32).reshape(-1, 5)
        begin = time.perf_counter()
        seen = sv.Detections(table[:, :4], confidence=table[:, 4], class_id=np.zeros(len(table), int))
        tracked = tracker.update(seen)
        for name, zone in zones:
            crossed_in, crossed_out = zone.trigger(tracked)
            # From the right to the left hand side of the line is "in" there.
            events += [[name, "left", number]] * int(np.sum(crossed_in))
            events += [[name, "entered", number]] * int(np.sum(crossed_out))
        spent.append((time.perf_counter() - begin) * 1e3)
        ids = np.full(len(tracked), -1) if tracked.tracker_id is None else tracked.tracker_id
        rows_of = [[int(k), *map(float, box)] for k, box in zip(ids, tracked.xyxy, strict=True)]
        frames.append([row for row in rows_of if row[0] >= 0])  # -1: not confirmed yet
    json.dump({"frames": frames, "events": events, "ms": spent}, sys.stdout)


if __name__ == "__main__":
    main()
