"""One series of people per minute for a room, from all its sensors.

Presence sensors watch disjoint parts of a room and add up. Door sensors say who went in and out; their sum drifts, so
it is tied to anchors: minutes at which the number of people is known. At night and after a long quiet with nothing
booked a room is empty; where presence sensors see the whole room, every minute they saw is an anchor. The error
between two anchors is spread over the traffic between them, because that is where it was made. Method: sensor
makers reset once a day (Irisys notes on count drift) and spread past errors (PreCount, Energy Informatics 2018 1:12).

Missing is missing: a minute without a valid measurement is NaN, never 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from analytics.domain.model import WatchKind
from analytics.domain.time import BoolArray, FloatArray, IntArray, runs

Levels = npt.NDArray[np.float64]

METHOD = "occupancy-1"
"""Version of this method; stored with every corrected series."""


@dataclass(frozen=True)
class SensorSeries:
    """What one sensor said, minute by minute; arrays of shape (n,) on one grid.

    Attributes:
        present: people in the zone; NaN where nobody looked. None for a sensor that only watches a door.
        entered, left: crossings; zero where nothing was sent.
        coverage: share of each minute that was analysed, 0 where no message came.
        inward: +1 where the line's in side is this room, -1 where it is the room on the other side.
    """

    sensor: str
    watches: WatchKind
    coverage: FloatArray
    present: FloatArray | None = None
    entered: FloatArray | None = None
    left: FloatArray | None = None
    inward: int = 1

    def __post_init__(self) -> None:
        needed = (self.entered, self.left) if self.watches is WatchKind.DOOR else (self.present,)
        for array in needed:
            if array is None or array.shape != self.coverage.shape:
                raise ValueError(f"sensor {self.sensor}: series of kind {self.watches} lack an array of equal length")
        if self.inward not in (1, -1):
            raise ValueError(f"sensor {self.sensor}: inward is {self.inward}, it must be 1 or -1")


@dataclass(frozen=True)
class OccupancyRules:
    """Knobs of the method.

    Attributes:
        min_coverage: a minute counts as measured when at least this share was analysed. Higher loses short
            outages, lower trusts half-seen minutes.
        hole_minutes: a hole in the counts of a door up to this long is bridged: what is left over is put down to it
            first. Behind a longer one the level is only known again from the next anchor, backwards.
        quiet_minutes: nobody passes a door for this long with nothing booked: the room is taken as empty. Longer is
            safer against a single silent reader, shorter corrects more often.
        quiet_rest: at most this share of the traffic since the last anchor may be left for a quiet anchor to hold;
            a bigger rest means that people are probably still there.
    """

    min_coverage: float = 0.5
    hole_minutes: int = 5
    quiet_minutes: int = 30
    quiet_rest: float = 0.15


@dataclass(frozen=True)
class DriftReport:
    """The rest of one door sensor group between two known-empty anchors: a figure of sensor health.

    Attributes:
        start, end: indices of the anchors on the grid.
        rest: people left over at ``end``; positive: more counted in than out.
        traffic: crossings in between.
    """

    start: int
    end: int
    rest: float
    traffic: float


@dataclass(frozen=True)
class Occupancy:
    """People in a room per minute, shape (n,); NaN where unknown.

    Attributes:
        people: corrected.
        raw: before correction: doors integrated from the first anchor without any reset, presence as sent.
        coverage: share of each minute that every sensor needed for it analysed.
        error: people by which a corrected door count may plausibly be off (two standard deviations); 0 for presence.
        drift: one entry per stretch between two known-empty anchors.
        method: version of the method.
    """

    people: FloatArray
    raw: FloatArray
    coverage: FloatArray
    error: FloatArray
    drift: tuple[DriftReport, ...] = field(default=(), repr=False)
    method: str = METHOD

    @property
    def valid(self) -> BoolArray:
        return ~np.isnan(self.people)


def room_occupancy(
    sensors: Sequence[SensorSeries],
    length: int,
    *,
    empty: BoolArray | None = None,
    booked: BoolArray | None = None,
    expected: BoolArray | None = None,
    rules: OccupancyRules | None = None,
) -> Occupancy:
    """Fuse all sensors of a room.

    Args:
        sensors: every sensor of the room; none of them means unknown throughout.
        length: minutes of the grid.
        empty: minutes at which the room is known to be empty (night), shape (length,).
        booked: minutes with a booking or its margin, shape (length,); None: a quiet room is never taken as empty.
        expected: minutes in which sensors are meant to measure, shape (length,); None: always. A minute that nobody
            meant to measure is unknown as any other, but no hole in which crossings went lost.
        rules: knobs.
    """
    rules = rules or OccupancyRules()
    for sensor in sensors:
        if sensor.coverage.shape != (length,):
            raise ValueError(f"sensor {sensor.sensor}: {sensor.coverage.shape[0]} minutes on a grid of {length}")
    whole = [s for s in sensors if s.watches is WatchKind.ROOM]
    parts = [s for s in sensors if s.watches is WatchKind.PART]
    doors = [s for s in sensors if s.watches is WatchKind.DOOR]
    # Sensors that each see the whole room are alternatives; parts need each other.
    presence = [_alternatives(whole, rules)] if whole else []
    if parts:
        presence.append(_sum_of_parts(parts, rules))
    if not doors:
        if not presence:
            nothing = np.full(length, np.nan, dtype=np.float32)
            zero = np.zeros(length, dtype=np.float32)
            return Occupancy(nothing, nothing, zero, zero)
        people, coverage = presence[0]
        for more, also in presence[1:]:
            gap = np.isnan(people)
            people, coverage = np.where(gap, more, people), np.maximum(coverage, also)
        return Occupancy(people, people.copy(), coverage, np.zeros(length, dtype=np.float32))
    seen = presence[0][0] if presence else None
    if len(presence) > 1 and seen is not None:
        seen = np.where(np.isnan(seen), presence[1][0], seen)
    return _with_doors(doors, seen, length, empty, booked, expected, rules)


def _alternatives(sensors: Sequence[SensorSeries], rules: OccupancyRules) -> tuple[FloatArray, FloatArray]:
    """Several sensors that each see the whole room: the best-covered one of each minute, the first on a tie."""
    coverage = np.stack([_cover(s, rules) for s in sensors])
    best = coverage.argmax(axis=0)
    at = np.arange(best.size)
    present = np.stack([_present(s) for s in sensors])
    covered: FloatArray = coverage[best, at]
    people: FloatArray = np.where(covered > 0, present[best, at], np.float32(np.nan))
    return people, covered


def _sum_of_parts(sensors: Sequence[SensorSeries], rules: OccupancyRules) -> tuple[FloatArray, FloatArray]:
    """Disjoint parts add up; a minute that one part missed is unknown for the room."""
    coverage: FloatArray = np.min([_cover(s, rules) for s in sensors], axis=0)
    total: FloatArray = np.sum([_present(s) for s in sensors], axis=0, dtype=np.float32)
    people: FloatArray = np.where(coverage > 0, total, np.float32(np.nan))
    return people, coverage


def _present(sensor: SensorSeries) -> FloatArray:
    assert sensor.present is not None
    return sensor.present


def _cover(sensor: SensorSeries, rules: OccupancyRules) -> FloatArray:
    """Coverage, 0 where a minute is too thin or has no value."""
    usable = sensor.coverage >= rules.min_coverage
    if sensor.watches is not WatchKind.DOOR:
        usable &= ~np.isnan(_present(sensor))
    covered: FloatArray = np.where(usable, sensor.coverage, np.float32(0))
    return covered


def _with_doors(
    doors: Sequence[SensorSeries],
    seen: FloatArray | None,
    length: int,
    empty: BoolArray | None,
    booked: BoolArray | None,
    expected: BoolArray | None,
    rules: OccupancyRules,
) -> Occupancy:
    coverage: FloatArray = np.min([_cover(s, rules) for s in doors], axis=0)
    step = np.zeros(length, dtype=np.float32)
    traffic = np.zeros(length, dtype=np.float32)
    for door in doors:
        assert door.entered is not None
        assert door.left is not None
        step += door.inward * (door.entered - door.left)
        traffic += door.entered + door.left
    measured = coverage > 0
    # A closed door has no crossings: only minutes that should have been measured and were not are holes.
    sound = measured if expected is None else measured | ~expected
    traffic = np.where(measured, traffic, np.float32(0))
    weight, sound = _over_short_holes(traffic, sound, rules.hole_minutes)
    level = np.cumsum(np.where(measured, step, 0), dtype=np.float64)
    value = np.full(length, np.nan, dtype=np.float64)  # people known at the end of a minute
    if seen is not None:
        value[:] = seen
    if empty is not None:
        value[empty & sound & (traffic == 0) & np.isnan(value)] = 0.0
    known = ~np.isnan(value)
    if booked is not None and rules.quiet_minutes > 0:
        known |= _quiet_anchors(level, traffic, measured, known, booked, rules)
        value[known & np.isnan(value)] = 0.0
    anchors = np.flatnonzero(known)
    drift = _drift(level, traffic, sound, anchors, value[anchors])
    people, error = _bridge(level, weight, sound, anchors, value[anchors], _variance(drift))
    people[~measured] = np.nan
    if seen is not None:  # what was seen needs no bridge
        people = np.where(np.isnan(seen), people, seen)
        error = np.where(np.isnan(seen), error, np.float32(0))
        coverage = np.where(np.isnan(seen), coverage, np.float32(1))
    origin = float(level[anchors[0]] - value[anchors[0]]) if anchors.size else 0.0
    raw = np.where(measured, level - origin, np.nan).astype(np.float32)
    covered: FloatArray = np.where(np.isnan(people), np.float32(0), coverage)
    return Occupancy(people, raw, covered, error, drift)


def _quiet_anchors(
    level: Levels, traffic: FloatArray, measured: BoolArray, known: BoolArray, booked: BoolArray, rules: OccupancyRules
) -> BoolArray:
    """Minutes inside a long quiet, with nothing booked, whose level is about what the last anchor said: empty."""
    found = np.zeros(level.size, dtype=np.bool_)
    starts, ends = runs((traffic == 0) & measured & ~booked)
    long = ends - starts >= rules.quiet_minutes
    if not long.any():
        return found
    passed = np.cumsum(traffic, dtype=np.float64)
    fixed = np.flatnonzero(known)
    fixed_level = level[fixed]
    last_level, last_passed, last_at = 0.0, 0.0, -1
    for start, end in zip(starts[long].tolist(), ends[long].tolist(), strict=True):
        before = int(np.searchsorted(fixed, start)) - 1
        if before >= 0 and fixed[before] > last_at:
            last_at = int(fixed[before])
            last_level, last_passed = float(fixed_level[before]), float(passed[last_at])
        rest = abs(float(level[start]) - last_level)
        since = float(passed[start]) - last_passed
        if last_at >= 0 and rest <= max(1.0, rules.quiet_rest * since):
            at = start + rules.quiet_minutes // 2
            found[at:end] = ~known[at:end]
            last_level, last_passed, last_at = float(level[at]), float(passed[at]), end - 1
    return found


def _over_short_holes(traffic: FloatArray, sound: BoolArray, longest: int) -> tuple[FloatArray, BoolArray]:
    """Where an error is likely to have been made, and the minutes to bridge over.

    A crossing weighs 1. A minute of a short hole weighs ten times the traffic beside it: all of that may be missing,
    of a counted crossing only a few in a hundred are wrong.
    """
    starts, ends = runs(~sound)
    short = ends - starts <= longest
    starts, ends = starts[short], ends[short]
    if starts.size == 0:
        return traffic, sound
    padded = np.pad(traffic, 2)
    beside = (padded[starts] + padded[starts + 1] + padded[np.minimum(ends + 2, padded.size - 1)]) / 3
    weight, bridged = traffic.copy(), sound.copy()
    for start, end, near in zip(starts.tolist(), ends.tolist(), beside.tolist(), strict=True):
        weight[start:end] = 10 * near + 0.5
        bridged[start:end] = True
    return weight, bridged


def _variance(drift: Sequence[DriftReport]) -> float:
    """Variance that one crossing adds to the count, from the rests seen so far; 1 in 50 where nothing was seen yet."""
    rest = sum(d.rest**2 for d in drift) + 1.0
    return rest / (sum(d.traffic for d in drift) + 50.0)


def _bridge(
    level: Levels,
    traffic: FloatArray,
    sound: BoolArray,
    anchors: IntArray,
    value: Levels,
    variance: float,
) -> tuple[FloatArray, FloatArray]:
    """Levels tied to the anchors; the error of each stretch is spread in proportion to its traffic.

    A stretch with a hole (a minute that no door measured) cannot be bridged: crossings are lost in the hole. Before
    it the level follows from the anchor on the left, behind it from the anchor on the right, inside it is unknown.
    """
    n = level.size
    people = np.full(n, np.nan, dtype=np.float64)
    if anchors.size == 0:
        return people.astype(np.float32), np.zeros(n, dtype=np.float32)
    at = np.arange(n)
    left = np.searchsorted(anchors, at, side="right") - 1
    right = np.minimum(left + 1, anchors.size - 1)
    has_left, has_right = left >= 0, left + 1 < anchors.size
    left = np.maximum(left, 0)
    passed = np.cumsum(traffic, dtype=np.float64)
    holes = np.cumsum(~sound)
    from_left = level - level[anchors[left]] + value[left]
    from_right = level - level[anchors[right]] + value[right]
    clear_left = has_left & (holes == holes[anchors[left]])
    clear_right = has_right & (holes == holes[anchors[right]])
    span = passed[anchors[right]] - passed[anchors[left]]
    share = np.divide(passed - passed[anchors[left]], span, out=np.zeros(n), where=span > 0)
    error = from_left - from_right  # constant along a stretch: what is left over at its end
    bridged = from_left - error * share
    people = np.where(clear_left & clear_right, bridged, people)
    people = np.where(clear_left & ~clear_right, from_left, people)
    people = np.where(clear_right & ~clear_left, from_right, people)
    people[anchors] = value
    # A walk tied at both ends is widest in its middle; one tied at one end grows with the traffic since.
    walked = np.where(clear_left, passed - passed[anchors[left]], passed[anchors[right]] - passed)
    walked = np.where(clear_left & clear_right, span * share * (1 - share), walked)
    error = 2 * np.sqrt(variance * np.maximum(walked, 0))
    return np.maximum(np.rint(people), 0).astype(np.float32), error.astype(np.float32)  # NaN stays NaN


def _drift(
    level: Levels, traffic: FloatArray, sound: BoolArray, anchors: IntArray, value: Levels
) -> tuple[DriftReport, ...]:
    """Rest and traffic of every stretch between anchors that held traffic and no hole."""
    if anchors.size < 2:
        return ()
    passed = np.cumsum(traffic, dtype=np.float64)[anchors]
    holes = np.cumsum(~sound)[anchors]
    rest = np.diff(level[anchors]) - np.diff(value)
    crossings = np.diff(passed)
    whole = (crossings > 0) & (np.diff(holes) == 0)
    return tuple(
        DriftReport(int(anchors[i]), int(anchors[i + 1]), float(rest[i]), float(crossings[i]))
        for i in np.flatnonzero(whole)
    )


def combine(rooms: Sequence[Occupancy]) -> Occupancy:
    """Rooms used as one (a partition folded away): people add up, a minute unknown in one is unknown in all."""
    if not rooms:
        raise ValueError("there are no rooms to combine")
    people: FloatArray = np.sum([room.people for room in rooms], axis=0, dtype=np.float32)
    raw: FloatArray = np.sum([room.raw for room in rooms], axis=0, dtype=np.float32)
    coverage: FloatArray = np.min([room.coverage for room in rooms], axis=0)
    error: FloatArray = np.sqrt(np.sum([room.error**2 for room in rooms], axis=0, dtype=np.float32))
    return Occupancy(people, raw, coverage, error)
