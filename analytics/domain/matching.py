"""Hold a room's people per minute against its bookings: outcome, attendance and the reasons for both.

All bookings of a room are judged at once, on one matrix with a row a cluster (overlapping bookings are one cluster,
see ``plan``) and a column a minute. Every minute belongs to at most one cluster.

Attendance is a robust estimate of the plateau: the median over the core of the event without breaks and pauses. The
peak is too high at changeovers, the mean too low when people come late; both are reported beside it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag

import numpy as np
import numpy.typing as npt

from analytics.domain.plan import Clusters, MatchRules, Plan, clusters, own_windows
from analytics.domain.rowwise import (
    FloatMinutes,
    held_between,
    in_order,
    longest_run,
    measured_enough,
    plateau_of,
    quantile,
)
from analytics.domain.time import BoolArray, FloatArray, IntArray

_FILL_MINUTES = 5
"""A single lost message is no end of an event: presence carries over holes up to this long."""
_MATRIX_CELLS = 2_000_000
"""Cells of one matrix at most, so that a year of a busy room stays in little memory."""


class Outcome(IntEnum):
    """What became of a booking; one each. Where several hold the first of this order counts, all are in the flags."""

    UNKNOWN = 0
    NO_SHOW = 1
    OVER_CAPACITY = 2
    OVERRUN = 3
    EARLY_END = 4
    LATE_START = 5
    HELD = 6

    @property
    def word(self) -> str:
        """The word used in the API, CSV and pages."""
        return self.name.lower()


class Flag(IntFlag):
    """Everything that holds for a booking."""

    LATE_START = 1
    EARLY_END = 2
    OVERRUN = 4
    OVER_CAPACITY = 8
    NO_SHOW = 16
    LOW_COVERAGE = 32
    NO_LENGTH = 64
    SHARED = 128
    """Overlaps another booking of the room: attendance is that of both together."""


@dataclass(frozen=True)
class Reason:
    """Why: a rule with its threshold, what was found, and the minutes ``[start, end)`` that it looked at."""

    rule: str
    found: float
    threshold: float
    start: int
    end: int


@dataclass(frozen=True)
class Matches:
    """Results a booking, arrays of shape (bookings,) in the order of the plan. NaN is unknown.

    Attributes:
        outcome: ``Outcome`` values, int8.
        flags: ``Flag`` bits, int16.
        cluster: index into ``clusters``, -1 for a booking without length.
        attendance: people, robust; ``low`` and ``high`` its 10th and 90th percentile over the plateau.
        mean, p95, peak: over the measured minutes of the slot.
        confidence: 0 to 1: share of the core measured times share of the plateau near the attendance.
        coverage: share of the slot measured.
        begin, finish: minutes at which half of the attendance was in and no longer in.
        release: minutes that a release policy could have given back.
    """

    plan: Plan
    rules: MatchRules
    clusters: Clusters
    own_begin: IntArray
    own_end: IntArray
    cluster: IntArray
    outcome: npt.NDArray[np.int8]
    flags: npt.NDArray[np.int16]
    attendance: FloatArray
    low: FloatArray
    high: FloatArray
    mean: FloatArray
    p95: FloatArray
    peak: FloatArray
    confidence: FloatArray
    coverage: FloatArray
    first_half: FloatArray = field(repr=False)
    run: FloatArray = field(repr=False)
    begin: FloatMinutes
    finish: FloatMinutes
    release: FloatArray

    def reasons(self, i: int) -> tuple[Reason, ...]:
        """The rules that led to the outcome of booking ``i``, the deciding one first."""
        rules, c = self.rules, int(self.cluster[i])
        if c < 0:
            at = int(self.plan.start[i])
            return (Reason("no_length", 0.0, 1.0, at, at),)
        start, end = int(self.clusters.start[c]), int(self.clusters.end[c])
        own = (int(self.own_begin[c]), int(self.own_end[c]))
        flags = Flag(int(self.flags[i]))
        capacity = float(self.plan.capacity[i])
        found: list[Reason] = []
        if flags & Flag.LOW_COVERAGE:
            found.append(Reason("coverage_of_slot", float(self.coverage[i]), rules.min_coverage, start, end))
            half = (start + end) // 2
            found.append(
                Reason("coverage_of_first_half", float(self.first_half[i]), rules.min_coverage / 2, start, half)
            )
            return tuple(found)
        sustained = float(min(rules.sustained, max((end - start) // 3, 1)))
        if flags & Flag.NO_SHOW:
            return (Reason("longest_presence_minutes", float(self.run[i]), sustained, *own),)
        begin, finish = float(self.begin[i]), float(self.finish[i])
        due, until = start + rules.start_offset, end - rules.end_offset
        if flags & Flag.OVER_CAPACITY:
            most = capacity + max(rules.over_people, rules.over_share * capacity)
            found.append(Reason("attendance_above_capacity", float(self.attendance[i]), most, start, end))
        if flags & Flag.OVERRUN:
            found.append(Reason("minutes_past_the_end", finish - end, float(rules.overrun), end, math.ceil(finish)))
        if flags & Flag.EARLY_END:
            found.append(
                Reason("minutes_before_the_end", until - finish, float(rules.early), math.floor(finish), until)
            )
        if flags & Flag.LATE_START:
            found.append(Reason("minutes_after_the_start", begin - due, float(rules.late), due, math.ceil(begin)))
        found.append(Reason("longest_presence_minutes", float(self.run[i]), sustained, *own))
        return tuple(found)


def match_room(
    people: FloatArray,
    origin: int,
    plan: Plan,
    rules: MatchRules | None = None,
    *,
    breaks: BoolArray | None = None,
    error: FloatArray | None = None,
) -> Matches:
    """Judge every booking of a room.

    Args:
        people: people per minute from minute ``origin``, NaN where unknown, shape (n,).
        plan: the bookings, as known when each of them started.
        rules: site rules.
        breaks: minutes that are breaks of the site, shape (n,).
        error: by how much the counts may plausibly be off (door counts), shape (n,): a rest of that size that stays
            all through a booking's minutes is not people.

    Raises:
        ValueError: arrays differ in length.
    """
    rules = rules or MatchRules()
    for name, array in (("breaks", breaks), ("error", error)):
        if array is not None and array.shape != people.shape:
            raise ValueError(f"{name} has {array.shape[0]} minutes, people has {people.shape[0]}")
    found = clusters(plan)
    own_begin, own_end = own_windows(people, origin, found, rules)
    judged = _judge(people, origin, found, own_begin, own_end, rules, breaks, error)
    return _spread(plan, rules, found, own_begin, own_end, judged)


@dataclass
class _Judged:
    """Columns per cluster; see ``Matches``."""

    outcome: npt.NDArray[np.int8]
    flags: npt.NDArray[np.int16]
    numbers: npt.NDArray[np.float32]  # (clusters, len(_NUMBERS))
    times: FloatMinutes  # (clusters, 3): begin, finish, end of its own minutes with an overrun


_NUMBERS = (
    "attendance", "low", "high", "mean", "p95", "peak", "confidence", "coverage", "first_half", "run", "release",
)  # fmt: skip


def _judge(
    people: FloatArray,
    origin: int,
    found: Clusters,
    own_begin: IntArray,
    own_end: IntArray,
    rules: MatchRules,
    breaks: BoolArray | None,
    error: FloatArray | None,
) -> _Judged:
    count = found.start.size
    result = _Judged(
        np.zeros(count, dtype=np.int8),
        np.zeros(count, dtype=np.int16),
        np.full((count, len(_NUMBERS)), np.nan, dtype=np.float32),
        np.full((count, 3), np.nan),
    )
    # People who stay are followed into time that is nobody else's.
    horizon = np.maximum(own_end, found.end + rules.overrun_horizon)
    if count > 1:
        horizon[:-1] = np.minimum(horizon[:-1], np.maximum(own_begin[1:], own_end[:-1]))
    width = horizon - own_begin
    order = np.argsort(width, kind="stable")  # rows of like length share a matrix
    at = 0
    while at < count:
        rows = 1
        while at + rows < count and (rows + 1) * int(width[order[at + rows]]) <= _MATRIX_CELLS:
            if width[order[at + rows]] > 2 * max(int(width[order[at]]), 120):
                break
            rows += 1
        chunk = order[at : at + rows]
        window = _window(people, origin, chunk, found, own_begin, own_end, horizon, rules, breaks, error)
        _judge_rows(window, chunk, found, rules, result)
        at += rows
    return result


@dataclass
class _Window:
    """One matrix: rows are clusters, columns minutes from the begin of each one's own time."""

    minute: IntArray  # (rows, width)
    people: npt.NDArray[np.float32]  # NaN unknown or not its own
    filled: npt.NDArray[np.float32]  # short holes carried over, 0 where unknown
    slot: BoolArray
    core: BoolArray


