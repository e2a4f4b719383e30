"""Zones and presence: who is inside a polygon, with a dwell on both sides of its edge.

Somebody is inside after having been in the polygon for ``enter_dwell`` and outside again after having been out of it
for ``leave_dwell``: walking past counts nobody, and swaying on the edge counts once. The whole view is the zone
``""``; it has no edge and needs no dwell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from counter.lines import Anchor, Point, anchor_point
from counter.types import Track

WHOLE_VIEW = ""


@dataclass(frozen=True, slots=True)
class Zone:
    """A part of the view in which people are counted.

    Attributes:
        name: unique in a scene, not empty: ``""`` is the whole view.
        points: the corners of a simple polygon, relative to the frame, 0 to 1; the last joins the first.
        anchor: the point of the box that must be inside.
        enter_dwell: seconds inside before somebody counts. Longer leaves out passers-by.
        leave_dwell: seconds outside before somebody no longer counts.
    """

    name: str
    points: tuple[Point, ...]
    anchor: Anchor = Anchor.CENTRE
    enter_dwell: float = 0.5
    leave_dwell: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", tuple((float(x), float(y)) for x, y in self.points))
        object.__setattr__(self, "anchor", Anchor(self.anchor))
        if not self.name:
            raise ValueError("zone: the name is empty; that one stands for the whole view")
        if len(self.points) < 3:
            raise ValueError(f"zone {self.name!r}: expected 3 corners or more, got {len(self.points)}")
        for point in self.points:
            if not all(math.isfinite(v) and 0.0 <= v <= 1.0 for v in point):
                raise ValueError(
                    f"zone {self.name!r}: corner {point} lies outside the frame; use coordinates from 0 to 1"
                )
        if abs(_signed_area(self.points)) < 1e-4:
            raise ValueError(f"zone {self.name!r}: the corners enclose no area")
        for label in ("enter_dwell", "leave_dwell"):
            if not 0.0 <= getattr(self, label) <= 3600.0:
                raise ValueError(f"zone {self.name!r}: {label} {getattr(self, label)} is not 0 to 3600 seconds")

    @classmethod
    def parse(cls, text: str, name: str) -> Zone:
        """A zone from ``x1,y1,x2,y2,x3,y3,...`` in relative coordinates.

        Raises:
            ValueError: not pairs of numbers, too few corners, or outside the frame; the message says which.
        """
        try:
            values = [float(part) for part in text.split(",")]
        except ValueError:
            raise ValueError(f"zone {text!r}: expected numbers x1,y1,x2,y2,x3,y3,... from 0 to 1") from None
        if len(values) % 2:
            raise ValueError(f"zone {text!r}: expected pairs of x and y, got {len(values)} numbers")
        return cls(name, tuple(zip(values[::2], values[1::2], strict=True)))


@dataclass(slots=True)
class _Stay:
    """Where one track is with respect to one zone, and since when it says otherwise."""

    inside: bool
    since: float | None = None


@dataclass(slots=True)
class ZoneCounter:
    """Applies one :class:`Zone` to the confirmed tracks of one camera; forgets tracks that are no longer alive."""

    zone: Zone
    _stays: dict[int, _Stay] = field(default_factory=dict)
    _x: NDArray[np.float64] = field(init=False)
    _y: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        corners = np.array(self.zone.points, np.float64)
        self._x, self._y = corners[:, 0], corners[:, 1]

    def update(self, confirmed: Sequence[Track], t: float, width: int, height: int) -> set[int]:
        """Take the confirmed tracks of one frame, hidden ones included; return the ids of those inside."""
        if confirmed:
            points = np.array([anchor_point(self.zone.anchor, track.box) for track in confirmed])
            contained = self.contains(points / (width, height)).tolist()
            for track, now in zip(confirmed, contained, strict=True):
                self._observe(track, t, now=now)
        alive = {track.id for track in confirmed}
        for gone in self._stays.keys() - alive:
            del self._stays[gone]
        return {i for i, stay in self._stays.items() if stay.inside}

    def contains(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which of the relative ``[n, 2]`` points lie in the polygon (even-odd rule)."""
        x, y = points[:, :1], points[:, 1:]
        x1, y1 = self._x[None, :], self._y[None, :]
        x2, y2 = np.roll(self._x, -1)[None, :], np.roll(self._y, -1)[None, :]
        spans = (y1 > y) != (y2 > y)
        at = x1 + (y - y1) * (x2 - x1) / np.where(y2 == y1, 1.0, y2 - y1)
        return (np.sum(spans & (x < at), axis=1) % 2).astype(bool)  # type: ignore[no-any-return]

    def reset(self) -> None:
        """Forget every track."""
        self._stays.clear()

    def _observe(self, track: Track, t: float, *, now: bool) -> None:
        stay = self._stays.get(track.id)
        if stay is None:
            # The time as a tentative track counts towards the dwell.
            stay = self._stays[track.id] = _Stay(inside=False, since=track.first_seen if now else None)
        if now == stay.inside:
            stay.since = None
            return
        if stay.since is None:
            stay.since = t
        dwell = self.zone.leave_dwell if stay.inside else self.zone.enter_dwell
        if t - stay.since >= dwell - 1e-6:
            stay.inside, stay.since = now, None


def _signed_area(points: Sequence[Point]) -> float:
    return 0.5 * sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in zip(points, (*points[1:], points[0]), strict=True))
