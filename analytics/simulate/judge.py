"""Run the product over a simulated campus and hold what it says against what the people did."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from analytics.domain.matching import Matches, Outcome, match_room
from analytics.domain.model import WatchKind
from analytics.domain.occupancy import Occupancy, room_occupancy
from analytics.domain.plan import span_mask
from analytics.domain.series import per_minute
from analytics.simulate.campus import Campus, SimulatedRoom


@dataclass
class Report:
    """What a campus showed.

    Attributes:
        confusion: bookings by true outcome (rows) and reported outcome (columns), ``Outcome`` order.
        attendance_off: reported less true attendance of bookings held and judged.
        attendance_true: the true attendance of those.
        door_error: sums of squared errors over door-counted minutes: uncorrected, reset every night, corrected; and
            the number of minutes.
    """

    rooms: int = 0
    bookings: int = 0
    confusion: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((7, 7), dtype=np.int64))
    attendance_off: list[npt.NDArray[np.float64]] = field(default_factory=list)
    attendance_true: list[npt.NDArray[np.float64]] = field(default_factory=list)
    peak_off: list[npt.NDArray[np.float64]] = field(default_factory=list)
    door_error: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(4))
    low_coverage: int = 0

    @property
    def accuracy(self) -> float:
        """Share of the judged bookings whose outcome is right."""
        judged = self.confusion[:, 1:].sum()
        return float(np.trace(self.confusion[:, 1:][1:]) / judged) if judged else float("nan")

    @property
    def unknown(self) -> float:
        """Share of the bookings left unjudged."""
        return float(self.confusion[:, 0].sum() / max(self.confusion.sum(), 1))

    def attendance_error(self) -> tuple[float, float, float]:
        """Median of |error| in people, median of it as a share, share of bookings within one person or 5 %."""
        off, true = np.abs(np.concatenate(self.attendance_off)), np.concatenate(self.attendance_true)
        within = off <= np.maximum(1.0, 0.05 * true)
        return float(np.median(off)), float(np.median(off / np.maximum(true, 1))), float(within.mean())

    def peak_error(self) -> float:
        """Share of bookings for which the peak is within one person or 5 %: why the peak is not the attendance."""
        off, true = np.abs(np.concatenate(self.peak_off)), np.concatenate(self.attendance_true)
        return float((off <= np.maximum(1.0, 0.05 * true)).mean())

    def drift(self) -> tuple[float, float, float]:
        """Root mean square error of door counts in people: uncorrected, reset every night, corrected."""
        raw, nightly, corrected, minutes = self.door_error.tolist()
        minutes = max(minutes, 1)
        return (raw / minutes) ** 0.5, (nightly / minutes) ** 0.5, (corrected / minutes) ** 0.5


def occupancy_of(campus: Campus, room: SimulatedRoom) -> Occupancy:
    """The product's view of a simulated room, from its sensors' messages alone."""
    grid = campus.grid
    measuring = campus.calendar.open(grid)
    rules = room.rules
    booked = span_mask(
        room.plan.start - rules.margin_before, room.plan.end + rules.margin_after, grid.start, grid.length
    )
    sensors = [
        per_minute(s.slots, grid.start, grid.length).watching(s.sensor, s.kind, reversed_door=s.reversed)
        for s in room.sensors
    ]
    return room_occupancy(sensors, grid.length, empty=~measuring, booked=booked, expected=measuring)


def match_of(campus: Campus, room: SimulatedRoom, occupancy: Occupancy) -> Matches:
    """The product's verdict on a simulated room's bookings."""
    return match_room(occupancy.people, campus.grid.start, room.plan, room.rules, error=occupancy.error)


def judge(campus: Campus) -> Report:
    """Simulate, run and compare, room after room."""
    report = Report()
    for room in campus.each():
        occupancy = occupancy_of(campus, room)
        matches = match_of(campus, room, occupancy)
        add(report, campus, room, occupancy, matches)
    return report


def add(report: Report, campus: Campus, room: SimulatedRoom, occupancy: Occupancy, matches: Matches) -> None:
    """Add one room to a report."""
    report.rooms += 1
    report.bookings += room.plan.size
    np.add.at(report.confusion, (room.outcome, matches.outcome), 1)
    held = (room.outcome != Outcome.NO_SHOW) & (matches.outcome > Outcome.NO_SHOW)
    true = room.attendance[held].astype(np.float64)
    report.attendance_off.append(matches.attendance[held].astype(np.float64) - true)
    report.peak_off.append(matches.peak[held].astype(np.float64) - true)
    report.attendance_true.append(true)
    if all(s.kind is WatchKind.DOOR for s in room.sensors):
        report.door_error += _door_error(campus, room, occupancy)


def _door_error(campus: Campus, room: SimulatedRoom, occupancy: Occupancy) -> npt.NDArray[np.float64]:
    """Over the minutes that both know: the uncorrected sum, the usual reset every night, and the correction."""
    grid = campus.grid
    known = occupancy.valid & ~np.isnan(occupancy.raw)
    true = room.present[known]
    raw = occupancy.raw[known].astype(np.float64)
    day = grid.day[known]
    begins = np.flatnonzero(np.diff(day, prepend=day[:1] - 1))
    at_begin = np.repeat(raw[begins], np.diff(np.append(begins, day.size)))
    nightly = np.maximum(raw - at_begin, 0)
    corrected = occupancy.people[known].astype(np.float64)
    return np.array(
        [((raw - true) ** 2).sum(), ((nightly - true) ** 2).sum(), ((corrected - true) ** 2).sum(), float(known.sum())]
    )