def _window(
    people: FloatArray,
    origin: int,
    rows: IntArray,
    found: Clusters,
    own_begin: IntArray,
    own_end: IntArray,
    horizon: IntArray,
    rules: MatchRules,
    breaks: BoolArray | None,
    error: FloatArray | None,
) -> _Window:
    width = int((horizon[rows] - own_begin[rows]).max())
    minute = own_begin[rows, None] + np.arange(width)
    index = minute - origin
    inside = (minute < horizon[rows, None]) & (index >= 0) & (index < people.size)
    index = np.clip(index, 0, max(people.size - 1, 0))
    n = (
        np.where(inside, people[index], np.float32(np.nan))
        if people.size
        else np.full(minute.shape, np.nan, np.float32)
    )
    if error is not None and people.size:
        n = _without_rest(n, np.where(inside, error[index], 0), minute < own_end[rows, None])
    start, end = found.start[rows, None], found.end[rows, None]
    slot = (minute >= start) & (minute < end)
    trim = rules.core_trim
    core = (minute >= start + rules.start_offset + trim) & (minute < end - rules.end_offset - trim)
    if breaks is not None and people.size:
        core &= ~(breaks[index] & inside)
    short = core.sum(axis=1) < 10  # too short an event for trimming
    core[short] = slot[short]
    column = np.arange(width)
    last = np.maximum.accumulate(np.where(np.isnan(n), -1, column), axis=1)
    held = np.take_along_axis(n, np.maximum(last, 0), axis=1)
    filled = np.where((last >= 0) & (column - last <= _FILL_MINUTES) & inside, held, np.float32(0))
    return _Window(minute, n, filled.astype(np.float32), slot, core)


