"""Figures, people in a room over time, and bookings with what became of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from typing import Annotated
from zoneinfo import ZoneInfo

import numpy as np
from fastapi import Depends, Query, Request, Response

from analytics.accounts.rights import Right
from analytics.assemble import Site, load_room
from analytics.domain import disclosure
from analytics.domain.metrics import FIGURES
from analytics.domain.model import Room
from analytics.domain.time import minute_of, moment_of
from analytics.figures import DEFAULT_FIGURES, NO_CLASS, BookingRow, By, Scope, booking_rows, months, table
from analytics.web.api.access import Api, Desk, desk, from_cursor
from analytics.web.api.master import room_of
from analytics.web.api.shapes import (
    BookingView,
    Cursor,
    FigureRow,
    FiguresView,
    Limit,
    OccupancyView,
    Page,
    known,
    paged,
    tagged,
)
from analytics.web.portal.visit import portal_of
from analytics.web.problems import ProblemError, problem_responses

FigureDesk = Annotated[Desk, Depends(desk(Right.SEE_FIGURES))]
EventDesk = Annotated[Desk, Depends(desk(Right.SEE_EVENTS))]
First = Annotated[date | None, Query(alias="from", description="First local day; default: four weeks before the last.")]
Last = Annotated[date | None, Query(alias="to", description="Last local day, included; default: yesterday.")]
Ids = Annotated[list[str], Query(max_length=1_000, description="Repeatable.")]
MOST_DAYS = 366 * 5
MOST_STEPS = 31 * 96
_ONE = "/v1/organisations/{org_id}"
_LONG_AGO, _FAR_AHEAD = date(2000, 1, 1), date(2200, 1, 1)
_NOT_MODIFIED = {304: {"description": "As the ETag in If-None-Match says, you have it already."}}


class Step(Enum):
    """Length of a step."""

    MINUTE = "minute"
    QUARTER = "quarter"
    HOUR = "hour"

    @property
    def minutes(self) -> int:
        return {Step.MINUTE: 1, Step.QUARTER: 15, Step.HOUR: 60}[self]


def add_figure_routes(api: Api) -> None:
    """Register the routes."""

    @api.get(
        f"{_ONE}/figures",
        Right.SEE_FIGURES,
        tags=["figures"],
        summary="Figures by room, hour, week ...",
        response_model=FiguresView,
        responses=_NOT_MODIFIED,
    )
    def figures(
        request: Request,
        found: FigureDesk,
        first: First = None,
        last: Last = None,
        by: By = By.ROOM,
        building: Ids = [],  # noqa: B006
        room: Ids = [],  # noqa: B006
        room_class: Annotated[str, Query(max_length=200)] = "",
        weekday: Annotated[list[int], Query(max_length=7, description="1 = Monday; repeatable.")] = [],  # noqa: B006
        period: Ids = [],  # noqa: B006
        figure: Annotated[list[str], Query(max_length=100, description="Repeatable; default: the main ones.")] = [],  # noqa: B006
    ) -> Response:
        """`coverage` always comes with them. Planned stands beside measured; unknown is null."""
        start, end = days_of(request, found, first, last)
        names = tuple(dict.fromkeys(("coverage", *(figure or DEFAULT_FIGURES))))
        for name in names:
            if name not in FIGURES:
                raise _wrong("figure", f"there is no figure {name[:80]!r}; there are: {', '.join(FIGURES)}")
        if any(not 1 <= day <= 7 for day in weekday):
            raise _wrong("weekday", "1 = Monday to 7 = Sunday")
        site = found.site(request)
        chosen = scope_of(found, site, start, end, building, room)
        scope = Scope(
            found.org_id, start, end, chosen.buildings, chosen.rooms, chosen.room_class or room_class,
            tuple(day - 1 for day in weekday), tuple(period),
        )  # fmt: skip
        made = table(portal_of(request).store, scope, by, names, site)
        rows = [
            FigureRow(label=label, figures={name: known(float(made.figures[name][i])) for name in names})
            for i, label in enumerate(made.labels)
        ]
        view = FiguresView(
            definition=made.definition,
            by=by.value,
            first=start,
            last=end - timedelta(days=1),
            rows=rows,
            total={name: known(made.total[name]) for name in names},
            units={name: FIGURES[name].unit for name in names},
            days_missing=made.days_missing,
        )
        return tagged(request, view)

    @api.get(
        _ONE + "/rooms/{room_id}/occupancy",
        Right.SEE_FIGURES,
        tags=["figures"],
        summary="People in a room, minute by minute",
        response_model=OccupancyView,
        responses=_NOT_MODIFIED,
    )
    def occupancy(
        request: Request,
        found: FigureDesk,
        room_id: str,
        start: Annotated[
            datetime | None, Query(description="With its offset; default: an hour before the end.")
        ] = None,
        end: Annotated[datetime | None, Query(description="Default: now.")] = None,
        step: Step = Step.MINUTE,
    ) -> Response:
        """From all sensors of the room, doors corrected for drift. Both ends are widened to whole steps."""
        room = room_of(request, found, room_id)
        until = _utc("end", end) if end else portal_of(request).clock()
        since = _utc("start", start) if start else until - timedelta(hours=1)
        return tagged(request, _occupancy(request, found, room, since, until, step))

    @api.get(
        f"{_ONE}/bookings",
        Right.SEE_EVENTS,
        tags=["bookings"],
        summary="Bookings with what became of them, by room and start",
        responses=problem_responses(422),
    )
    def bookings(
        request: Request,
        response: Response,
        found: EventDesk,
        first: First = None,
        last: Last = None,
        building: Ids = [],  # noqa: B006
        room: Ids = [],  # noqa: B006
        limit: Limit = 200,
        cursor: Cursor = "",
    ) -> Page[BookingView]:
        """Judged against the plan as known when each one started. Who booked is never told."""
        start, end = days_of(request, found, first, last)
        site = found.site(request)
        scope = scope_of(found, site, start, end, building, room)
        after = from_cursor(cursor, 4) if cursor else ("", "", "", "")
        hide_below = 0 if found.may(Right.SEE_SMALL_COUNTS) else disclosure.THRESHOLD
        listed: list[BookingView] = []
        for row in _after(request, site, scope, after):
            listed.append(_booking(row, hide_below))
            if len(listed) > limit:
                break
        return paged(request, response, listed, limit, _booking_key)


def days_of(request: Request, found: Desk, first: date | None, last: date | None) -> tuple[date, date]:
    """Local days ``[start, end)``. Raises ProblemError 422."""
    zone = ZoneInfo(found.organisation.time_zone)
    final = last or portal_of(request).clock().astimezone(zone).date() - timedelta(days=1)
    if not _LONG_AGO <= final < _FAR_AHEAD:
        raise _wrong("to", f"not between {_LONG_AGO} and {_FAR_AHEAD}")
    end = final + timedelta(days=1)
    start = first or end - timedelta(weeks=4)
    if not _LONG_AGO <= start < end:
        raise _wrong("from", "lies after the last day, or too long ago")
    if (end - start).days > MOST_DAYS:
        raise _wrong("from", f"more than {MOST_DAYS} days before the last one; ask for less at a time")
    return start, end


def scope_of(found: Desk, site: Site, start: date, end: date, buildings: list[str], rooms: list[str]) -> Scope:
    """What is asked for, all of which the caller may see. Raises ProblemError 404."""
    for building in buildings:
        if building not in found.buildings:
            raise ProblemError(404, "not-found", "there is no such building, or you may not see it")
    for room in rooms:
        if room not in site.rooms or site.rooms[room].building_id not in found.buildings:
            raise ProblemError(404, "not-found", "there is no such room, or you may not see it")
    chosen = tuple(buildings) or tuple(found.buildings)
    if not chosen:  # an empty tuple would mean: all
        return Scope(found.org_id, start, end, room_class=NO_CLASS)
    return Scope(found.org_id, start, end, chosen, tuple(rooms))


def _occupancy(
    request: Request, found: Desk, room: Room, since: datetime, until: datetime, step: Step
) -> OccupancyView:
    size = step.minutes
    low = minute_of(since) // size * size
    high = -(-minute_of(until) // size) * size
    steps = (high - low) // size
    if steps <= 0:
        raise _wrong("start", "it is not before the end")
    if steps > MOST_STEPS:
        raise _wrong("start", f"more than {MOST_STEPS} steps; ask for less at a time, or for longer steps")
    site = found.site(request)
    zone = ZoneInfo(site.buildings[room.building_id].time_zone)
    first, last = (moment_of(minute).astimezone(zone).date() for minute in (low, high - 1))
    portal = portal_of(request)
    days = load_room(portal.store, site, room.id, first, last, portal.rules_of)
    at = low - days.grid.start
    people = days.occupancy.people[at : at + steps * size].astype(np.float64).reshape(steps, size)
    measured = np.isfinite(people)
    count = measured.sum(axis=1)
    filled = np.where(measured, people, 0.0)
    mean = np.where(count > 0, filled.sum(axis=1) / np.maximum(count, 1), np.nan)
    peak = np.where(count > 0, np.where(measured, people, -1.0).max(axis=1), np.nan)
    hidden = np.zeros(steps, dtype=np.bool_)
    if found.may(Right.SEE_EVENTS) and not found.may(Right.SEE_SMALL_COUNTS):
        # With the names of the events beside them, a few people at a known time are known people.
        hidden = disclosure.small(mean) | disclosure.small(peak)
    mean[hidden] = peak[hidden] = np.nan
    return OccupancyView(
        room_id=room.id,
        start=moment_of(low),
        end=moment_of(high),
        step_seconds=size * 60,
        people=[known(value, 1) for value in mean.tolist()],
        peak=[known(value, 1) for value in peak.tolist()],
        coverage=[round(value, 4) for value in (count / size).tolist()],
        method=days.occupancy.method,
        withheld=int(hidden.sum()),
    )


def _after(request: Request, site: Site, scope: Scope, after: tuple[str, ...]) -> Iterator[BookingRow]:
    """Bookings behind a key, room by room and month by month: only what a page needs is ever computed."""
    portal = portal_of(request)
    resume = _day(after[1]) if after[0] else _LONG_AGO
    for room in sorted(scope.choose(site), key=lambda room: room.id):
        if room.id < after[0]:
            continue
        for first, last in months(scope.start, scope.end):
            if room.id == after[0] and last + timedelta(days=1) < resume:  # a local day may begin on the day before
                continue
            found = booking_rows(portal.store, site, room.id, first, last, portal.rules_of)
            rows = sorted(found, key=_row_key)
            yield from (row for row in rows if _row_key(row) > after)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text[:10])
    except ValueError:
        raise _wrong("cursor", "not one that this service gave; begin without it") from None


def _row_key(row: BookingRow) -> tuple[str, ...]:
    booking = row.booking
    return (row.of.room.id, booking.start.astimezone(UTC).isoformat(), booking.source, booking.source_id)


def _booking_key(view: BookingView) -> tuple[str, ...]:
    return (view.room_id, view.start.astimezone(UTC).isoformat(), view.source, view.source_id)


def _booking(row: BookingRow, hide_below: int) -> BookingView:
    booking = row.booking
    hidden = bool(disclosure.small(row.attendance, hide_below))
    release = float(row.of.matches.release[row.index])
    return BookingView(
        source=booking.source,
        source_id=booking.source_id,
        room_id=row.of.room.id,
        building_id=row.of.room.building_id,
        title=booking.title,
        category=booking.category,
        series=booking.series,
        start=booking.start,
        end=booking.end,
        expected=booking.expected_size,
        outcome=row.outcome.word,
        attendance=None if hidden else known(row.attendance, 1),
        attendance_withheld=hidden,
        capacity=None if not np.isfinite(row.capacity) else round(row.capacity),
        coverage=known(row.coverage),
        confidence=known(row.confidence),
        release_minutes=None if not np.isfinite(release) else round(release),
        withdrawn_late=row.late_withdrawn,
    )


def _utc(name: str, value: datetime) -> datetime:
    if value.tzinfo is None:
        raise _wrong(name, "name the offset, e.g. 2026-03-02T09:00:00+01:00 (a + in an address is written %2B)")
    try:
        moment = value.astimezone(UTC)
    except OverflowError:
        raise _wrong(name, "out of range") from None
    if not _LONG_AGO <= moment.date() < _FAR_AHEAD:
        raise _wrong(name, f"not between {_LONG_AGO} and {_FAR_AHEAD}")
    return moment


def _wrong(name: str, text: str) -> ProblemError:
    return ProblemError(422, "not-valid", f"query.{name}: {text}")
