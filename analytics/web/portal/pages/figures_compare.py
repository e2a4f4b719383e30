"""Compare: two periods or two sets of rooms beside each other, or two versions of the plan of one period."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Annotated

import numpy as np
from fastapi import Depends, Request, Response

from analytics.accounts.rights import Right
from analytics.domain.metrics import DEFINITION
from analytics.domain.model import BookingStatus, Room, StoredBooking
from analytics.domain.plan import span_mask
from analytics.domain.time import BoolArray, date_of, day_bounds, local_grid, minute_of, moment_of
from analytics.web.portal import charts
from analytics.web.portal.charts import Chart, Table
from analytics.web.portal.language import Language
from analytics.web.portal.pages.figures_data import ENOUGH, FigureData, Sums, figure_data, known
from analytics.web.portal.pages.figures_filter import Filter, date_in, read_filter
from analytics.web.portal.pages.figures_overview import options
from analytics.web.portal.view import page
from analytics.web.portal.visit import Pages, Visit, visitor

FigureVisit = Annotated[Visit, Depends(visitor(Right.SEE_FIGURES))]
SHARES = (
    "planned_frequency", "frequency", "unused_booked", "no_show_rate", "planned_fill", "fill", "planned_utilisation",
    "utilisation", "unscheduled",
)  # fmt: skip
WEEKLY = ("booked_hours", "in_use_hours", "hours_lost", "release_hours")
LONGEST_PLAN = 35
"""Days over which versions of the plan are compared at most: every booking is read."""


@dataclass(frozen=True)
class Row:
    """One figure on both sides and their difference."""

    text: str
    a: str
    b: str
    change: str


def add_compare_page(pages: Pages) -> None:
    """Register the route."""

    @pages.get("/o/{org_id}/compare", Right.SEE_FIGURES)
    def compare(request: Request, visit: FigureVisit) -> Response:
        data, t, params = figure_data(request, visit), visit.t, request.query_params
        usual = data.usual()
        weeks = timedelta(weeks=4)
        a = read_filter(params, visit, data.site, (usual[0] - weeks, usual[0]), prefix="a_")
        b = read_filter(params, visit, data.site, usual, prefix="b_")
        sides = [data.sums(a), data.sums(b)]
        names = [side_text(visit, data, choice) for choice in (a, b)]
        measured = all(side.days and side.rooms for side in sides)
        known_on = [date_in(params.get(name, "").strip()) for name in ("a_known", "b_known")]
        return page(
            request,
            "compare.html",
            visit,
            a=a,
            b=b,
            options=options(data, b),
            names=names,
            sides=sides,
            rows=compare_rows(t, sides, (a, b)) if measured else [],
            thin=[side.total(("coverage",))["coverage"] for side in sides] if measured else [],
            enough=ENOUGH,
            chart=compare_chart(t, sides, names) if measured else None,
            weekdays=weekday_chart(t, sides, names) if measured else None,
            known_on=known_on,
            plans=compare_plans(data, b, known_on) if any(known_on) else None,
            longest=LONGEST_PLAN,
            definition=DEFINITION,
        )


def side_text(visit: Visit, data: FigureData, choice: Filter) -> str:
    """What one side is, in one line."""
    t = visit.t
    parts = [f"{t.date(choice.start)} – {t.date(choice.last)}"]
    parts += [data.site.buildings[b].name for b in choice.buildings]
    if choice.room_class:
        parts.append(t("class {name}", name=choice.room_class))
    return ", ".join(parts)


def compare_rows(t: Language, sides: Sequence[Sums], choices: Sequence[Filter]) -> list[Row]:
    """Shares as they are with their difference in points, hours a week, and the coverage first."""
    first, second = (side.total() for side in sides)
    texts = {
        "coverage": t("Coverage"), "planned_frequency": t("Room in use, planned"),
        "frequency": t("Room in use, measured"), "unused_booked": t("Booked, not used"), "no_show_rate": t("No-shows"),
        "planned_fill": t("Seats filled, planned"), "fill": t("Seats filled, measured"),
        "planned_utilisation": t("Seats used, planned"), "utilisation": t("Seats used, measured"),
        "unscheduled": t("Used without a booking"), "booked_hours": t("Hours booked a week"),
        "in_use_hours": t("Hours in use a week"), "hours_lost": t("Hours lost a week"),
        "release_hours": t("Hours that could be given back a week"),
    }  # fmt: skip
    rows = [
        Row(texts[name], t.percent(x, 1), t.percent(y, 1), _points(t, y - x))
        for name in ("coverage", *SHARES)
        for x, y in [(first[name], second[name])]
    ]
    for name in WEEKLY:
        x, y = (
            total[name] / side.weeks(choice)
            for total, side, choice in zip((first, second), sides, choices, strict=True)
        )
        rows.append(Row(texts[name], t.number(x, 1), t.number(y, 1), _signed(t, y - x)))
    return rows


def _points(t: Language, value: float) -> str:
    return t.number(None) if np.isnan(value) else t("{points} points", points=_signed(t, value * 100))


def _signed(t: Language, value: float) -> str:
    value = round(value, 1) + 0.0  # no minus before a zero
    text = t.number(value, 1)
    return f"+{text}" if value > 0 else text.replace("-", "−")


def compare_chart(t: Language, sides: Sequence[Sums], names: Sequence[str]) -> Chart:
    """The shares of both sides beside each other."""
    shown = ("planned_frequency", "frequency", "unused_booked", "no_show_rate", "fill", "utilisation")
    texts = (
        t("Room in use, planned"), t("Room in use, measured"), t("Booked, not used"), t("No-shows"),
        t("Seats filled, measured"), t("Seats used, measured"),
    )  # fmt: skip
    totals = [side.total() for side in sides]
    series = [
        (f"{letter}: {name}", [known(total[figure]) for figure in shown], colour)
        for letter, name, total, colour in zip("AB", names, totals, (charts.PLANNED, charts.MEASURED), strict=True)
    ]
    a, b = (total["unused_booked"] for total in totals)
    summary = t(
        "Of the booked time {a} stood empty in A and {b} in B; coverage {cover_a} and {cover_b}.",
        a=t.percent(a), b=t.percent(b), cover_a=t.percent(totals[0]["coverage"]),
        cover_b=t.percent(totals[1]["coverage"]),
    )  # fmt: skip
    rows = tuple(
        (text, t.percent(totals[0][figure]), t.percent(totals[1][figure]))
        for text, figure in zip(texts, shown, strict=True)
    )
    figure = charts.bars(t, texts, series, "", share=True, sideways=True)
    return Chart("compare", t("A and B"), summary, figure, Table((t("Figure"), "A", "B"), rows))


def weekday_chart(t: Language, sides: Sequence[Sums], names: Sequence[str]) -> Chart:
    """Measured use by weekday on both sides."""
    found = []
    for side in sides:
        labels, figures = side.by_day(lambda day: str(day.weekday()), ("coverage", "frequency"))
        found.append({int(label): (float(figures["frequency"][i]), float(figures["coverage"][i]))
                      for i, label in enumerate(labels)})  # fmt: skip
    none = (float("nan"), float("nan"))
    days = [d for d in range(7) if any(not np.isnan(side.get(d, none)[0]) for side in found)]
    series = [
        (f"{letter}: {name}", [known(side.get(d, none)[0]) for d in days], colour)
        for letter, name, side, colour in zip("AB", names, found, (charts.PLANNED, charts.MEASURED), strict=True)
    ]
    rows = tuple((t.weekday(d), *(t.percent(v) for side in found for v in side.get(d, none))) for d in days)
    summary = t("Nothing was measured in this period.")
    if days:

        def busiest(side: dict[int, tuple[float, float]]) -> str:
            seen = {d: v for d, (v, _) in side.items() if not np.isnan(v)}
            top = max(seen, key=lambda d: seen[d]) if seen else None
            return t.number(None) if top is None else f"{t.weekday(top)} ({t.percent(seen[top])})"

        summary = t("Busiest weekday: {a} in A, {b} in B.", a=busiest(found[0]), b=busiest(found[1]))
    heads = (t("Weekday"), f"A, {t('in use, measured')}", f"A, {t('Coverage')}", f"B, {t('in use, measured')}",
             f"B, {t('Coverage')}")  # fmt: skip
    figure = charts.bars(t, [t.weekday(d) for d in days], series, "", share=True)
    return Chart("weekdays", t("Room in use, measured, by weekday"), summary, figure, Table(heads, rows))


# --- versions of the plan -------------------------------------------------------------------------------------------


Plan = dict[tuple[str, str, str | None], StoredBooking]
"""Bookings by source, id and room."""


@dataclass(frozen=True)
class PlanVersion:
    """The plan of one period as it was known at one moment."""

    text: str
    bookings: str
    hours: str
    frequency: str


@dataclass(frozen=True)
class PlanChange:
    """Two versions, and what became of the bookings in between."""

    versions: tuple[PlanVersion, PlanVersion]
    added: str
    withdrawn: str
    changed: str
    measured: str
    coverage: str


def compare_plans(data: FigureData, choice: Filter, known_on: Sequence[date | None]) -> PlanChange | None:
    """The plan of B's rooms and period as known at the end of two days (None: now); None for too long a period."""
    if choice.days > LONGEST_PLAN:
        return None
    t, rooms = data.visit.t, choice.rooms(data.site, data.visible)
    key = (data.visit.org_id, "plans", choice.query(), data.visible, tuple(known_on), data.today, data.fingerprint)

    def make() -> tuple[list[Plan], list[tuple[float, float]]]:
        opened = _open_minutes(data, choice, rooms)
        plans = [_plan_as_of(data, choice, rooms, day) for day in known_on]
        return plans, [_booked_share(opened, plan.values()) for plan in plans]

    plans, shares = data.cache.get(key, make, fresh=60, keep=600)
    versions = []
    for plan, (hours, share), day in zip(plans, shares, known_on, strict=True):
        text = t("as known now") if day is None else t("as known at the end of {day}", day=t.date(day))
        versions.append(PlanVersion(text, t.number(len(plan)), t.number(hours, 1), t.percent(share, 1)))
    before, after = plans
    both = before.keys() & after.keys()
    moved = sum((before[k].start, before[k].end) != (after[k].start, after[k].end) for k in both)
    total = data.sums(choice).total(("frequency", "coverage"))
    return PlanChange(
        (versions[0], versions[1]), t.number(len(after.keys() - both)), t.number(len(before.keys() - both)),
        t.number(moved), t.percent(total["frequency"], 1), t.percent(total["coverage"]),
    )  # fmt: skip


