"""The value types of the counter: what passes between detector, tracker, lines, zones and records.

Boxes are pixels of the frame, ``x1, y1, x2, y2``, float32. Scene geometry (lines, zones) is relative, 0 to 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Self

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
Frame = NDArray[np.uint8]
"""One picture, ``[height, width, 3]``, BGR, as OpenCV gives it."""


@dataclass(frozen=True, slots=True)
class Detections:
    """The people found in one frame.

    Attributes:
        boxes: ``[N, 4]`` float32, pixels, x1 y1 x2 y2.
        scores: ``[N]`` float32, 0 to 1.
    """

    boxes: FloatArray
    scores: FloatArray

    def __post_init__(self) -> None:
        if self.boxes.ndim != 2 or self.boxes.shape[1] != 4:
            raise ValueError(f"boxes: expected shape [N, 4], got {self.boxes.shape}")
        if self.scores.shape != (self.boxes.shape[0],):
            raise ValueError(f"scores: expected shape [{self.boxes.shape[0]}], got {self.scores.shape}")

    def __len__(self) -> int:
        return int(self.boxes.shape[0])

    @classmethod
    def empty(cls) -> Self:
        return cls(np.empty((0, 4), np.float32), np.empty(0, np.float32))


class Direction(StrEnum):
    """Walking across a line from its left to its right hand side, seen from its start, is ``entered``."""

    ENTERED = "entered"
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class Track:
    """One person over time, as seen now. ``hidden`` tracks are predicted: no detection supported them in this frame."""

    id: int
    box: tuple[float, float, float, float]
    score: float
    first_seen: float
    last_seen: float
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class Crossing:
    """A confirmed track went from settled on one side of a line to settled on the other, once.

    ``t`` is the monotonic second at which the track crossed the line itself, not the later one at which it settled.
    """

    line: str
    direction: Direction
    t: float
    track_id: int


@dataclass(frozen=True, slots=True)
class FrameResult:
    """What one frame gave.

    Attributes:
        t: monotonic seconds of the frame.
        utc: wall clock of the frame, or None where the source has none (a video file).
        tracks: confirmed tracks, hidden ones included.
        tentative: tracks that are not people yet; they never count.
        presence: people seen now, or hidden briefly, per zone name; ``""`` is the whole view.
        occupancy: people believed to be inside, where there is a line: crossings and what is seen, held against each
            other (:mod:`counter.occupancy`). None without a line.
        inferred: False when the frame was skipped because nothing had moved.
    """

    t: float
    detections: Detections
    tracks: tuple[Track, ...]
    tentative: tuple[Track, ...]
    crossings: tuple[Crossing, ...]
    presence: Mapping[str, int]
    utc: datetime | None = None
    occupancy: int | None = None
    inferred: bool = True
    stage_ms: Mapping[str, float] = field(default_factory=dict)
