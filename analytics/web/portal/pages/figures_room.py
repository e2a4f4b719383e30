"""One room: a day with its bookings, hour by weekday, and what became of every booking, with the reasons."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from fastapi import Depends, Form, Request, Response

from analytics.accounts.rights import Right
from analytics.assemble import RoomDays, load_room
from analytics.domain import metrics
from analytics.domain.disclosure import small
from analytics.domain.model import Room
from analytics.domain.time import day_bounds, minute_of, moment_of
from analytics.figures import Scope, day_sums, heat_sums
from analytics.web.portal import charts
from analytics.web.portal.charts import Block, Chart, DayLine, Table
from analytics.web.portal.language import Language
from analytics.web.portal.pages.figures_data import FigureData, figure_data, known
from analytics.web.portal.pages.figures_events import Judged, event_rows, outcome_texts
from analytics.web.portal.pages.figures_filter import Filter, date_in, read_filter
from analytics.web.portal.pages.figures_overview import key_figures, options
from analytics.web.portal.view import page
from analytics.web.portal.visit import Pages, Visit, portal_of, visitor
from analytics.web.problems import ProblemError

FigureVisit = Annotated[Visit, Depends(visitor(Right.SEE_FIGURES))]
BookerVisit = Annotated[Visit, Depends(visitor(Right.SEE_BOOKERS))]
Text = Annotated[str, Form(max_length=400)]
HEATS = ("frequency", "planned_frequency", "unused_booked", "fill", "utilisation", "coverage")


def add_room_page(pages: Pages) -> None:
    """Register the route."""

    @pages.get("/o/{org_id}/rooms/{room_id}", Right.SEE_FIGURES)
    def room(request: Request, visit: FigureVisit, room_id: str, heat: str = "frequency") -> Response:
        return _room_page(request, visit, room_id, heat)

    @pages.post("/o/{org_id}/rooms/{room_id}/booker", Right.SEE_BOOKERS)
    def booker(
        request: Request, visit: BookerVisit, room_id: str, source: Text = "", source_id: Text = "", day: Text = ""
    ) -> Response:
        """Say who booked one booking. The name is on the page that answers and nowhere else; the audit has the key."""
        data = figure_data(request, visit)
        shown = visible_room(data, room_id)
        visit.demand(Right.SEE_EVENTS, shown.building_id)
        visit.demand(Right.SEE_BOOKERS, shown.building_id)
        name = reveal_booker(data, shown, source, source_id, day)
        portal = portal_of(request)
        detail = {"room": shown.id, "source": source, "booking": source_id}
        portal.audit.record(visit.org_id, visit.user.id, "bookers.reveal", detail, at=portal.clock())
        return _room_page(request, visit, room_id, HEATS[0], day, {(source, source_id): name})


def _room_page(
    request: Request,
    visit: Visit,
    room_id: str,
    heat: str,
    day_text: str | None = None,
    revealed: dict[tuple[str, str], str] | None = None,
) -> Response:
    data = figure_data(request, visit)
    shown = visible_room(data, room_id)
    choice = read_filter(request.query_params, visit, data.site, data.usual())
    day, problem = _day_of(request.query_params.get("day", "") if day_text is None else day_text, data)
    monday = day - timedelta(days=day.weekday())
    week = load_room(data.store, data.site, room_id, monday, monday + timedelta(days=6), data.rules_of)
    sums = data.room_sums(choice, shown)
    events = event_rows(data, Judged.of(week), visit) if visit.may(Right.SEE_EVENTS, shown.building_id) else []
    return page(
        request,
        "room.html",
        visit,
        room=shown,
        building=data.site.buildings[shown.building_id],
        seats=shown.capacity_on(day),
        f=choice,
        options=options(data, choice, day=day.isoformat(), heat=heat if heat in HEATS else None),
        day=day,
        before=(day - timedelta(days=1)).isoformat(),
        after=(day + timedelta(days=1)).isoformat(),
        revealed=revealed or {},
        problem=problem,
        chart=day_chart(visit.t, data, week, day, visit),
        keys=key_figures(visit.t, sums.total(), sums.weeks(choice), data.patience) if sums.days else [],
        heat=heat_chart(visit.t, data, shown, choice, heat if heat in HEATS else HEATS[0]),
        heats=heat_texts(visit.t),
        heat_name=heat if heat in HEATS else HEATS[0],
        outcomes=_outcomes(visit.t, sums.measures) if sums.days else [],
        events=[row for row in events if row.day == day],
        rest_of_week=[row for row in events if row.day != day],
    )


def visible_room(data: FigureData, room_id: str) -> Room:
    """A room of a building that the reader may see; anything else does not exist.

    Raises:
        ProblemError: 404.
    """
    found = data.site.rooms.get(room_id)
    if found is None or found.building_id not in data.visible:
        raise ProblemError(404, "not-found", data.visit.t("There is no such page."))
    return found


def reveal_booker(data: FigureData, room: Room, source: str, source_id: str, day_text: str) -> str:
    """Who booked one booking of a room; empty where nobody is named.

    Raises:
        ProblemError: 404 for a booking that this room does not have on that day.
    """
    try:
        begin, end = day_bounds(date.fromisoformat(day_text), data.zone_of(room))
        found = data.store.bookings(data.visit.org_id, [room.id], moment_of(begin), moment_of(end), reveal_names=True)
    except (ValueError, OverflowError):
        found = []
    for booking in found:
        if (booking.source, booking.source_id) == (source, source_id):
            return booking.booked_by or ""
    raise ProblemError(404, "not-found", data.visit.t("There is no such booking."))


def _day_of(text: str, data: FigureData) -> tuple[date, str]:
    text = text.strip()
    if (found := date_in(text)) is not None:
        return found, ""
    measured = data.measured()
    usual = min(data.today, measured[1]) if measured else data.today
    t = data.visit.t
    return usual, t("{text} is no date; write it as 2026-03-31.", text=text[:40]) if text else ""


# --- the day -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Day:
    """Minutes of one local day out of a loaded week."""

    low: int
    people: npt.NDArray[np.float32]
    hidden: npt.NDArray[np.bool_]
    clock: list[str]


def _minutes(week: RoomDays, day: date, visit: Visit, now: datetime) -> _Day:
    begin, end = day_bounds(day, week.calendar.zone)
    low, high = begin - week.grid.start, end - week.grid.start
    people = week.occupancy.people[low:high].copy()
    people[max(minute_of(now) - begin, 0) :] = np.nan  # what is to come is not known, whatever a test store holds
    hidden = np.zeros(people.size, dtype=np.bool_)
    if not visit.may(Right.SEE_SMALL_COUNTS, week.room.building_id):
        hidden = small(people) & week.facts.plan.owned[low:high]
    minute = week.grid.minute[low:high]
    return _Day(begin, people, hidden, [f"{m // 60:02d}:{m % 60:02d}" for m in minute.tolist()])


def day_chart(t: Language, data: FigureData, week: RoomDays, day: date, visit: Visit) -> Chart:
    """Measured steps over planned blocks, the capacity as a line."""
    found = _minutes(week, day, visit, data.now)
    shown = np.where(found.hidden, np.float32(4), found.people)
    seats = week.room.capacity_on(day)
    names = visit.may(Right.SEE_EVENTS, week.room.building_id)
    blocks, planned = [], []
    for row, booking in enumerate(week.bookings):
        start, end = int(week.matches.plan.start[row]), int(week.matches.plan.end[row])
        if end <= found.low or start >= found.low + found.people.size or end == start:
            continue
        expected = known(float(week.matches.plan.expected[row]))
        span = f"{t.time(booking.start)}–{t.time(booking.end)}"
        text = f"{span} {booking.title}" if names else span
        if expected is not None:
            text = t("{booking}: {expected} expected", booking=text, expected=t.number(expected))
        blocks.append(Block(start - found.low, end - found.low, expected, text))
        planned.append((start - found.low, end - found.low))
    first, last = _span(week, day, found, planned)
    changes = _changes(shown)
    ticks = [(i, text) for i, text in enumerate(found.clock) if text.endswith(":00") and first <= i <= last]
    end_tick = [(float(found.people.size), "24:00")] if last >= found.people.size else []
    line = DayLine(
        [float(i) for i, _ in changes], [value for _, value in changes],
        [found.clock[min(i, len(found.clock) - 1)] for i, _ in changes],
        [(float(i), text) for i, text in ticks] + end_tick, (float(first), float(last)),
        float(seats) if seats else None, blocks,
    )  # fmt: skip
    note = t("Time: {zone}. A gap is a time without measurement.", zone=week.calendar.zone.key)
    if found.hidden.any():
        note += " " + t("Counts of one to four during a booking are all drawn as four.")
    return Chart(
        "day", t("{day}: planned and measured", day=t.date(day)), _day_summary(t, found, len(blocks), seats),
        charts.day(t, line), _day_table(t, found, planned, first, last), note,
    )  # fmt: skip


def _span(week: RoomDays, day: date, found: _Day, planned: list[tuple[int, int]]) -> tuple[int, int]:
    """The hours worth showing: measuring hours, bookings, and whatever people were there."""
    low = found.low - week.grid.start
    opened = np.flatnonzero(week.facts.open[low : low + found.people.size])
    peopled = np.flatnonzero(np.nan_to_num(found.people) > 0)
    begins = [int(a[0]) for a in (opened, peopled) if a.size] + [max(b, 0) for b, _ in planned]
    ends = [int(a[-1]) + 1 for a in (opened, peopled) if a.size] + [min(e, found.people.size) for _, e in planned]
    first = min(begins, default=420) // 60 * 60
    return first, min(-(-max(ends, default=1320) // 60) * 60, found.people.size)


def _changes(people: npt.NDArray[np.float32]) -> list[tuple[int, float | None]]:
    """Where the count changes, and to what; the last minute closes the line."""
    if not people.size:
        return []
    same = (people[1:] == people[:-1]) | (np.isnan(people[1:]) & np.isnan(people[:-1]))
    at = np.flatnonzero(np.append(True, ~same)).tolist()
    found = [(i, known(float(people[i]))) for i in at]
    return [*found, (people.size, found[-1][1])]


def _day_summary(t: Language, found: _Day, bookings: int, seats: int | None) -> str:
    valid = ~np.isnan(found.people)
    if not valid.any():
        return t("Nothing was measured on this day. Bookings: {count}.", count=bookings)
    most = float(np.nanmax(found.people))
    at = int(np.nanargmax(found.people))
    people = t("fewer than 5") if found.hidden[at] else t.number(most)
    if seats:
        return t(
            "Most people at once: {people} at {time}. Seats: {seats}. Bookings: {count}.",
            people=people, time=found.clock[at], seats=seats, count=bookings,
        )  # fmt: skip
    return t(
        "Most people at once: {people} at {time}. Bookings: {count}.",
        people=people, time=found.clock[at], count=bookings,
    )  # fmt: skip


def _day_table(t: Language, found: _Day, planned: list[tuple[int, int]], first: int, last: int) -> Table:
    """Half hours: booked or not, people in the middle of what was measured, and how much of it was."""
    rows = []
    for begin in range(first, last, 30):
        people = found.people[begin : begin + 30]
        valid = people[~np.isnan(people)]
        text = t.number(float(np.median(valid))) if valid.size else t.number(None)
        if found.hidden[begin : begin + 30].any():
            text = t("fewer than 5") if bool(small(float(np.median(valid)))) else text
        booked = any(b < begin + 30 and e > begin for b, e in planned)
        rows.append(
            (found.clock[begin], t("yes") if booked else t("no"), text, t.percent(valid.size / max(people.size, 1)))
        )
    return Table((t("Half hour from"), t("Booked"), t("People (median)"), t("Coverage")), tuple(rows))


# --- hour by weekday, and outcomes of a period -----------------------------------------------------------------------


def heat_texts(t: Language) -> dict[str, str]:
    """Figures that the heat map can show."""
    return {
        "frequency": t("In use, measured"),
        "planned_frequency": t("In use, planned"),
        "unused_booked": t("Booked, not used"),
        "fill": t("Seats filled while in use"),
        "utilisation": t("Seats used of all seats"),
        "coverage": t("Coverage"),
    }


def heat_chart(t: Language, data: FigureData, room: Room, choice: Filter, name: str) -> Chart | None:
    """Hour by weekday of one figure, on a fixed scale; None where the choice holds no day."""
    end = min(choice.end, data.today + timedelta(days=1))
    if end <= choice.start:
        return None
    scope = Scope(data.visit.org_id, choice.start, end, rooms=(room.id,))
    loaded = day_sums(data.store, scope, [room], metrics.needed_measures((name, "coverage", "open_hours")), data.site)
    keep = np.array([choice.keeps(d, data.site.organisation.periods) for d in loaded.days], dtype=np.bool_)
    weekday = np.array([d.weekday() for d in loaded.days], dtype=np.int64)[keep]
    sums = {measure: heat_sums(values[:, keep], weekday) for measure, values in loaded.measures.items()}
    found = metrics.figures(sums, (name, "coverage"))
    hours = np.flatnonzero(sums["open_minutes"].sum(axis=0) > 0).tolist()
    if not hours:
        return None
    values = found[name][:, hours]
    title = t("{figure}, hour by weekday", figure=heat_texts(t)[name])
    summary = t("Nothing was measured in this period.")
    if not np.isnan(values).all():
        top = int(np.nanargmax(values))
        bottom = int(np.nanargmin(values))
        summary = t(
            "Highest on {high_day} from {high_hour}:00 ({high}), lowest on {low_day} from {low_hour}:00 ({low}).",
            high_day=t.weekday(top // len(hours)), high_hour=f"{hours[top % len(hours)]:02d}",
            high=t.percent(float(values.flat[top])),
            low_day=t.weekday(bottom // len(hours)), low_hour=f"{hours[bottom % len(hours)]:02d}",
            low=t.percent(float(values.flat[bottom])),
        )  # fmt: skip
    rows = tuple(
        (t.weekday(d), *(t.percent(float(v)) for v in values[d]), t.percent(_row_coverage(sums, d))) for d in range(7)
    )
    heads = (t("Weekday"), *(f"{hour:02d}:00" for hour in hours), t("Coverage"))
    figure = charts.heat(t, hours, [[known(float(v)) for v in row] for row in values])
    return Chart(
        "heat", title, summary, figure, Table(heads, rows),
        t("Local time ({zone}). Grey: nothing measured, or outside the measuring hours.", zone=data.zone_of(room).key),
    )  # fmt: skip


def _row_coverage(sums: dict[str, npt.NDArray[np.float64]], day: int) -> float:
    opened = float(sums["open_minutes"][day].sum())
    return float(sums["measured_minutes"][day].sum()) / opened if opened else float("nan")


def _outcomes(t: Language, sums: Any) -> list[tuple[str, str, str]]:
    """Outcome, how many, and their share of all bookings."""
    whole = float(sums["bookings"].sum())
    found = []
    for word, text in outcome_texts(t).items():
        count = float(sums[f"bookings_{word}"].sum())
        if count:
            found.append((text, t.number(count), t.percent(count / whole)))
    withdrawn = float(sums["bookings_withdrawn"].sum())
    if withdrawn:
        found.append((t("cancelled or moved in time"), t.number(withdrawn), t.number(None)))
    return found
