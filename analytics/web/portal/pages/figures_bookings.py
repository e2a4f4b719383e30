"""Bookings: those to which nobody came, over-full ones, and series in rooms of the wrong size, with a proposal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Annotated

import numpy as np
from fastapi import Depends, Query, Request, Response

from analytics.accounts.rights import Right
from analytics.assemble import load_room
from analytics.domain.disclosure import small
from analytics.domain.matching import Outcome
from analytics.domain.model import Room
from analytics.domain.recurring import SeriesRules, Verdict
from analytics.web.portal import charts
from analytics.web.portal.charts import Chart, Table
from analytics.web.portal.language import Language
from analytics.web.portal.pages.figures_data import FigureData, Sums, figure_data, known, week_of
from analytics.web.portal.pages.figures_events import EventRow, Judged, event_rows
from analytics.web.portal.pages.figures_filter import Filter, read_filter
from analytics.web.portal.pages.figures_overview import options, week_texts
from analytics.web.portal.pages.figures_series import Finding, findings
from analytics.web.portal.view import page
from analytics.web.portal.visit import Pages, Visit, visitor

EventVisit = Annotated[Visit, Depends(visitor(Right.SEE_EVENTS))]
PAGE = 15
_FRESH, _KEEP = 60.0, 900.0
SERIES_SHOWN = 60
SHOWN = ("no_show", "over_capacity", "too_large", "too_small", "never_held")
_OUTCOMES = {"no_show": Outcome.NO_SHOW, "over_capacity": Outcome.OVER_CAPACITY}
_VERDICTS = {"too_large": Verdict.UNDER_USED, "too_small": Verdict.OVER_FULL, "never_held": Verdict.NEVER_HELD}


@dataclass(frozen=True)
class SeriesRow:
    """One series as the page shows it."""

    finding: Finding
    building: str
    when: str
    median: str
    p90: str
    needed: str
    proposal: str
    weekly: str


def add_bookings_page(pages: Pages) -> None:
    """Register the route."""

    @pages.get("/o/{org_id}/bookings", Right.SEE_EVENTS)
    def bookings(
        request: Request, visit: EventVisit, show: str = "no_show", at: Annotated[int, Query(ge=0, le=100_000)] = 0
    ) -> Response:
        data, t = figure_data(request, visit), visit.t
        show = show if show in SHOWN else SHOWN[0]
        choice = read_filter(request.query_params, visit, data.site, data.usual())
        sums = data.sums(choice)
        series = findings(data, choice, patience=0.2 if show in _VERDICTS else 0.0)
        cells = _cells(data, choice, sums.rooms, show) if show in _OUTCOMES else []
        rows = _events(data, visit, cells[at : at + PAGE], _OUTCOMES[show]) if show in _OUTCOMES else []
        chosen = [f for f in series or () if f.summary.verdict is _VERDICTS.get(show)]
        weeks = sums.weeks(choice)
        freed = sum(f.hours for f in chosen if show == "never_held" or f.proposal)
        return page(
            request,
            "bookings.html",
            visit,
            f=choice,
            options=options(data, choice, show=show),
            sums=sums,
            total=sums.total(),
            show=show,
            tabs=_tabs(t, sums, series),
            chart=_chart(t, sums, _OUTCOMES[show]) if show in _OUTCOMES and sums.days else None,
            rows=rows,
            at=at,
            count=len(cells),
            page_size=PAGE,
            waiting=series is None and show in _VERDICTS,
            series=[_series_row(data, visit, f, weeks) for f in chosen[:SERIES_SHOWN]],
            series_count=len(chosen),
            freed=t.number(freed / weeks if weeks else None),
            headroom=t.percent(SeriesRules().headroom),
        )


def _tabs(t: Language, sums: Sums, series: Sequence[Finding] | None) -> list[tuple[str, str, str]]:
    """Name, text and count of each list."""
    verdicts = [finding.summary.verdict for finding in series or ()]
    texts = {
        "no_show": t("No-shows"),
        "over_capacity": t("Over-full bookings"),
        "too_large": t("Room too large"),
        "too_small": t("Room too small"),
        "never_held": t("Never held"),
    }
    counts = {
        **{name: sums.sum(f"bookings_{outcome.word}") for name, outcome in _OUTCOMES.items()},
        **{name: math.nan if series is None else verdicts.count(verdict) for name, verdict in _VERDICTS.items()},
    }
    return [(name, text, t.number(counts[name])) for name, text in texts.items()]


def _cells(data: FigureData, choice: Filter, rooms: Sequence[Room], show: str) -> list[tuple[date, str, int]]:
    """(day, room, hour) in which a booking of that outcome starts, the newest first; read out of the roll-ups."""
    order = {room.id: i for i, room in enumerate(rooms)}
    periods = data.site.organisation.periods
    found: list[tuple[date, str, int]] = []
    for month in data.months(choice.start, choice.end):
        place = np.array([order.get(room_id, -1) for room_id in month.room_ids], dtype=np.int64)
        kept = np.array([choice.keeps(day, periods) for day in month.days], dtype=np.bool_)
        room, day, hour = month.starts[month.at_start[f"bookings_{_OUTCOMES[show].word}"] > 0].T
        shown = (place[room] >= 0) & kept[day]
        room, day, hour = room[shown], day[shown], hour[shown]
        newest = np.lexsort((hour, place[room], -day))
        cells = zip(room[newest].tolist(), day[newest].tolist(), hour[newest].tolist(), strict=True)
        found = [(month.days[d], month.room_ids[r], h) for r, d, h in cells] + found  # months come oldest first
    return found


def _events(data: FigureData, visit: Visit, cells: Sequence[tuple[date, str, int]], outcome: Outcome) -> list[EventRow]:
    """The bookings behind some cells, judged again from the minutes, so that the reasons can be shown."""
    found: dict[tuple[date, str], list[EventRow]] = {}
    rows: list[EventRow] = []
    for day, room_id, hour in cells:
        if (day, room_id) not in found:
            judged = _judged(data, room_id, day)
            shown = zip(event_rows(data, judged, visit), judged.chosen, strict=True)
            found[day, room_id] = [row for row, i in shown if judged.matches.outcome[i] == outcome]
        zone = data.zone_of(data.site.rooms[room_id])
        rows += [row for row in found[day, room_id] if row.booking.start.astimezone(zone).hour == hour]
    return rows


def _judged(data: FigureData, room_id: str, day: date) -> Judged:
    def make() -> Judged:
        return Judged.of(load_room(data.store, data.site, room_id, day, day, data.rules_of))

    key = (data.visit.org_id, "judged", room_id, day, data.now.date(), data.fingerprint)
    return data.cache.get(key, make, fresh=_FRESH, keep=_KEEP)


def _chart(t: Language, sums: Sums, outcome: Outcome) -> Chart:
    """How many a week, with their share of the judged bookings."""
    labels, found = sums.by_day(week_of, ("no_show_rate", "unknown_rate"))
    texts = week_texts(t, labels)
    place = {label: i for i, label in enumerate(labels)}
    counts, judged = np.zeros(len(labels)), np.zeros(len(labels))
    for i, day in enumerate(sums.days):
        at = place[week_of(day)]
        counts[at] += sums.measures[f"bookings_{outcome.word}"][:, i].sum()
        judged[at] += (sums.measures["bookings"][:, i] - sums.measures["bookings_unknown"][:, i]).sum()
    values = [known(float(c)) if j else None for c, j in zip(counts, judged, strict=True)]
    title = t("No-shows a week") if outcome is Outcome.NO_SHOW else t("Over-full bookings a week")
    total, whole = float(counts.sum()), float(judged.sum())
    summary = t("Nothing was measured in this period.")
    if whole:
        summary = t(
            "{count} of {judged} judged bookings, {share}.",
            count=t.number(total), judged=t.number(whole), share=t.percent(total / whole),
        )  # fmt: skip
    rows = tuple(
        (texts[i], t.number(values[i]), t.number(float(judged[i])),
         t.percent(counts[i] / judged[i] if judged[i] else None), t.percent(1 - float(found["unknown_rate"][i])))
        for i in range(len(labels))
    )  # fmt: skip
    heads = (t("Week"), t("Bookings"), t("judged"), t("Share"), t("could be judged"))
    figure = charts.bars(t, texts, [(title, values, charts.MEASURED)], t("Bookings"), digits=0)
    return Chart("weeks", title, summary, figure, Table(heads, rows))


def _series_row(data: FigureData, visit: Visit, finding: Finding, weeks: float) -> SeriesRow:
    t, summary = visit.t, finding.summary
    free = visit.may(Right.SEE_SMALL_COUNTS, finding.room.building_id)

    def people(value: float) -> str:
        return t("fewer than 5") if bool(small(value)) and not free else t.number(value)

    # The seats needed follow from the attendance: a withheld one must not come back through them.
    hidden = bool(small(summary.p90)) and not free
    needed = summary.class_needed if hidden else summary.seats_needed
    proposal = ""
    if finding.proposal is not None:
        proposal = t("{room}, {seats} seats", room=finding.proposal.number, seats=t.number(finding.proposal_seats))
    when = ", ".join(f"{t.weekday(day)} {hour:02d}:00" for day, hour in finding.when[:3])
    if len(finding.when) > 3:
        when += " …"
    return SeriesRow(
        finding, data.site.buildings[finding.room.building_id].name, when, people(summary.median), people(summary.p90),
        t.number(needed if needed >= 0 else None), proposal, t.number(finding.hours / weeks if weeks else None, 1),
    )  # fmt: skip
