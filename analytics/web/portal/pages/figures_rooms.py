"""Rooms: every room with its figures, in the order the reader wants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from fastapi import Depends, Request, Response

from analytics.accounts.rights import Right
from analytics.domain.model import Room
from analytics.web.portal.language import Language
from analytics.web.portal.pages.figures_data import ENOUGH, Array, FigureData, figure_data
from analytics.web.portal.pages.figures_filter import Filter, read_filter
from analytics.web.portal.pages.figures_overview import options
from analytics.web.portal.view import page
from analytics.web.portal.visit import Pages, Visit, visitor

FigureVisit = Annotated[Visit, Depends(visitor(Right.SEE_FIGURES))]
COLUMNS = ("planned_frequency", "frequency", "unused_booked", "hours_lost", "no_show_rate", "fill", "coverage")


@dataclass(frozen=True)
class RoomRow:
    """One room; ``cells`` are texts in the order of ``COLUMNS``."""

    room: Room
    building: str
    seats: int | None
    cells: tuple[str, ...]
    thin: bool


def add_rooms_page(pages: Pages) -> None:
    """Register the route."""

    @pages.get("/o/{org_id}/rooms", Right.SEE_FIGURES)
    def rooms(request: Request, visit: FigureVisit, sort: str = "", q: str = "") -> Response:
        data = figure_data(request, visit)
        choice = read_filter(request.query_params, visit, data.site, data.usual())
        chosen = choice.rooms(data.site, data.visible)
        wanted = q.strip().casefold()[:80]
        if wanted:
            chosen = [r for r in chosen if wanted in f"{r.number} {r.name} {r.id}".casefold()]
        t = visit.t
        # Room by room: a combined room has figures of its own, beside its parts.
        found = data.room_figures(choice, chosen, COLUMNS)
        order = list(range(len(chosen)))
        column, falling = sort.removeprefix("-"), sort.startswith("-")
        if column in COLUMNS:
            values = found[column]
            sign = -1.0 if falling else 1.0
            order.sort(key=lambda i: (bool(np.isnan(values[i])), sign * float(np.nan_to_num(values[i]))))
        rows = room_rows(data, choice, [chosen[i] for i in order], {n: v[order] for n, v in found.items()})
        return page(
            request, "rooms.html", visit, f=choice, options=options(data, choice), rows=rows, q=q[:80],
            heads=heads(t), sort=sort if column in COLUMNS else "", any_room=bool(data.rooms),
        )  # fmt: skip


def room_rows(data: FigureData, choice: Filter, rooms: Sequence[Room], found: Mapping[str, Array]) -> list[RoomRow]:
    """Rows of the table, in the order of ``rooms``; ``found`` holds the figures of each, shape (rooms,)."""
    t = data.visit.t
    return [
        RoomRow(
            room,
            data.site.buildings[room.building_id].name,
            room.capacity_on(choice.last),
            tuple(_cell(t, name, float(found[name][i])) for name in COLUMNS),
            not found["coverage"][i] >= ENOUGH,
        )
        for i, room in enumerate(rooms)
    ]


def heads(t: Language) -> list[tuple[str, str]]:
    """Columns with their texts."""
    texts = (
        t("In use, planned"), t("In use, measured"), t("Booked, not used"), t("hours lost"), t("No-shows"),
        t("Seats filled"), t("Coverage"),
    )  # fmt: skip
    return list(zip(COLUMNS, texts, strict=True))


def _cell(t: Language, name: str, value: float) -> str:
    return t.number(value, 1) if name == "hours_lost" else t.percent(value)
