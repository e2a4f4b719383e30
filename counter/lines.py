"""Directed lines and the rule that says who has crossed one.

A track has a *settled side*: it changes only when the person has been beyond a band around the line, on the other side,
for a dwell time. Flicker, loitering and turning back never settle anew and count nothing; a passage settles once and
counts once. The width of the band is measured in the person's own size, so there is nothing to configure for a door.

The same rule as a picture, for a line from ``s`` to ``e`` (image coordinates, y grows downwards)::

        s
        |        seen from s, looking at e: this is the LEFT hand side
    R   |   L    left -> right counts as entered, right -> left as left
        v
        e
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from counter.boxes import EDGE
from counter.types import Crossing, Direction, Track

MAX_SPEED = 3.0  # person sizes a second: faster is a detector that jumps, not a person who walks
Point = tuple[float, float]
Box = tuple[float, float, float, float]


class Anchor(StrEnum):
    """The point of a box that must cross.

    The centre is the default: it means the same from every angle, an overhead camera included, where a box has no
    foot end; it stays put when legs vanish behind a desk; and as the mean of two edges it shakes less than either.
    ``bottom`` is right for a line on the floor in a view from far and low, ``top`` for one at head height in a crowd.
    """

    CENTRE = "centre"
    BOTTOM = "bottom"
    TOP = "top"


@dataclass(frozen=True, slots=True)
class Line:
    """A door line. Walking from its left to its right hand side, seen from its start, is ``entered``.

    Attributes:
        start: x and y, relative to the frame, 0 to 1.
        end: the same.
        name: unique in a scene.
        anchor: the point of the box that must cross.
        band: half the width of the band in which nobody has settled, in person sizes (square root of the box area).
            Wider forgives more swaying on the line; narrower catches people who vanish right behind it.
        dwell: seconds for which a person must be beyond the band. Longer forgives more; shorter catches runners.
    """

    start: Point
    end: Point
    name: str = "line"
    anchor: Anchor = Anchor.CENTRE
    band: float = 0.15
    dwell: float = 0.15

    def __post_init__(self) -> None:
        for label, point in (("start", self.start), ("end", self.end)):
            if len(point) != 2 or not all(math.isfinite(v) and 0.0 <= v <= 1.0 for v in point):
                raise ValueError(
                    f"line {self.name!r}: {label} {point} lies outside the frame; use coordinates from 0 to 1"
                )
        if math.dist(self.start, self.end) < 0.01:
            raise ValueError(f"line {self.name!r}: start and end are the same point, {self.start}")
        if not 0.0 <= self.band <= 2.0:
            raise ValueError(f"line {self.name!r}: band {self.band} is not between 0 and 2 person sizes")
        if not 0.0 <= self.dwell <= 60.0:
            raise ValueError(f"line {self.name!r}: dwell {self.dwell} is not between 0 and 60 seconds")
        object.__setattr__(self, "anchor", Anchor(self.anchor))

    @classmethod
    def parse(cls, text: str, name: str = "line") -> Line:
        """A line from ``x1,y1,x2,y2`` in relative coordinates.

        Raises:
            ValueError: not four numbers, or outside the frame; the message says which.
        """
        parts = text.split(",")
        try:
            x1, y1, x2, y2 = (float(part) for part in parts)
        except ValueError:
            raise ValueError(f"line {text!r}: expected four numbers x1,y1,x2,y2 from 0 to 1") from None
        return cls((x1, y1), (x2, y2), name)


@dataclass(slots=True)
class _Passage:
    """What is known about one track at one line. Sides: -1 left, 1 right, 0 not known."""

    side: int = 0
    heading: int = 0  # the side on which the dwell runs
    since: float = 0.0
    distance: float = math.nan  # signed pixels, positive on the right; as last seen
    along: float = 0.0
    size: float = 1.0
    t: float = 0.0
    crossed_at: float = math.nan  # when the line itself was last crossed
    between_ends: bool = True  # whether that was between the end points
    moved_by: float = 0.0  # pixels a second towards the right, of the motion model
    born: float = math.nan  # distance when first seen
    assumed: bool = False  # the side is where the person came from, without a dwell there
    fastest: float = 0.0  # pixels a second, since born


@dataclass(slots=True)
class LineCounter:
    """Applies one :class:`Line` to the tracks of one camera.

    Memory is bounded by the tracks that are alive: :meth:`update` forgets all others.
    """

    line: Line
    _passages: dict[int, _Passage] = field(default_factory=dict)
    _began: float = math.inf

    def update(
        self,
        confirmed: Iterable[Track],
        tentative: Iterable[Track],
        t: float,
        width: int,
        height: int,
        velocities: Mapping[int, Point] | None = None,
    ) -> list[Crossing]:
        """Take the tracks of one frame and return who has just settled on another side.

        Tentative tracks may find their first side, but never count. Hidden tracks keep what they have. A track that is
        in neither collection has ended; see :meth:`_end` for when that counts.

        Args:
            confirmed: and ``tentative``: the tracks now alive.
            t: monotonic seconds.
            width: of the frame in pixels.
            height: of the frame in pixels.
            velocities: pixels a second by track id, where known: lets somebody count who vanished while passing.
        """
        self._began = min(self._began, t)
        crossings: list[Crossing] = []
        alive: set[int] = set()
        geometry = _Geometry(self.line, width, height)
        for track in confirmed:
            alive.add(track.id)
            if not track.hidden:
                velocity = velocities.get(track.id, (0.0, 0.0)) if velocities else (0.0, 0.0)
                crossings += self._observe(track, t, geometry, velocity, counts=True)
        for track in tentative:
            alive.add(track.id)
            if not track.hidden:
                self._observe(track, t, geometry, (0.0, 0.0), counts=False)
        if len(alive) < len(self._passages):
            for gone in self._passages.keys() - alive:
                crossings += self._end(gone, self._passages.pop(gone), geometry)
        return crossings

    def side(self, track_id: int) -> int:
        """The settled side of a track: -1 left, 1 right, 0 when it has none yet."""
        passage = self._passages.get(track_id)
        return passage.side if passage else 0

    def __len__(self) -> int:
        return len(self._passages)

    def reset(self) -> None:
        """Forget every track without counting any."""
        self._passages.clear()
        self._began = math.inf

    def _observe(self, track: Track, t: float, geometry: _Geometry, velocity: Point, *, counts: bool) -> list[Crossing]:
        x1, y1, x2, y2 = track.box
        point = anchor_point(self.line.anchor, track.box)
        distance, along = geometry.place(point)
        size = math.sqrt(max((x2 - x1) * (y2 - y1), 1.0))
        p = self._passages.get(track.id)
        if p is None:
            p = self._passages[track.id] = _Passage(born=distance)
            if track.first_seen > self._began:
                self._appear(p, track.box, point, geometry)
        elif t > p.t:
            p.fastest = max(p.fastest, abs(distance - p.distance) / (t - p.t))
            if not p.side and p.heading and p.distance * distance > 0.0:
                p.side, p.assumed = p.heading, True  # seen there twice: a side to come from
        if p.distance * distance < 0.0 or (p.distance != 0.0 and distance == 0.0):
            share = p.distance / (p.distance - distance)
            p.crossed_at = t if math.isnan(p.t) else p.t + share * (t - p.t)
            p.between_ends = geometry.between_ends(p.along + share * (along - p.along), 0.5 * size)
        p.distance, p.along, p.size, p.t = distance, along, size, t
        p.moved_by = geometry.speed(velocity)
        return self._weigh(track.id, p, counts=counts)

    def _weigh(self, track_id: int, p: _Passage, *, counts: bool) -> list[Crossing]:
        """Apply the rule of band and dwell to what was just observed."""
        settled = p.side and not p.assumed
        # The first side is taken from nearer by: people appear in doorways, close to the line.
        near = 0.25 * self.line.band * p.size
        beyond = 0 if abs(p.distance) <= near else 1 if p.distance > 0.0 else -1
        if beyond == -p.side and abs(p.distance) <= self.line.band * p.size:
            beyond = 0
        if beyond == 0 or (settled and beyond == p.side):
            p.heading = 0
            return []
        if p.heading != beyond:
            p.heading, p.since = beyond, p.t
        if p.t - p.since < self.line.dwell - 1e-6:
            return []
        if beyond == -p.side and (not counts or (p.assumed and not self._came_in(p))):
            return []
        return self._settle(track_id, p, beyond)

    def _came_in(self, p: _Passage) -> bool:
        """Whether somebody whose first side is only assumed really walked here: far enough, and not in one jump."""
        return abs(p.distance - p.born) >= 0.25 * p.size and p.fastest <= MAX_SPEED * p.size

    def _appear(self, p: _Passage, box: Box, point: Point, geometry: _Geometry) -> None:
        """Somebody who appears at the edge of the picture came from beyond it, and so from beyond a line near it."""
        origin = geometry.edge_behind(box, point)
        if origin is None:
            return
        distance, along = geometry.place(origin)
        if distance * p.born < 0.0:
            p.side, p.assumed = (1 if distance > 0 else -1), True
            p.distance, p.along, p.t = distance, along, math.nan

    def _settle(self, track_id: int, p: _Passage, side: int) -> list[Crossing]:
        before, p.side, p.heading, p.assumed = p.side, side, 0, False
        if before in (0, side) or not p.between_ends:
            p.between_ends = True
            return []
        direction = Direction.ENTERED if side > 0 else Direction.LEFT
        at = p.crossed_at if math.isfinite(p.crossed_at) else p.t
        return [Crossing(self.line.name, direction, at, track_id)]

    def _end(self, track_id: int, p: _Passage, geometry: _Geometry) -> list[Crossing]:
        """A track that ended while it passed: through a door people leave the picture in mid-step.

        It counts where the person was last seen in the band or beyond the line, was walking (not swaying) and would
        have been beyond the band within half a second.
        """
        if not p.side or not math.isfinite(p.distance):
            return []
        band = self.line.band * p.size
        ahead = p.distance + 0.5 * p.moved_by
        walking = -p.moved_by * p.side > 0.3 * p.size
        if not walking or p.distance * p.side > band or ahead * p.side > -band:
            return []
        if p.distance * p.side > 0.0:  # the line itself lies just ahead
            if not geometry.between_ends(p.along, 0.5 * p.size):
                return []
            p.crossed_at = p.t - p.distance / p.moved_by
        return self._settle(track_id, p, -p.side)


class _Geometry:
    """A line in the pixels of a frame."""

    __slots__ = ("dx", "dy", "height", "length", "width", "x", "y")

    def __init__(self, line: Line, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.x, self.y = line.start[0] * width, line.start[1] * height
        dx, dy = line.end[0] * width - self.x, line.end[1] * height - self.y
        self.length = math.hypot(dx, dy)
        self.dx, self.dy = dx / self.length, dy / self.length

    def place(self, point: Point) -> Point:
        """Signed distance (positive on the right hand side) and pixels along the line."""
        px, py = point[0] - self.x, point[1] - self.y
        return self.dx * py - self.dy * px, self.dx * px + self.dy * py

    def speed(self, velocity: Point) -> float:
        """Pixels a second towards the right hand side."""
        return self.dx * velocity[1] - self.dy * velocity[0]

    def edge_behind(self, box: Box, point: Point) -> Point | None:
        """The point on the edge of the picture that ``box`` touches, or None where it touches none or two."""
        slack = EDGE * max(self.width, self.height)
        touched = [
            at
            for touches, at in (
                (box[0] <= slack, (0.0, point[1])),
                (box[1] <= slack, (point[0], 0.0)),
                (box[2] >= self.width - slack, (float(self.width), point[1])),
                (box[3] >= self.height - slack, (point[0], float(self.height))),
            )
            if touches
        ]
        return touched[0] if len(touched) == 1 else None

    def between_ends(self, along: float, margin: float) -> bool:
        """Whether a crossing lies between the end points; a body that touches the line's end is let through."""
        return -margin <= along <= self.length + margin


def anchor_point(anchor: Anchor, box: Box) -> Point:
    """The point of a box, in pixels, that stands for the person."""
    x1, y1, x2, y2 = box
    if anchor is Anchor.CENTRE:
        return (x1 + x2) / 2, (y1 + y2) / 2
    return (x1 + x2) / 2, y2 if anchor is Anchor.BOTTOM else y1
