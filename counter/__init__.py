"""The SDK: frame source, detector, tracker, lines and zones, counting, health, schedule, agent, offline benchmark.

from counter import Line, PeopleCounter

counter = PeopleCounter(lines=[Line((0.1, 0.6), (0.9, 0.6), "door")])
result = counter.update(frame, t)
"""

from __future__ import annotations

from counter import _telemetry as _telemetry
from counter.detector import Detector, DetectorError
from counter.lines import Anchor, Line, LineCounter
from counter.pipeline import PeopleCounter
from counter.tracker import Tracker, TrackerSettings
from counter.types import Crossing, Detections, Direction, Frame, FrameResult, Track
from counter.zones import Zone, ZoneCounter
from uplink.messages import CountRecord, Health

__all__ = [
    "Anchor",
    "CountRecord",
    "Crossing",
    "Detections",
    "Detector",
    "DetectorError",
    "Direction",
    "Frame",
    "FrameResult",
    "Health",
    "Line",
    "LineCounter",
    "PeopleCounter",
    "Track",
    "Tracker",
    "TrackerSettings",
    "Zone",
    "ZoneCounter",
]
