"""Recurring bookings as series: structurally under-used or over-full, and the smallest room that would fit.

The room that a series needs is its 90th percentile attendance with headroom, held against room classes.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from analytics.domain.matching import Outcome
from analytics.domain.time import FloatArray

KeyT = TypeVar("KeyT", bound=Hashable)

DEFAULT_CLASSES: tuple[int, ...] = (8, 16, 30, 60, 100, 200, 400)
"""Largest number of seats of each room class, rising."""


class Verdict(StrEnum):
    """What a series says about its room. Bands: under 60 % under-used, over 100 % over-full."""

    UNKNOWN = "unknown"
    NEVER_HELD = "never_held"
    UNDER_USED = "under_used"
    FITS = "fits"
    OVER_FULL = "over_full"


@dataclass(frozen=True)
class SeriesRules:
    """Knobs of the verdict.

    Attributes:
        quantile, headroom: the room is sized for this quantile of the attendance, times 1 + headroom.
        least_held: occurrences measured before anything structural is said.
        under: share of the seats below which a room is under-used.
        classes: largest number of seats of each class, rising.
    """

    quantile: float = 0.9
    headroom: float = 0.1
    least_held: int = 3
    under: float = 0.6
    classes: tuple[int, ...] = DEFAULT_CLASSES


@dataclass(frozen=True)
class SeriesSummary:
    """One recurring booking.

    Attributes:
        bookings: occurrences; ``judged`` of them had coverage enough; ``held`` of those took place.
        no_shows: judged ones that did not take place.
        median, p90: attendance of the held ones; NaN for none.
        capacity: seats of the room it was in most often; NaN where unknown.
        seats_needed: p90 with headroom, rounded up; -1 unknown.
        class_needed: seats of the smallest class that fits; -1 unknown or larger than every class.
    """

    bookings: int
    judged: int
    held: int
    no_shows: int
    median: float
    p90: float
    capacity: float
    seats_needed: int
    class_needed: int
    verdict: Verdict


def summarise(
    keys: Sequence[KeyT],
    outcome: npt.NDArray[np.int8],
    attendance: FloatArray,
    capacity: FloatArray,
    rules: SeriesRules | None = None,
) -> dict[KeyT, SeriesSummary]:
    """Summaries by key, in order of first appearance; arrays and ``keys`` have one entry a booking."""
    rules = rules or SeriesRules()
    members: dict[KeyT, list[int]] = {}
    for i, key in enumerate(keys):
        members.setdefault(key, []).append(i)
    return {
        key: _summary(outcome[at], attendance[at], capacity[at], rules)
        for key, at in ((key, np.array(found)) for key, found in members.items())
    }


def _summary(
    outcome: npt.NDArray[np.int8], attendance: FloatArray, capacity: FloatArray, rules: SeriesRules
) -> SeriesSummary:
    judged = outcome != Outcome.UNKNOWN
    no_show = outcome == Outcome.NO_SHOW
    held = attendance[judged & ~no_show & ~np.isnan(attendance)]
    seats = capacity[~np.isnan(capacity)]
    usual = float("nan")
    if seats.size:
        values, count = np.unique(seats, return_counts=True)
        usual = float(values[count.argmax()])
    median = p90 = float("nan")
    needed = fitting = -1
    verdict = Verdict.UNKNOWN
    if held.size:
        median, p90 = float(np.median(held)), float(np.quantile(held, rules.quantile))
        needed = int(np.ceil(round(p90 * (1 + rules.headroom), 6)))
        fitting = next((size for size in rules.classes if size >= needed), -1)
    if held.size >= rules.least_held and not np.isnan(usual):
        verdict = (
            Verdict.OVER_FULL if p90 > usual else Verdict.UNDER_USED if p90 < rules.under * usual else Verdict.FITS
        )
    elif not held.size and int(no_show.sum()) >= rules.least_held:
        verdict = Verdict.NEVER_HELD
    return SeriesSummary(
        int(outcome.size), int(judged.sum()), int(held.size), int(no_show.sum()),
        median, p90, usual, needed, fitting, verdict,
    )  # fmt: skip
