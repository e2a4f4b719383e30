"""How far counts are from the truth. Pure functions on arrays and events; no input, no output.

Numerators and denominators are kept and added up over clips: percentages are never averaged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from counter.types import Direction

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

UNKNOWN = -1
TOLERANCE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Event:
    """Somebody crosses a line at ``t`` seconds."""

    line: str
    direction: Direction
    t: float


@dataclass(frozen=True, slots=True)
class Sums:
    """Errors added up: what MAE, WAPE and bias are quotients of.

    Attributes:
        n: how many values were compared (intervals, or seconds of presence).
        truth: sum of the true values.
        absolute: sum of ``|counted - true|``.
        signed: sum of ``counted - true``.
    """

    n: float = 0.0
    truth: float = 0.0
    absolute: float = 0.0
    signed: float = 0.0

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.n + other.n,
            self.truth + other.truth,
            self.absolute + other.absolute,
            self.signed + other.signed,
        )

    @property
    def mae(self) -> float | None:
        """Mean absolute error; None where nothing was compared."""
        return self.absolute / self.n if self.n else None

    @property
    def wape(self) -> float | None:
        """Weighted absolute percentage error, as a share: the sum of errors over the sum of the truth."""
        return self.absolute / self.truth if self.truth else None

    @property
    def bias(self) -> float | None:
        """Signed bias as a share of the truth: above 0 counts too many."""
        return self.signed / self.truth if self.truth else None


def sums(counted: Sequence[float] | Ints | Floats, true: Sequence[float] | Ints | Floats) -> Sums:
    """Add up the errors of paired values."""
    error = np.asarray(counted, np.float64) - np.asarray(true, np.float64)
    return Sums(float(error.size), float(np.sum(true)), float(np.abs(error).sum()), float(error.sum()))


@dataclass(frozen=True, slots=True)
class Presence:
    """Presence frame by frame, each weighted by the time until the next.

    Attributes:
        seconds: how long the truth is known.
        exact: seconds in which the count is right.
        within_one: seconds in which it is at most one person off.
        error: person-seconds.
    """

    seconds: float = 0.0
    exact: float = 0.0
    within_one: float = 0.0
    error: Sums = Sums()

    def __add__(self, other: Presence) -> Presence:
        return Presence(
            self.seconds + other.seconds,
            self.exact + other.exact,
            self.within_one + other.within_one,
            self.error + other.error,
        )


def durations(times: Floats) -> Floats:
    """How long each frame stands for: until the next one; the last as long as the median frame."""
    if len(times) < 2:
        return np.ones(len(times))
    steps = np.diff(times)
    return np.append(steps, np.median(steps))


def presence(times: Floats, counted: Ints, true: Ints) -> Presence:
    """Compare presence per frame. ``true`` is ``UNKNOWN`` where nobody knows."""
    known = true != UNKNOWN
    weight = durations(times)[known]
    error = (counted - true)[known].astype(np.float64)
    return Presence(
        float(weight.sum()),
        float(weight[error == 0].sum()),
        float(weight[np.abs(error) <= 1].sum()),
        Sums(
            float(weight.sum()),
            float((weight * true[known]).sum()),
            float((weight * np.abs(error)).sum()),
            float((weight * error).sum()),
        ),
    )


def intervals(times: Floats, seconds: float) -> Ints:
    """The number of the interval ``[k * seconds, (k + 1) * seconds)`` to which each time belongs."""
    return np.floor(np.asarray(times) / seconds + 1e-9).astype(np.int64)


def interval_presence(times: Floats, counted: Ints, true: Ints, seconds: float) -> Sums:
    """Compare the median presence per interval, as a count record reports it (halves are rounded up)."""
    known = true != UNKNOWN
    numbers = intervals(times, seconds)[known]
    pairs = [
        (np.floor(np.median(counted[known][numbers == k]) + 0.5), np.floor(np.median(true[known][numbers == k]) + 0.5))
        for k in np.unique(numbers)
    ]
    return sums([p[0] for p in pairs], [p[1] for p in pairs])


def interval_events(counted: Sequence[Event], true: Sequence[Event], until: float, seconds: float) -> Sums:
    """Compare crossings per interval, line and direction; intervals in which nothing happened count too."""
    keys = {(e.line, e.direction) for e in (*counted, *true)}
    last = max(int(np.ceil(until / seconds)), 1)
    total = Sums()
    for key in sorted(keys):
        columns = []
        for events in (counted, true):
            numbers = intervals(np.array([e.t for e in events if (e.line, e.direction) == key], np.float64), seconds)
            columns.append(np.bincount(np.clip(numbers, 0, last - 1), minlength=last))
        total += sums(columns[0], columns[1])
    return total


@dataclass(frozen=True, slots=True)
class Matches:
    """Events found (``hits``), invented and missed."""

    hits: int = 0
    invented: int = 0
    missed: int = 0

    def __add__(self, other: Matches) -> Matches:
        return Matches(self.hits + other.hits, self.invented + other.invented, self.missed + other.missed)

    @property
    def precision(self) -> float | None:
        found = self.hits + self.invented
        return self.hits / found if found else None

    @property
    def recall(self) -> float | None:
        there = self.hits + self.missed
        return self.hits / there if there else None


def match_events(counted: Sequence[Event], true: Sequence[Event], tolerance: float = TOLERANCE_SECONDS) -> Matches:
    """Pair counted with true events: same line, same direction, at most ``tolerance`` seconds apart, one to one.

    Going through both in order of time and pairing the earliest that fit is optimal, since all windows are equally
    long.
    """
    hits = 0
    for key in {(e.line, e.direction) for e in true}:
        ours = sorted(e.t for e in counted if (e.line, e.direction) == key)
        theirs = sorted(e.t for e in true if (e.line, e.direction) == key)
        i = j = 0
        while i < len(ours) and j < len(theirs):
            if abs(ours[i] - theirs[j]) <= tolerance + 1e-9:
                hits, i, j = hits + 1, i + 1, j + 1
            elif ours[i] < theirs[j]:
                i += 1
            else:
                j += 1
    return Matches(hits, len(counted) - hits, len(true) - hits)


def total_error(counted: Sequence[Event], true: dict[tuple[str, Direction], int]) -> Sums:
    """Compare totals per line and direction, where the truth knows no times."""
    found = Counter((e.line, e.direction) for e in counted)
    keys = sorted(set(found) | set(true))
    return sums([found[k] for k in keys], [true.get(k, 0) for k in keys])
