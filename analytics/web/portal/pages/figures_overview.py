"""Overview: planned against measured, what is lost, how it develops, and which rooms are worst and best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Annotated, Any

import numpy as np
from fastapi import Depends, Request, Response

from analytics.accounts.rights import Right
from analytics.domain.metrics import DEFINITION, FIGURES
from analytics.domain.model import Room
from analytics.web.portal import charts
from analytics.web.portal.charts import Chart, Table
from analytics.web.portal.language import Language
from analytics.web.portal.pages.figures_data import ENOUGH, FigureData, Sums, figure_data, known, week_of
from analytics.web.portal.pages.figures_filter import Filter, classes_of, read_filter
from analytics.web.portal.view import page
from analytics.web.portal.visit import Pages, Visit, portal_of, visitor

FigureVisit = Annotated[Visit, Depends(visitor(Right.SEE_FIGURES))]
RANKED = 10


@dataclass(frozen=True)
class KeyFigure:
    """One figure on a card.

    Attributes:
        value: as text; ``planned`` beside it where there is a planned one.
        beside: what the figure rests on: its coverage.
        thin: so little was measured that the figure says little.
    """

    label: str
    value: str
    planned: str
    explain: str
    beside: str
    thin: bool
    loud: bool = False


def add_overview_page(pages: Pages) -> None:
    """Register the route."""

    @pages.get("/o/{org_id}/overview", Right.SEE_FIGURES)
    def overview(request: Request, visit: FigureVisit) -> Response:
        data = figure_data(request, visit)
        choice = read_filter(request.query_params, visit, data.site, data.usual())
        sums = data.sums(choice)
        total = sums.total()
        return page(
            request,
            "overview.html",
            visit,
            f=choice,
            options=options(data, choice),
            sums=sums,
            total=total,
            keys=key_figures(visit.t, total, sums.weeks(choice), data.patience),
            trend=trend(visit.t, sums) if sums.days else None,
            lost=lost(visit.t, sums) if sums.days else None,
            ranking=ranking(data, sums),
            formulas=formulas(visit.t),
            definition=DEFINITION,
            received=len(portal_of(request).shares.received(visit.org_id)),
        )


@dataclass(frozen=True)
class Preset:
    text: str
    query: str


def options(data: FigureData, choice: Filter, **more: str | None) -> dict[str, Any]:
    """What the form of a filter offers, and links to common periods; ``more`` goes into those links too."""
    t, today = data.visit.t, data.today
    monday = today - timedelta(days=today.weekday())
    start, end = data.usual()
    spans: list[tuple[str, date, date]] = [(t("Usual: the last four weeks"), start, end)]
    if today > monday:
        spans.append((t("This week"), monday, today))
    spans.append((t("This year"), date(today.year, 1, 1), today + timedelta(days=1)))
    past = [p for p in data.site.organisation.periods if p.start <= today]
    if past:
        spans.append((t("All named periods"), min(p.start for p in past), max(p.end for p in past)))
    return {
        "classes": classes_of(data.site, data.visit),
        "periods": [p.name for p in data.site.organisation.periods],
        "presets": [Preset(text, choice.between(a, b).query("", **more)) for text, a, b in spans if b > a],
    }


def key_figures(t: Language, total: dict[str, float], weeks: float, patience: str) -> list[KeyFigure]:
    """The cards, the most telling first. ``patience``: minutes after which a booking would be released."""
    coverage = t("coverage {share}", share=t.percent(total["coverage"]))
    thin = not total["coverage"] >= ENOUGH
    weekly = total["hours_lost"] / weeks if weeks else math.nan

    def pair(label: str, planned: str, measured: str, explain: str) -> KeyFigure:
        beside = coverage
        if planned != "planned_frequency":
            beside = t(
                "{coverage}; size known of {share} of the planned time",
                coverage=coverage,
                share=t.percent(total["expected_known"]),
            )
        return KeyFigure(label, t.percent(total[measured]), t.percent(total[planned]), explain, beside, thin)

    judged = t("{share} of the bookings could be judged", share=t.percent(1 - total["unknown_rate"]))
    few = not total["unknown_rate"] <= 1 - ENOUGH
    return [
        KeyFigure(
            t("Booked, not used"), t.percent(total["unused_booked"]), "",
            t("{hours} hours lost, {weekly} a week", hours=t.number(total["hours_lost"]), weekly=t.number(weekly)),
            coverage, thin, loud=True,
        ),
        KeyFigure(
            t("No-shows"), t.percent(total["no_show_rate"]), "",
            t("of the judged bookings nobody came to"), judged, few, loud=True,
        ),
        pair(t("Room in use"), "planned_frequency", "frequency", t("share of the open time")),
        pair(t("Seats filled while in use"), "planned_fill", "fill", t("people on seats, in use")),
        pair(t("Seats used of all seats"), "planned_utilisation", "utilisation", t("person-hours of the seat-hours")),
        KeyFigure(
            t("Could be given back"), t("{hours} h", hours=t.number(total["release_hours"])), "",
            t("if bookings to which nobody came were released {minutes} min after their start", minutes=patience),
            judged, few,
        ),
        KeyFigure(
            t("Used without a booking"), t.percent(total["unscheduled"]), "", t("share of the time in use"), coverage,
            thin,
        ),
        KeyFigure(
            t("Coverage"), t.percent(total["coverage"]), "",
            t("{measured} of {open} room-hours measured", measured=t.number(total["measured_hours"]),
              open=t.number(total["open_hours"])), "", thin,
        ),
    ]  # fmt: skip


def trend(t: Language, sums: Sums) -> Chart:
    """Planned and measured frequency a week."""
    names = ("coverage", "planned_frequency", "planned_frequency_measured", "frequency", "unused_booked")
    labels, found = sums.by_day(week_of, names)
    texts = week_texts(t, labels)
    used = found["planned_frequency_measured"] * (1 - np.nan_to_num(found["unused_booked"]))
    series = [
        (t("booked"), [known(v) for v in found["planned_frequency"]], charts.PLANNED, "dash"),
        (t("booked and in use"), [known(v) for v in used], charts.USED, "dot"),
        (t("in use, measured"), [known(v) for v in found["frequency"]], charts.MEASURED, "solid"),
    ]
    rows = tuple(
        (
            texts[i],
            t.percent(float(found["planned_frequency"][i])),
            t.percent(float(used[i])),
            t.percent(float(found["frequency"][i])),
            t.percent(float(found["unused_booked"][i])),
            t.percent(float(found["coverage"][i])),
        )
        for i in range(len(labels))
    )
    summary = t("Nothing was measured in this period.")
    if not np.isnan(found["unused_booked"]).all():
        worst = int(np.nanargmax(found["unused_booked"]))
        summary = t(
            "Rooms were in use {low} to {high} of the time. In {week} most of what was booked stood empty: {share}.",
            low=t.percent(float(np.nanmin(found["frequency"]))),
            high=t.percent(float(np.nanmax(found["frequency"]))),
            week=texts[worst],
            share=t.percent(float(found["unused_booked"][worst])),
        )
    heads = (
        t("Week"), t("booked"), t("booked and in use"), t("in use, measured"), t("Booked, not used"), t("Coverage"),
    )  # fmt: skip
    return Chart(
        "trend", t("Booked and in use, week by week"), summary, charts.lines(t, texts, series), Table(heads, rows),
        t("Share of the open time. A week without measurement leaves a gap."),
    )  # fmt: skip


def lost(t: Language, sums: Sums) -> Chart:
    """Booked hours without anybody, a week."""
    labels, found = sums.by_day(week_of, ("coverage", "hours_lost", "booked_hours"))
    texts = week_texts(t, labels)
    values = [known(v) for v in found["hours_lost"]]
    some = [v for v in values if v is not None]
    summary = t("Nothing was measured in this period.")
    if some:
        summary = t(
            "{total} booked hours stood empty, at most {most} in one week ({week}).",
            total=t.number(sum(some)),
            most=t.number(max(some)),
            week=texts[values.index(max(some))],
        )
    rows = tuple(
        (texts[i], t.number(float(found["hours_lost"][i]), 1), t.number(float(found["booked_hours"][i]), 1),
         t.percent(float(found["coverage"][i])))
        for i in range(len(labels))
    )  # fmt: skip
    heads = (t("Week"), t("hours lost"), t("hours booked"), t("Coverage"))
    figure = charts.bars(t, texts, [(t("hours lost"), values, charts.MEASURED)], t("hours"))
    return Chart("lost", t("Hours lost: booked and empty"), summary, figure, Table(heads, rows))


@dataclass(frozen=True)
class Ranked:
    """One room in a ranking."""

    room: Room
    building: str
    figures: dict[str, float]


def ranking(data: FigureData, sums: Sums) -> dict[str, Any]:
    """Rooms with most and least booked time unused, and the chart of the worst; thinly measured rooms are left out."""
    t = data.visit.t
    names = ("coverage", "unused_booked", "hours_lost", "frequency", "planned_frequency", "fill", "booked_hours")
    found = sums.by_room(names)
    fit = (found["coverage"] >= ENOUGH) & ~np.isnan(found["unused_booked"]) & (found["booked_hours"] >= 1)
    order = np.flatnonzero(fit)
    order = order[np.argsort(-found["hours_lost"][order], kind="stable")]

    def row(i: int) -> Ranked:
        room = sums.rooms[i]
        return Ranked(
            room, data.site.buildings[room.building_id].name, {name: float(values[i]) for name, values in found.items()}
        )

    count = min(RANKED, len(order) // 2) if len(order) > 1 else len(order)
    worst = [row(i) for i in order[:count].tolist()]
    best_first = order[np.argsort(found["unused_booked"][order], kind="stable")] if len(order) else order
    best = [row(i) for i in best_first[:count].tolist()] if len(order) > 1 else []
    return {"worst": worst, "best": best, "left_out": len(sums.rooms) - len(order), "chart": _ranking_chart(t, worst)}


def _ranking_chart(t: Language, worst: Sequence[Ranked]) -> Chart | None:
    if not worst:
        return None
    labels = [f"{r.room.number} · {r.building}" for r in worst]
    summary = t(
        "Most hours were lost in {room}: {hours} hours, {share} of its booked time.",
        room=labels[0],
        hours=t.number(worst[0].figures["hours_lost"]),
        share=t.percent(worst[0].figures["unused_booked"]),
    )
    rows = tuple(
        (label, t.number(r.figures["hours_lost"], 1), t.percent(r.figures["unused_booked"]),
         t.percent(r.figures["coverage"]))
        for label, r in zip(labels, worst, strict=True)
    )  # fmt: skip
    figure = charts.bars(
        t, labels, [(t("hours lost"), [r.figures["hours_lost"] for r in worst], charts.MEASURED)], t("hours"),
        sideways=True,
    )  # fmt: skip
    heads = (t("Room"), t("hours lost"), t("Booked, not used"), t("Coverage"))
    return Chart("worst", t("Rooms that lose most"), summary, figure, Table(heads, rows))


def formulas(t: Language) -> list[tuple[str, str]]:
    """What each figure of the page is computed from."""
    texts = {
        "coverage": t("Coverage"),
        "unused_booked": t("Booked, not used"),
        "hours_lost": t("hours lost"),
        "no_show_rate": t("No-shows"),
        "planned_frequency": t("Room in use, planned"),
        "frequency": t("Room in use, measured"),
        "planned_fill": t("Seats filled, planned"),
        "fill": t("Seats filled, measured"),
        "planned_utilisation": t("Seats used, planned"),
        "utilisation": t("Seats used, measured"),
        "unscheduled": t("Used without a booking"),
        "release_hours": t("Could be given back"),
    }
    return [(text, FIGURES[name].formula) for name, text in texts.items()]


def week_texts(t: Language, labels: Sequence[str]) -> list[str]:
    """``2026-W41`` for people, with the year where the period holds more than one."""
    several = len({label[:4] for label in labels}) > 1
    return [t("wk {week}", week=int(label[-2:])) + (f" {label[:4]}" if several else "") for label in labels]