def _without_rest(
    n: npt.NDArray[np.float32], error: npt.NDArray[np.float32], own: BoolArray
) -> npt.NDArray[np.float32]:
    """Take off what a drifting counter leaves standing: the least of a booking's own minutes, where it is plausible."""
    with np.errstate(invalid="ignore"):
        floor = np.where(own & ~np.isnan(n), n, np.inf).min(axis=1, initial=np.inf)
    slack = error.max(axis=1, initial=0)
    rest = np.where(np.isfinite(floor) & (floor <= slack), floor, 0)
    return (n - rest[:, None]).astype(np.float32)


def _judge_rows(window: _Window, rows: IntArray, found: Clusters, rules: MatchRules, result: _Judged) -> None:
    n, slot, core, minute = window.people, window.slot, window.core, window.minute
    start, end = found.start[rows], found.end[rows]
    length = end - start
    valid = ~np.isnan(n)
    column = {name: i for i, name in enumerate(_NUMBERS)}
    out = np.full((rows.size, len(_NUMBERS)), np.nan, dtype=np.float32)

    coverage = (valid & slot).sum(axis=1) / length
    first = slot & (minute < ((start + end) // 2)[:, None])
    first_half = (valid & first).sum(axis=1) / np.maximum(first.sum(axis=1), 1)
    known = (coverage >= rules.min_coverage) & (first_half >= rules.min_coverage / 2)

    attendance, low, high, steady = plateau_of(n, core & valid, slot & valid, rules)
    measured_core = (core & valid).sum(axis=1) / np.maximum(core.sum(axis=1), 1)
    slot_sorted, slot_count = in_order(n, slot & valid)

    present = window.filled >= rules.min_people
    longest = longest_run(present & slot)
    needed = np.minimum(rules.sustained, np.maximum(length // 3, 1))
    no_show = known & (longest < needed)
    came = known & ~no_show

    half = np.maximum(rules.min_people, rules.dip * np.nan_to_num(attendance))
    begin, finish = held_between(window.filled, half, minute, end, rules.min_run)
    begin[~came] = finish[~came] = np.nan
    due, until = start + rules.start_offset, end - rules.end_offset
    late = (begin - due > rules.late) & measured_enough(valid, minute, due, begin, rules)
    early = (until - finish > rules.early) & measured_enough(valid, minute, finish, until, rules)
    overrun = finish - end > rules.overrun
    capacity = found.capacity[rows]
    with np.errstate(invalid="ignore"):
        over = came & (attendance > capacity + np.maximum(rules.over_people, rules.over_share * capacity))

    release = np.where(no_show, length - rules.grace, np.where(early, end - finish, 0)).astype(np.float32)
    release[release < rules.min_block] = 0
    release[~known] = np.nan

    flags = late * Flag.LATE_START | early * Flag.EARLY_END | overrun * Flag.OVERRUN | over * Flag.OVER_CAPACITY
    flags = flags | no_show * Flag.NO_SHOW | ~known * Flag.LOW_COVERAGE | (found.size[rows] > 1) * Flag.SHARED
    result.flags[rows] = flags.astype(np.int16)
    result.outcome[rows] = np.select(
        [~known, no_show, over, overrun, early, late],
        [
            Outcome.UNKNOWN,
            Outcome.NO_SHOW,
            Outcome.OVER_CAPACITY,
            Outcome.OVERRUN,
            Outcome.EARLY_END,
            Outcome.LATE_START,
        ],
        Outcome.HELD,
    ).astype(np.int8)
    nothing = slot_count == 0
    with np.errstate(invalid="ignore"):
        mean = np.where(slot & valid, n, 0).sum(axis=1) / np.maximum(slot_count, 1)
    out[:, column["attendance"]] = np.where(no_show, 0, np.where(known, attendance, np.nan))
    out[:, column["low"]] = np.where(no_show, 0, np.where(known, low, np.nan))
    out[:, column["high"]] = np.where(no_show, 0, np.where(known, high, np.nan))
    out[:, column["mean"]] = np.where(nothing, np.nan, mean)
    out[:, column["p95"]] = quantile(slot_sorted, slot_count, 0.95)
    out[:, column["peak"]] = quantile(slot_sorted, slot_count, 1.0)
    out[:, column["confidence"]] = np.where(known, measured_core * np.where(no_show, 1.0, steady), 0)
    out[:, column["coverage"]] = coverage
    out[:, column["first_half"]] = first_half
    out[:, column["run"]] = longest
    out[:, column["release"]] = release
    result.numbers[rows] = out
    result.times[rows, 0], result.times[rows, 1] = begin, finish
    result.times[rows, 2] = np.where(overrun, finish, np.nan)


def _spread(
    plan: Plan, rules: MatchRules, found: Clusters, own_begin: IntArray, own_end: IntArray, judged: _Judged
) -> Matches:
    """From clusters to the bookings in them."""
    of = found.of
    has = of >= 0
    at = np.maximum(of, 0)
    if found.start.size == 0:
        at = np.zeros(0, dtype=np.int64)
    numbers = np.full((plan.size, len(_NUMBERS)), np.nan, dtype=np.float32)
    times = np.full((plan.size, 3), np.nan)
    outcome = np.full(plan.size, Outcome.UNKNOWN, dtype=np.int8)
    flags = np.full(plan.size, int(Flag.NO_LENGTH), dtype=np.int16)
    if has.any():
        numbers[has], times[has] = judged.numbers[at[has]], judged.times[at[has]]
        outcome[has], flags[has] = judged.outcome[at[has]], judged.flags[at[has]]
    columns = {name: numbers[:, i] for i, name in enumerate(_NUMBERS)}
    columns["confidence"] = np.nan_to_num(columns["confidence"])
    columns["coverage"] = np.nan_to_num(columns["coverage"])
    own_end = np.fmax(own_end, np.ceil(judged.times[:, 2])).astype(np.int64)
    own_end[:-1] = np.minimum(own_end[:-1], own_begin[1:])
    return Matches(
        plan=plan, rules=rules, clusters=found, own_begin=own_begin, own_end=own_end, cluster=of,
        outcome=outcome, flags=flags, begin=times[:, 0], finish=times[:, 1], **columns,
    )  # fmt: skip
