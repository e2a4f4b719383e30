"""Simulated sensors: they miss people, count twice, drift, lose messages and fall silent."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from analytics.domain.model import COVERAGE_SCALE, NOT_OBSERVED, SLOT_DTYPE, SlotArray, WatchKind
from analytics.simulate.people import Stays, Times

Minutes = npt.NDArray[np.bool_]


class Fitting(StrEnum):
    """How a room is fitted out."""

    CEILING = "ceiling"
    TWO_HALVES = "two_halves"
    DOOR = "door"
    TWO_DOORS = "two_doors"
    CEILING_AND_DOOR = "ceiling_and_door"


@dataclass(frozen=True)
class SimulatedSensor:
    """One sensor's messages.

    Attributes:
        sensor: id, begins with ``sim-``.
        slots: what it sent, SLOT_DTYPE, sorted; nothing for a minute that was lost.
    """

    sensor: str
    kind: WatchKind
    reversed: bool
    slots: SlotArray


def fit(rng: np.random.Generator, capacity: int) -> Fitting:
    """Large rooms have counted doors more often; small ones a sensor at the ceiling."""
    weights = [0.2, 0.2, 0.2, 0.3, 0.1] if capacity > 60 else [0.55, 0.1, 0.25, 0.0, 0.1]
    return list(Fitting)[int(rng.choice(5, p=weights))]


def observe(
    rng: np.random.Generator, fitting: Fitting, room: str, stays: Stays, origin: int, expected: Minutes
) -> list[SimulatedSensor]:
    """What the sensors of a room send.

    Args:
        origin: minute since 1970 of the first minute.
        expected: minutes of the measuring hours, shape (n,): outside them a sensor sleeps.
    """
    n = expected.size
    sensors: list[SimulatedSensor] = []
    halves = 2 if fitting is Fitting.TWO_HALVES else int(fitting in (Fitting.CEILING, Fitting.CEILING_AND_DOOR))
    kind = WatchKind.PART if fitting is Fitting.TWO_HALVES else WatchKind.ROOM
    side = rng.integers(0, max(halves, 1), stays.enter.size)
    for half in range(halves):
        mine = Stays(stays.enter[side == half], stays.leave[side == half])
        present, highest = _seen(rng, mine.minutes(n)[0])
        sent = expected & ~_silence(rng, n)
        sensors.append(
            SimulatedSensor(f"sim-{room}-c{half}", kind, False, _slots(rng, origin, sent, present, highest, None, None))
        )
    doors = {Fitting.DOOR: 1, Fitting.TWO_DOORS: 2, Fitting.CEILING_AND_DOOR: 1}.get(fitting, 0)
    through_in = rng.integers(0, max(doors, 1), stays.enter.size)
    through_out = rng.integers(0, max(doors, 1), stays.enter.size)
    for door in range(doors):
        _, entered, _ = Stays(stays.enter[through_in == door], stays.leave[through_in == door]).minutes(n)
        _, _, left = Stays(stays.enter[through_out == door], stays.leave[through_out == door]).minutes(n)
        flipped = door == 1
        # Crowds hide each other, more of them on the way out: the drift that door counters are known for.
        coming, going = _passed(rng, entered, rng.uniform(0.003, 0.02)), _passed(rng, left, rng.uniform(0.005, 0.035))
        sent = expected & ~_silence(rng, n)
        pair = (going, coming) if flipped else (coming, going)
        sensors.append(
            SimulatedSensor(
                f"sim-{room}-d{door}", WatchKind.DOOR, flipped, _slots(rng, origin, sent, None, None, *pair)
            )
        )
    return sensors


def _seen(rng: np.random.Generator, present: Times) -> tuple[Times, Times]:
    """A ceiling sensor: people hide behind others, a coat is now and then a person."""
    miss = rng.uniform(0.0, 0.035)
    seen = rng.binomial(present.astype(np.int64), 1 - miss).astype(np.float64)
    ghost = rng.random(present.size) < 0.002
    for begin in np.flatnonzero(rng.random(present.size) < 1 / (40 * 1440)).tolist():
        ghost[begin : begin + int(rng.integers(2, 30))] = True
    seen += ghost
    return seen, seen + rng.binomial(2, 0.2, present.size)


def _passed(rng: np.random.Generator, crossed: Times, miss: float) -> Times:
    """A door counter: misses some, more in a crowd; now and then counts one twice."""
    chance = np.where(crossed > 10, np.minimum(2 * miss, 1), miss)
    counted = rng.binomial(crossed.astype(np.int64), 1 - chance)
    return (counted + rng.binomial(crossed.astype(np.int64), 0.004)).astype(np.float64)


def _silence(rng: np.random.Generator, n: int) -> Minutes:
    """Minutes that never arrive: single messages, outages of an hour or a day, weeks of a dead sensor."""
    lost = rng.random(n) < rng.uniform(0.0, 0.01)
    for chance, shortest, longest in ((0.04, 15, 180), (0.008, 180, 1440), (0.0015, 1440, 7 * 1440)):
        for begin in np.flatnonzero(rng.random(n) < chance / 1440).tolist():
            lost[begin : begin + int(rng.integers(shortest, longest))] = True
    return lost


def _slots(
    rng: np.random.Generator,
    origin: int,
    sent: Minutes,
    present: Times | None,
    highest: Times | None,
    entered: Times | None,
    left: Times | None,
) -> SlotArray:
    at = np.flatnonzero(sent)
    slots = np.zeros(at.size, dtype=SLOT_DTYPE)
    slots["start"], slots["seconds"], slots["health"] = (origin + at) * 60, 60, 1
    slots["present"] = slots["present_max"] = NOT_OBSERVED
    slots["coverage"] = np.where(rng.random(at.size) < 0.02, rng.integers(5_500, 10_000, at.size), COVERAGE_SCALE)
    if present is not None and highest is not None:
        slots["present"], slots["present_max"] = present[at], highest[at]
    if entered is not None and left is not None:
        slots["entered"], slots["left"] = entered[at], left[at]
    return slots
