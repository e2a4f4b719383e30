"""Judged bookings as rows for people: what became of each and why, with small groups withheld."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from analytics.accounts.rights import Right
from analytics.assemble import RoomDays
from analytics.domain.disclosure import small
from analytics.domain.matching import Flag, Matches, Outcome, Reason
from analytics.domain.model import Room, StoredBooking
from analytics.domain.time import moment_of
from analytics.web.portal.language import Language
from analytics.web.portal.visit import Visit

if TYPE_CHECKING:
    from analytics.web.portal.pages.figures_data import FigureData

_TONE = {
    Outcome.NO_SHOW: "bad", Outcome.OVER_CAPACITY: "bad", Outcome.OVERRUN: "warn", Outcome.EARLY_END: "warn",
    Outcome.LATE_START: "warn", Outcome.UNKNOWN: "none", Outcome.HELD: "",
}  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """The judged bookings of one room over some days, without the minutes that they were judged by.

    Attributes:
        chosen: rows of ``matches`` that are the room's own and start on the days asked for.
    """

    room: Room
    zone: ZoneInfo
    bookings: tuple[StoredBooking, ...]
    late_withdrawn: tuple[bool, ...]
    matches: Matches
    chosen: tuple[int, ...]

    @classmethod
    def of(cls, days: RoomDays) -> Judged:
        late = tuple(days.late_withdrawn.tolist())
        return cls(days.room, days.calendar.zone, days.bookings, late, days.matches, tuple(days.chosen()))


@dataclass(frozen=True)
class EventRow:
    """One booking.

    Attributes:
        outcome: as text; ``tone`` is how loud its tag is.
        attendance: as text, ``fewer than 5`` where withheld.
        release: hours that could have been given back; NaN unknown.
        can_reveal: the reader may ask who booked it.
    """

    booking: StoredBooking
    room: Room
    building: str
    day: date
    span: str
    outcome: str
    tone: str
    attendance: str
    expected: str
    seats: str
    coverage: str
    reasons: tuple[str, ...]
    shared: bool
    release: float
    can_reveal: bool


def outcome_texts(t: Language) -> dict[str, str]:
    """Words of the outcomes."""
    return {
        "held": t("held"),
        "no_show": t("no-show"),
        "late_start": t("late start"),
        "early_end": t("early end"),
        "overrun": t("overrun"),
        "over_capacity": t("over capacity"),
        "unknown": t("not known"),
    }


def event_rows(data: FigureData, of: Judged, visit: Visit) -> list[EventRow]:
    """The bookings of one room over the loaded days, in order of time. The caller has checked SEE_EVENTS."""
    return [_row(data, of, i, visit) for i in of.chosen]


def _row(data: FigureData, of: Judged, i: int, visit: Visit) -> EventRow:
    t, matches, booking = visit.t, of.matches, of.bookings[i]
    building = of.room.building_id
    attendance = float(matches.attendance[i])
    hidden = bool(small(attendance)) and not visit.may(Right.SEE_SMALL_COUNTS, building)
    over = booking.end <= data.now
    outcome = Outcome(int(matches.outcome[i]))
    seats = float(matches.plan.capacity[i])
    text = outcome_texts(t)[outcome.word]
    tone = _TONE[outcome]
    if not over:
        text, tone = (t("under way") if booking.start <= data.now else t("to come")), "none"
    return EventRow(
        booking, of.room, data.site.buildings[building].name, booking.start.astimezone(of.zone).date(),
        f"{t.time(booking.start)}–{t.time(booking.end)}", text, tone,
        t("fewer than 5") if hidden else t.number(attendance) if over else t.number(None),
        t.number(booking.expected_size), t.number(seats),
        t.percent(float(matches.coverage[i])) if over else t.number(None),
        reason_texts(t, matches, i, hidden=hidden, late=of.late_withdrawn[i]) if over else (),
        bool(int(matches.flags[i]) & Flag.SHARED), float(matches.release[i]) / 60 if over else math.nan,
        visit.may(Right.SEE_BOOKERS, building),
    )  # fmt: skip


def reason_texts(t: Language, matches: Matches, i: int, *, hidden: bool, late: bool) -> tuple[str, ...]:
    """Why a booking has its outcome, the deciding reason first; a withheld count is in none of them."""
    found = [_reason(t, reason, hidden) for reason in matches.reasons(i)]
    flags = Flag(int(matches.flags[i]))
    if flags & Flag.SHARED:
        found.append(t("Overlaps another booking of the room: the people are those of both."))
    if late:
        found.append(t("Cancelled or moved after it had begun, so it is judged as planned."))
    if not flags & (Flag.LOW_COVERAGE | Flag.NO_LENGTH):
        found.append(t("Confidence in the attendance: {share}.", share=t.percent(float(matches.confidence[i]))))
    return tuple(found)


def _reason(t: Language, reason: Reason, hidden: bool) -> str:
    number, limit = t.number(reason.found), t.number(reason.threshold)
    share, least = t.percent(reason.found), t.percent(reason.threshold)
    span = f"{t.time(moment_of(reason.start))}–{t.time(moment_of(reason.end))}"
    if reason.rule == "coverage_of_slot":
        return t("{share} of {span} was measured; {least} is needed to judge.", share=share, span=span, least=least)
    if reason.rule == "coverage_of_first_half":
        return t("{share} of its first half was measured; {least} is needed.", share=share, least=least)
    if reason.rule == "longest_presence_minutes":
        return t(
            "Longest presence in {span}: {number} min; below {limit} min nobody came.",
            span=span, number=number, limit=limit,
        )  # fmt: skip
    if reason.rule == "attendance_above_capacity":
        if hidden:
            return t("More people than seats.")
        return t("{number} people; above {limit} is over capacity.", number=number, limit=limit)
    if reason.rule == "minutes_past_the_end":
        return t(
            "People stayed {number} min past the end; above {limit} min is an overrun.", number=number, limit=limit
        )
    if reason.rule == "minutes_before_the_end":
        return t("Half had gone {number} min before the end; above {limit} min is early.", number=number, limit=limit)
    if reason.rule == "minutes_after_the_start":
        return t("Half was in {number} min after the start; above {limit} min is late.", number=number, limit=limit)
    return t("The booking has no length.")
