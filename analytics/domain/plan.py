"""What was planned: versions, clusters of overlapping bookings, and which minutes belong to whom.

Everything here works on minutes since 1970-01-01T00:00Z and on arrays with one entry a booking.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from analytics.domain.time import BoolArray, FloatArray, IntArray, LocalGrid, Window, fill_runs


@dataclass(frozen=True)
class MatchRules:
    """Site rules of the matching; minutes unless said otherwise. Stored with every result.

    Attributes:
        margin_before, margin_after: time around a booking that still belongs to it, never across a neighbour.
        start_offset, end_offset: academic quarter: the event starts that much after, ends that much before the booking.
        breaks: windows of the local day that are breaks, such as (630, 645).
        split_before, split_after: how far from the changeover of two neighbours the room may empty. Further finds
            longer overruns, and mistakes a break for a changeover more easily.
        min_people: fewer are not use of a room.
        min_run: use shorter than this is somebody passing.
        bridge: a pause shorter than this is still use (ROOMZ: 15).
        core_trim: kept clear of both ends of an event for the attendance.
        dip: a minute below this share of the 75th percentile is a pause, not attendance.
        sustained: presence shorter than this in a whole slot is a no-show (a third of the slot if that is less).
        late, early, overrun: more than this after the start, before the end, past the end. Robin releases after 10.
        overrun_horizon: how far past the end people are followed.
        min_coverage: share of a slot (and of its first half, halved) that must be measured to judge it.
        over_people, over_share: attendance exceeds capacity by more than both: over capacity.
        grace: a release policy waits this long after the start.
        min_block: shorter blocks are not worth releasing.
    """

    margin_before: int = 15
    margin_after: int = 15
    start_offset: int = 0
    end_offset: int = 0
    breaks: tuple[Window, ...] = ()
    split_before: int = 10
    split_after: int = 20
    min_people: int = 1
    min_run: int = 3
    bridge: int = 15
    core_trim: int = 5
    dip: float = 0.5
    sustained: int = 10
    late: int = 10
    early: int = 10
    overrun: int = 10
    overrun_horizon: int = 60
    min_coverage: float = 0.6
    over_people: float = 1.0
    over_share: float = 0.05
    grace: int = 10
    min_block: int = 30
    version: str = "match-1"

    def __post_init__(self) -> None:
        for name in ("margin_before", "margin_after", "start_offset", "end_offset", "bridge", "grace"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}: minutes cannot be negative")
        if self.min_people < 1:
            raise ValueError(f"min_people is {self.min_people}: an empty room is not in use")
        if not 0 < self.min_coverage <= 1:
            raise ValueError(f"min_coverage is {self.min_coverage}: it is a share above 0 and up to 1")

    def break_mask(self, grid: LocalGrid) -> BoolArray:
        """Minutes of the grid that are breaks of the site, shape (length,)."""
        mask = np.zeros(grid.length, dtype=np.bool_)
        for begin, end in self.breaks:
            mask |= (grid.minute >= begin) & (grid.minute < end)
        return mask


class Known(StrEnum):
    """How a slot of a booking stood when it started."""

    PLANNED = "planned"
    WITHDRAWN = "withdrawn"
    """Cancelled or moved out of the room before it started: not judged, counted apart."""
    WITHDRAWN_LATE = "withdrawn_late"
    """Cancelled or moved after it had started: judged as planned, and said so."""


@dataclass(frozen=True)
class Version:
    """One version of a booking in one room; minutes.

    Attributes:
        recorded: when we learned of it.
        superseded: when another version or a tombstone replaced it; None: it stands.
        start: of the booking.
        live: it plans the room (neither cancelled, nor moved away, nor a tombstone).
    """

    recorded: int
    superseded: int | None
    start: int
    live: bool


def known_at_start(versions: Sequence[Version]) -> list[tuple[int, Known]]:
    """Which versions of one booking to judge, by index: the plan as known when each of them started.

    Scheduling systems rewrite history, so the last version is not the plan of the day. A booking moved while it ran
    is two slots: the one that it had when it started, and the later one. What a first pull learned looking back
    counts as if it had always been known.
    """
    order = sorted(range(len(versions)), key=lambda i: versions[i].recorded)
    found: list[tuple[int, Known]] = []
    for position, i in enumerate(order):
        version = versions[i]
        if not version.live:
            continue
        in_time = version.recorded <= version.start
        if not in_time and position > 0:
            continue  # history rewritten afterwards
        follower = versions[order[position + 1]] if position + 1 < len(order) else None
        replaced = version.superseded
        gone = replaced is not None and (follower is None or not follower.live or follower.recorded > replaced)
        if in_time and replaced is not None and replaced <= version.start:
            if gone:
                found.append((i, Known.WITHDRAWN))
            continue  # else changed in time: the follower is the plan
        moved = follower is not None and follower.live and follower.start != version.start
        found.append((i, Known.WITHDRAWN_LATE if gone or (replaced is not None and moved) else Known.PLANNED))
    planned = [entry for entry in found if entry[1] is not Known.WITHDRAWN]
    return planned or found[-1:]  # withdrawn and put back is planned; withdrawn twice is withdrawn once


@dataclass(frozen=True)
class Plan:
    """The bookings of one room; arrays of shape (bookings,), in any order.

    Attributes:
        start, end: minutes, half-open; equal ones are kept and come out as unknown.
        expected: people expected; NaN where the system does not know.
        capacity: seats of the room on that day; NaN where unknown.
    """

    start: IntArray
    end: IntArray
    expected: FloatArray
    capacity: FloatArray

    def __post_init__(self) -> None:
        shapes = {a.shape for a in (self.start, self.end, self.expected, self.capacity)}
        if len(shapes) != 1:
            raise ValueError(f"the arrays of a plan differ in shape: {sorted(shapes)}")
        if (self.end < self.start).any():
            raise ValueError("a booking ends before it starts")

    @property
    def size(self) -> int:
        return int(self.start.size)

    @classmethod
    def of(
        cls,
        rows: Iterable[tuple[int, int]],
        *,
        expected: Iterable[float | None] | None = None,
        capacity: float | None = None,
    ) -> Plan:
        """A plan from (start, end) minutes; for tests and small work."""
        spans = np.array(list(rows), dtype=np.int64).reshape(-1, 2)
        size = spans.shape[0]
        people = [None] * size if expected is None else list(expected)
        return cls(
            spans[:, 0].copy(),
            spans[:, 1].copy(),
            np.array([np.nan if p is None else p for p in people], dtype=np.float32),
            np.full(size, np.nan if capacity is None else capacity, dtype=np.float32),
        )


@dataclass(frozen=True)
class Clusters:
    """Bookings that overlap are one cluster: a room cannot tell apart whose people are inside.

    Attributes:
        of: cluster of every booking, -1 for one without length; shape (bookings,).
        start, end: span of each cluster in order of time; shape (clusters,).
        size: bookings in it.
        expected: people expected in all, identical bookings counted once; NaN when one is unknown.
        capacity: as of its first booking.
    """

    of: IntArray
    start: IntArray
    end: IntArray
    size: IntArray
    expected: FloatArray
    capacity: FloatArray


def clusters(plan: Plan) -> Clusters:
    """Connect bookings that overlap in time; touching ones stay apart."""
    of = np.full(plan.size, -1, dtype=np.int64)
    real = np.flatnonzero(plan.end > plan.start)
    if real.size == 0:
        none = np.zeros(0, dtype=np.int64)
        return Clusters(of, none, none, none, none.astype(np.float32), none.astype(np.float32))
    order = real[np.lexsort((plan.end[real], plan.start[real]))]
    start, end = plan.start[order], plan.end[order]
    reach = np.maximum.accumulate(end)
    opens = np.ones(order.size, dtype=np.bool_)
    opens[1:] = start[1:] >= reach[:-1]
    label = np.cumsum(opens) - 1
    of[order] = label
    first = np.flatnonzero(opens)
    twin = np.zeros(order.size, dtype=np.bool_)  # the same slot twice: one event that came from two sources
    twin[1:] = (start[1:] == start[:-1]) & (end[1:] == end[:-1]) & ~opens[1:]
    people = np.where(twin, 0, plan.expected[order])
    return Clusters(
        of,
        start[first],
        np.maximum.reduceat(end, first),
        np.diff(np.append(first, order.size)),
        np.add.reduceat(people, first).astype(np.float32),
        plan.capacity[order][first],
    )


def own_windows(people: FloatArray, origin: int, found: Clusters, rules: MatchRules) -> tuple[IntArray, IntArray]:
    """The minutes that belong to each cluster: its span with margins, split from its neighbours.

    Where the margins of two neighbours meet, the boundary is the minute with the fewest people near the changeover,
    the nearest to its middle among equals: back-to-back bookings are split where the room empties.

    Args:
        people: people per minute from minute ``origin``; NaN where unknown.

    Returns:
        begin and end of each cluster's own minutes; disjoint, in order.
    """
    begin = found.start - rules.margin_before
    end = found.end + rules.margin_after
    near = np.flatnonzero(begin[1:] < end[:-1])
    if near.size == 0:
        return begin, end
    close, follow = found.end[near], found.start[near + 1]
    middle = ((close - rules.end_offset) + (follow + rules.start_offset)) // 2
    low = np.maximum(close - rules.split_before, (found.start[near] + close) // 2)
    high = np.minimum(follow + rules.split_after, (follow + found.end[near + 1]) // 2)
    width = int((high - low).max()) + 1
    at = low[:, None] + np.arange(width)
    index = at - origin
    inside = (at <= high[:, None]) & (index >= 0) & (index < people.size)
    value = people[np.clip(index, 0, max(people.size - 1, 0))] if people.size else np.full(at.shape, np.nan)
    distance = np.abs(at - middle[:, None])
    # People first, distance second; an unknown minute only where nothing near is known.
    score = np.where(np.isnan(value) | ~inside, np.float64(1e9), value * 1e4) + np.minimum(distance, 9_999)
    score[~(at <= high[:, None])] = np.inf
    boundary = low + score.argmin(axis=1)
    end[near] = boundary
    begin[near + 1] = boundary
    return begin, end


def span_mask(start: IntArray, end: IntArray, origin: int, length: int) -> BoolArray:
    """Minutes of a grid inside any of the half-open spans, shape (length,)."""
    return fill_runs(length, np.clip(start - origin, 0, length), np.clip(end - origin, 0, length))


@dataclass(frozen=True)
class PlannedMinutes:
    """What was planned, minute by minute; shape (n,).

    Attributes:
        booked: inside a booking.
        owned: inside a booking or its margins.
        expected: people expected; NaN where nothing is booked or nobody knows.
    """

    booked: BoolArray
    owned: BoolArray
    expected: FloatArray = field(repr=False)


def planned_minutes(found: Clusters, begin: IntArray, end: IntArray, origin: int, length: int) -> PlannedMinutes:
    """Spread clusters and their own windows over a grid."""
    expected = np.full(length, np.nan, dtype=np.float32)
    known = np.flatnonzero(~np.isnan(found.expected))
    low = np.clip(found.start - origin, 0, length)
    high = np.clip(found.end - origin, 0, length)
    for i in known.tolist():
        expected[low[i] : high[i]] = found.expected[i]
    return PlannedMinutes(
        span_mask(found.start, found.end, origin, length), span_mask(begin, end, origin, length), expected
    )
