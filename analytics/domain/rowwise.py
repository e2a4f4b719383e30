"""Statistics of many short series at once: rows are bookings, columns minutes.

Arrays have shape (rows, width) unless said otherwise; NaN is unknown.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from analytics.domain.plan import MatchRules
from analytics.domain.time import BoolArray, FloatArray, IntArray

FloatMinutes = npt.NDArray[np.float64]


def plateau_of(
    n: npt.NDArray[np.float32], core: BoolArray, slot: BoolArray, rules: MatchRules
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Median, 10th and 90th percentile of the plateau, and the share of it near the median.

    The plateau is the core without pauses: minutes with at least ``dip`` of the 75th percentile of the minutes with
    people. An event of which the core was missed is judged on its whole slot.
    """
    with np.errstate(invalid="ignore"):
        peopled = core & (n >= rules.min_people)
        none = ~peopled.any(axis=1)
        peopled[none] = (slot & (n >= rules.min_people))[none]
        ordered, count = in_order(n, peopled)
        level = quantile(ordered, count, 0.75)
        plateau = peopled & (n >= rules.dip * level[:, None])
    ordered, count = in_order(n, plateau)
    median = quantile(ordered, count, 0.5)
    with np.errstate(invalid="ignore"):
        near = plateau & (np.abs(n - median[:, None]) <= np.maximum(1.0, 0.1 * median)[:, None])
    steady = near.sum(axis=1) / np.maximum(count, 1)
    return median, quantile(ordered, count, 0.1), quantile(ordered, count, 0.9), steady.astype(np.float32)


def in_order(n: npt.NDArray[np.float32], chosen: BoolArray) -> tuple[npt.NDArray[np.float32], IntArray]:
    """Chosen values of each row in order, the others behind them as infinity; and how many there are."""
    return np.sort(np.where(chosen, n, np.float32(np.inf)), axis=1), chosen.sum(axis=1)


def quantile(ordered: npt.NDArray[np.float32], count: IntArray, q: float) -> FloatArray:
    """Quantile of the first ``count`` values of each row, linear between neighbours; NaN for none."""
    rank = q * np.maximum(count - 1, 0)
    below = np.floor(rank).astype(np.int64)
    above = np.minimum(below + 1, np.maximum(count - 1, 0))
    low = np.take_along_axis(ordered, below[:, None], axis=1)[:, 0]
    high = np.take_along_axis(ordered, above[:, None], axis=1)[:, 0]
    share = rank - below
    with np.errstate(invalid="ignore"):
        value = low + np.where(share > 0, (high - low) * share, 0)
    return np.where(count > 0, value, np.nan).astype(np.float32)


def longest_run(mask: BoolArray) -> IntArray:
    """Longest run of True in each row."""
    column = np.arange(mask.shape[1])
    last_false = np.maximum.accumulate(np.where(mask, -1, column), axis=1)
    longest: IntArray = np.where(mask, column - last_false, 0).max(axis=1, initial=0)
    return longest


def held_between(
    n: npt.NDArray[np.float32], half: FloatArray, minute: IntArray, end: IntArray, run: int
) -> tuple[FloatMinutes, FloatMinutes]:
    """When each row first has ``half`` of its people for ``run`` minutes, and when it last does; NaN for never.

    A value stands for the middle of its minute, so the moment is interpolated between two of them. Past the end of
    the booking only those count who stayed on: a room that emptied and fills again has other people.
    """
    above = n >= half[:, None]
    away = ~above & (minute >= end[:, None])
    above &= ~np.logical_or.accumulate(away, axis=1)
    sustained = above.copy()  # True at the first minute of `run` minutes
    for shift in range(1, run):
        sustained[:, :-shift] &= above[:, shift:]
        sustained[:, -shift:] = False
    some = sustained.any(axis=1)
    first = sustained.argmax(axis=1)
    last = sustained.shape[1] - 1 - sustained[:, ::-1].argmax(axis=1) + run - 1
    row = np.arange(n.shape[0])
    origin = minute[:, 0].astype(np.float64)

    def moment(inside: IntArray, outside: IntArray) -> FloatMinutes:
        """Where the line from the last minute outside to the first inside crosses ``half``."""
        on_matrix = (outside >= 0) & (outside < n.shape[1])
        neighbour = n[row, np.clip(outside, 0, n.shape[1] - 1)]
        rise = n[row, inside] - neighbour
        share = np.divide(half - neighbour, rise, out=np.full(row.size, 0.5), where=on_matrix & (rise > 0))
        at: FloatMinutes = origin + outside + 0.5 + (inside - outside) * np.clip(share, 0, 1)
        return at

    begin = np.where(some, moment(first, first - 1), np.nan)
    finish = np.where(some, moment(np.minimum(last, n.shape[1] - 1), last + 1), np.nan)
    return begin, finish


def measured_enough(
    valid: BoolArray, minute: IntArray, start: FloatMinutes | IntArray, end: FloatMinutes | IntArray, rules: MatchRules
) -> BoolArray:
    """Whether enough of ``[start, end)`` was measured to say that nobody was there."""
    span = (minute >= start[:, None]) & (minute < end[:, None])
    enough: BoolArray = (span & valid).sum(axis=1) >= rules.min_coverage * span.sum(axis=1)
    return enough