def _plan_as_of(data: FigureData, choice: Filter, rooms: Sequence[Room], day: date | None) -> Plan:
    zone = data.visit.zone
    begin, end = day_bounds(choice.start, zone, choice.last)
    as_of = None
    if day is not None:
        as_of = min(datetime.combine(day + timedelta(days=1), time(), zone), data.now)
    live = (BookingStatus.PLANNED, BookingStatus.TENTATIVE)
    periods = data.site.organisation.periods
    return {
        (b.source, b.source_id, b.room_id): b
        for b in data.store.bookings(
            data.visit.org_id, [r.id for r in rooms], moment_of(begin), moment_of(end), as_of=as_of
        )
        if b.status in live and choice.keeps(b.start.astimezone(zone).date(), periods)
    }


def _open_minutes(data: FigureData, choice: Filter, rooms: Sequence[Room]) -> dict[str, tuple[int, BoolArray]]:
    """First minute and the minutes that count of each room; rooms with the same hours share one array."""
    periods = data.site.organisation.periods
    made: dict[object, tuple[int, BoolArray]] = {}
    found = {}
    for room in rooms:
        key = (room.building_id, room.measuring_hours, room.closures)
        if key not in made:
            zone = data.zone_of(room)
            start, end = day_bounds(choice.start, zone, choice.last)
            grid = local_grid(zone, start, end - start)
            first = int(grid.day[0])
            kept = np.array([choice.keeps(date_of(d), periods) for d in range(first, int(grid.day[-1]) + 1)])
            made[key] = (start, data.site.calendar(room).open(grid) & kept[grid.day - first])
        found[room.id] = made[key]
    return found


def _booked_share(
    opened: Mapping[str, tuple[int, BoolArray]], bookings: Iterable[StoredBooking]
) -> tuple[float, float]:
    """Booked hours inside the measuring hours, overlaps counted once, and their share of them."""
    of: dict[str, list[StoredBooking]] = {}
    for booking in bookings:
        of.setdefault(booking.room_id or "", []).append(booking)
    booked = whole = 0
    for room_id, (start, mask) in opened.items():
        whole += int(np.count_nonzero(mask))
        some = of.get(room_id, ())
        begin = np.array([minute_of(b.start) for b in some], dtype=np.int64)
        end = np.array([minute_of(b.end) for b in some], dtype=np.int64)
        booked += int(np.count_nonzero(mask & span_mask(begin, end, start, mask.size)))
    return booked / 60, booked / whole if whole else float("nan")
