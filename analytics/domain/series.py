"""From the slots of a sensor to one value a minute: missing is NaN, never 0."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analytics.domain.model import COVERAGE_SCALE, HEALTH_BITS, NOT_OBSERVED, SlotArray, WatchKind
from analytics.domain.occupancy import SensorSeries
from analytics.domain.time import FloatArray

_BLIND = HEALTH_BITS["blocked"] | HEALTH_BITS["moved"] | HEALTH_BITS["no_signal"]
"""Faults under which a number says nothing about the room. A dark or overloaded sensor says so in its coverage."""


@dataclass(frozen=True)
class MinuteCounts:
    """One sensor, minute by minute; arrays of shape (n,).

    Attributes:
        present: people in view; NaN where nobody looked.
        entered, left: crossings; 0 where nothing was sent.
        coverage: share of the minute analysed; 0 where nothing was sent or the sensor was blind.
    """

    present: FloatArray
    entered: FloatArray
    left: FloatArray
    coverage: FloatArray

    def watching(self, sensor: str, kind: WatchKind, *, reversed_door: bool = False) -> SensorSeries:
        """As a sensor of a room."""
        return SensorSeries(
            sensor, kind, self.coverage, self.present, self.entered, self.left, -1 if reversed_door else 1
        )


def per_minute(slots: SlotArray, start: int, length: int) -> MinuteCounts:
    """Lay slots on a grid of ``length`` minutes from minute ``start``.

    Slots longer than a minute hold for each of their minutes, their crossings count at the first. Of slots shorter
    than a minute presence is the mean over what was observed, rounded; crossings add up.

    Args:
        slots: shape (k,), SLOT_DTYPE, sorted by start; those outside the grid are left out.
    """
    if slots.size and not (slots["seconds"] == 60).all():
        return _mixed(slots, start, length)
    present = np.full(length, np.nan, dtype=np.float32)
    entered, left, coverage = (np.zeros(length, dtype=np.float32) for _ in range(3))
    at = slots["start"] // 60 - start
    inside = (at >= 0) & (at < length)
    at, slots = at[inside], slots[inside]
    share, seen = _quality(slots)
    coverage[at] = share
    present[at] = np.where(seen, slots["present"], np.nan)
    entered[at], left[at] = slots["entered"], slots["left"]
    return MinuteCounts(present, entered, left, coverage)


def _quality(slots: SlotArray) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    blind = (slots["health"] & _BLIND) != 0
    share = np.where(blind, 0.0, slots["coverage"] / COVERAGE_SCALE)
    return share, (slots["present"] != NOT_OBSERVED) & (share > 0)


def _mixed(slots: SlotArray, start: int, length: int) -> MinuteCounts:
    """Any slot lengths, by overlap of each slot with each minute."""
    share, seen = _quality(slots)
    begin = slots["start"] - start * 60
    end = begin + slots["seconds"]
    first, last = begin // 60, (end - 1) // 60
    weight, people, looked = (np.zeros(length) for _ in range(3))
    entered, left = np.zeros(length), np.zeros(length)
    home = (first >= 0) & (first < length)
    np.add.at(entered, first[home], slots["entered"][home])
    np.add.at(left, first[home], slots["left"][home])
    for step in range(int((last - first).max()) + 1):
        minute = first + step
        inside = (minute <= last) & (minute >= 0) & (minute < length)
        overlap = np.minimum(end, (minute + 1) * 60) - np.maximum(begin, minute * 60)
        part = (overlap / 60 * share)[inside]
        np.add.at(weight, minute[inside], part)
        eyes = part * seen[inside]
        np.add.at(looked, minute[inside], eyes)
        np.add.at(people, minute[inside], eyes * slots["present"][inside])
    present = np.rint(np.divide(people, looked, out=np.full(length, np.nan), where=looked > 0))
    return MinuteCounts(
        present.astype(np.float32), entered.astype(np.float32), left.astype(np.float32),
        np.minimum(weight, 1.0).astype(np.float32),
    )  # fmt: skip
