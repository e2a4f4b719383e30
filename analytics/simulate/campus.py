"""A campus of simulated rooms, each made on its own from the seed and its number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from analytics.domain.plan import MatchRules, Plan
from analytics.domain.time import Calendar, LocalGrid, day_bounds, day_number, local_grid, minute_of, moment_of
from analytics.simulate.people import Held, Stays, Times, hold, nobody, true_outcome, wander
from analytics.simulate.sensors import Fitting, SimulatedSensor, fit, observe
from analytics.simulate.timetable import RULES, Event, Grid, timetable

ORGANISATION = "sim-campus"
SOURCE = "simulated"


@dataclass(frozen=True)
class Campus:
    """What to simulate.

    Attributes:
        first: a Monday. The default term holds the night on which summer time ends.
    """

    rooms: int = 200
    weeks: int = 10
    seed: int = 1
    first: date = date(2026, 9, 7)
    zone: ZoneInfo = field(default=ZoneInfo("Europe/Amsterdam"))

    def __post_init__(self) -> None:
        if self.rooms < 1 or self.weeks < 1:
            raise ValueError(f"a campus needs rooms and weeks, not {self.rooms} and {self.weeks}")
        if self.first.weekday() != 0:
            raise ValueError(f"a campus begins on a Monday; {self.first} is none")

    @property
    def last(self) -> date:
        """Last day, inclusive."""
        return self.first + timedelta(days=self.weeks * 7 - 1)

    @property
    def grid(self) -> LocalGrid:
        start, end = day_bounds(self.first, self.zone, self.last)
        return local_grid(self.zone, start, end - start)

    @property
    def calendar(self) -> Calendar:
        return Calendar(self.zone)

    def each(self) -> Iterator[SimulatedRoom]:
        """Room after room, so that a large campus needs the memory of one."""
        return (simulate_room(self, number) for number in range(self.rooms))


@dataclass(frozen=True)
class SimulatedRoom:
    """One room with its plan, its sensors' messages and the truth.

    Attributes:
        events: bookings in the order of ``plan``; withdrawn ones are in ``withdrawn`` instead.
        present: people truly in the room per minute, shape (n,).
        attendance, outcome, flags: truth a booking.
    """

    number: int
    room: str
    building: str
    grid_kind: Grid
    capacity: int
    fitting: Fitting
    rules: MatchRules
    plan: Plan
    events: tuple[Event, ...]
    withdrawn: tuple[tuple[Event, int, int], ...]
    sensors: tuple[SimulatedSensor, ...]
    present: Times
    attendance: npt.NDArray[np.int64]
    outcome: npt.NDArray[np.int8]
    flags: npt.NDArray[np.int16]


_SIZES = {
    Grid.TECHNICAL: (24, 30, 40, 60, 90, 150, 300),
    Grid.QUARTER: (20, 30, 36, 50, 80, 120, 250),
    Grid.MEETING: (4, 6, 8, 10, 14, 20),
}


def simulate_room(campus: Campus, number: int) -> SimulatedRoom:
    """Everything about one room; depends on the campus' seed, weeks and first day and on ``number`` alone."""
    rng = np.random.default_rng([campus.seed, number])
    kind = list(Grid)[int(rng.choice(3, p=[0.45, 0.3, 0.25]))]
    capacity = int(rng.choice(_SIZES[kind]))
    rules = RULES[kind]
    grid = campus.grid
    events = timetable(rng, kind, capacity, campus.weeks)
    kept = [e for e in events if not e.withdrawn]
    spans = np.array([_span(campus, e) for e in kept], dtype=np.int64).reshape(-1, 2)
    held, stays = _live(rng, campus, kept, spans - grid.start, rules)
    truth = [
        true_outcome(h, s - grid.start, e - grid.start, capacity, rules)
        for h, (s, e) in zip(held, spans.tolist(), strict=True)
    ]
    everyone = Stays.join(stays)
    name = f"{number:04d}"
    fitting = fit(rng, capacity)
    sensors = observe(rng, fitting, name, everyone, grid.start, campus.calendar.open(grid))
    return SimulatedRoom(
        number=number,
        room=f"sim-{name}",
        building=f"sim-{kind.value}",
        grid_kind=kind,
        capacity=capacity,
        fitting=fitting,
        rules=rules,
        plan=Plan.of(
            [(int(a), int(b)) for a, b in spans], expected=[float(e.enrolled) for e in kept], capacity=capacity
        ),
        events=tuple(kept),
        withdrawn=tuple((e, *_span(campus, e)) for e in events if e.withdrawn),
        sensors=tuple(sensors),
        present=everyone.minutes(grid.length)[0],
        attendance=np.array([h.attendance for h in held], dtype=np.int64),
        outcome=np.array([o for o, _ in truth], dtype=np.int8),
        flags=np.array([int(f) for _, f in truth], dtype=np.int16),
    )


def _span(campus: Campus, event: Event) -> tuple[int, int]:
    """Minutes of an event: its local hours, whatever summer time does."""
    start, _ = day_bounds(campus.first + timedelta(days=event.day), campus.zone)
    midnight = moment_of(start).astimezone(campus.zone)
    opens = midnight.replace(hour=event.start // 60, minute=event.start % 60)
    closes = midnight.replace(hour=event.end // 60, minute=event.end % 60)
    return minute_of(opens), minute_of(closes)


def _live(
    rng: np.random.Generator, campus: Campus, events: list[Event], spans: npt.NDArray[np.int64], rules: MatchRules
) -> tuple[list[Held], list[Stays]]:
    """Let every booking take place, or not, and others use what is free."""
    held: list[Held] = []
    stays: list[Stays] = []
    by_day: dict[int, list[int]] = {}
    for i, event in enumerate(events):
        by_day.setdefault(event.day, []).append(i)
    for day in range(campus.weeks * 7):
        if day % 7 >= 5:
            continue
        opens, closes = (m - campus.grid.start for m in _span(campus, Event(day, 420, 1320, -1, 0, 0, 0, False)))
        free_from, gaps = float(opens), []
        today = by_day.get(day, [])
        for position, i in enumerate(today):
            event, (start, end) = events[i], spans[i].tolist()
            after = spans[today[position + 1]][0] if position + 1 < len(today) else closes - 5
            skipped = rng.random() < event.skip
            # Those who come next are let in by their quarter at the latest.
            until = float(max(after + rules.start_offset + (0 if position + 1 == len(today) else 12), end + 1))
            one = nobody() if skipped else hold(
                rng, start, end, rules.start_offset, event.enrolled, event.show, free_from, until
            )  # fmt: skip
            held.append(one)
            stays.append(one.stays)
            if one.stays.enter.size:
                gaps.append((free_from, float(one.stays.enter.min()) - 3))
                free_from = one.last
            elif rng.random() < 0.04:  # others sit down in a room that stayed empty
                size = int(rng.integers(1, 5))
                come = max(start + rng.uniform(5, 15), free_from)
                squat = Stays(come + rng.uniform(0, 3, size), np.maximum(end - rng.uniform(0, 30, size), come + 5))
                stays.append(squat)
                gaps.append((free_from, float(start) - 3))
                free_from = float(squat.leave.max())
            else:
                gaps.append((free_from, float(start) - 3))
                free_from = max(free_from, float(end))
        gaps.append((free_from, float(closes) - 10))
        stays.extend(wander(rng, [g for g in gaps if g[1] > g[0]], day % 7))
    return held, stays


def day_zero(campus: Campus) -> int:
    """Local day number of the first day."""
    return day_number(campus.first)
