"""A simulated timetable on the grids that Dutch campuses use.

Grids: 4TU hours (08:45-10:30 and so on, a quarter between blocks), two-hour blocks back to back of which the first
quarter is not taught (Leiden's academic quarter), and meeting rooms booked at any half hour.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from analytics.domain.plan import MatchRules


class Grid(StrEnum):
    TECHNICAL = "technical"
    QUARTER = "quarter"
    MEETING = "meeting"


_BLOCKS = {
    Grid.TECHNICAL: ((525, 630), (645, 750), (825, 930), (945, 1050), (1125, 1230)),
    Grid.QUARTER: ((540, 660), (660, 780), (780, 900), (900, 1020), (1020, 1140)),
}
RULES = {
    Grid.TECHNICAL: MatchRules(),
    Grid.QUARTER: MatchRules(start_offset=15),
    Grid.MEETING: MatchRules(),
}
"""What the site tells the matching: as an administrator would set it."""


@dataclass(frozen=True)
class Event:
    """One booking.

    Attributes:
        day: days since the first day of the campus.
        start, end: minutes of the local day.
        series: number of its series in the room; -1 for a single one.
        enrolled: people who belong to it; also its expected size.
        show: chance that an enrolled person comes.
        skip: chance that it does not take place without a word.
        withdrawn: cancelled the day before.
    """

    day: int
    start: int
    end: int
    series: int
    enrolled: int
    show: float
    skip: float
    withdrawn: bool


def timetable(rng: np.random.Generator, grid: Grid, capacity: int, weeks: int) -> list[Event]:
    """The events of one room over whole weeks, in order; day 0 is a Monday."""
    events = _meetings(rng, capacity, weeks) if grid is Grid.MEETING else _courses(rng, grid, capacity, weeks)
    return sorted(events, key=lambda e: (e.day, e.start))


def _courses(rng: np.random.Generator, grid: Grid, capacity: int, weeks: int) -> list[Event]:
    events: list[Event] = []
    busy = rng.uniform(0.35, 0.8)
    series = 0
    for weekday in range(5):
        for number, (start, end) in enumerate(_BLOCKS[grid]):
            evening = number == 4
            if rng.random() > busy * (0.2 if evening else 1.0) * (0.6 if weekday == 4 else 1.0):
                continue
            enrolled = max(3, int(capacity * _crowd(rng)))
            show, fade = rng.beta(7, 3), rng.uniform(0.0, 0.02)
            skip = float(rng.choice([0.04, 0.12, 0.5], p=[0.6, 0.3, 0.1]))
            every = 2 if rng.random() < 0.15 else 1
            for week in range(int(rng.integers(0, every)), weeks, every):
                chance, cancelled = float(max(0.1, show - fade * week)), bool(rng.random() < 0.03)
                day = week * 7 + weekday
                events.append(Event(day, start, end, series, enrolled, chance, skip, cancelled))
            series += 1
    return events


def _crowd(rng: np.random.Generator) -> float:
    """Enrolled people for each seat: half the rooms are too large, a few too small."""
    low, high = ((0.2, 0.6), (0.6, 1.0), (1.0, 1.3))[int(rng.choice(3, p=[0.45, 0.47, 0.08]))]
    return float(rng.uniform(low, high))


def _meetings(rng: np.random.Generator, capacity: int, weeks: int) -> list[Event]:
    events: list[Event] = []
    busy = rng.uniform(0.3, 0.8)
    for day in range(weeks * 7):
        if day % 7 >= 5:
            continue
        at = 510 + 30 * int(rng.integers(0, 3))
        while at < 1050:
            length = int(rng.choice([30, 60, 90, 120], p=[0.25, 0.45, 0.15, 0.15]))
            if rng.random() < busy and at + length <= 1110:
                enrolled = int(np.clip(1 + rng.poisson(0.4 * capacity), 2, capacity))
                events.append(
                    Event(day, at, at + length, -1, enrolled, 0.85, 0.113, bool(rng.random() < 0.05))
                )  # 11.3 % ghosted: VergeSense, third quarter of 2023
                at += length
            else:
                at += 30
    return events
