"""Now: which rooms stand empty while booked, which are free, who is where. Refreshes itself; also a wall screen."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from fastapi.responses import HTMLResponse
from starlette.background import BackgroundTask

from analytics.accounts.rights import Right
from analytics.domain.disclosure import small
from analytics.domain.model import Building
from analytics.web.portal.pages.figures_data import figure_data
from analytics.web.portal.pages.figures_filter import number_order
from analytics.web.portal.pages.figures_live import LiveView, RoomNow, State, live_view
from analytics.web.portal.view import page, templates
from analytics.web.portal.visit import Pages, Visit, visitor
from analytics.web.problems import ProblemError

FigureVisit = Annotated[Visit, Depends(visitor(Right.SEE_FIGURES))]
_FRESH, _KEEP = 10.0, 40.0
_ORDER = {state: i for i, state in enumerate(State)}


@dataclass(frozen=True)
class Tile:
    """One room as the page shows it.

    Attributes:
        people: the text for the count: a number, ``<5`` or a dash.
        share: of the seats, 0 to 1, for the bar; None where it must not or cannot be told.
        title: name of the booking; empty where the reader may not see it.
    """

    now: RoomNow
    people: str
    share: float | None
    title: str
    minutes_empty: int | None


@dataclass(frozen=True)
class Board:
    """What the page shows.

    Attributes:
        people: people in the rooms whose count is shown; ``withheld`` rooms with one to four are not in it, so the sum
            gives none of them away.
    """

    at: datetime
    tiles: tuple[Tile, ...]
    people: int | None
    withheld: int

    def of(self, *states: State) -> list[Tile]:
        return [tile for tile in self.tiles if tile.now.state in states]

    @property
    def measured(self) -> int:
        return sum(tile.now.people is not None for tile in self.tiles)

    @property
    def silent(self) -> int:
        """Rooms with a sensor that is silent or complains."""
        return sum(bool(tile.now.silent or tile.now.health) for tile in self.tiles)

    def by_building(self) -> list[tuple[Building, list[Tile]]]:
        found: dict[str, tuple[Building, list[Tile]]] = {}
        for tile in sorted(self.tiles, key=lambda tile: tile.now.building.name.casefold()):
            found.setdefault(tile.now.building.id, (tile.now.building, []))[1].append(tile)
        return list(found.values())


def add_now_page(pages: Pages) -> None:
    """Register the routes."""

    @pages.get("/o/{org_id}/now", Right.SEE_FIGURES)
    def now(request: Request, visit: FigureVisit, wall: str = "") -> Response:
        answer = page(request, "now.html", visit, **_context(request, visit), wall=bool(wall))
        answer.background = BackgroundTask(figure_data(request, visit).warm)  # when the page is out
        return answer

    @pages.get("/o/{org_id}/now/board", Right.SEE_FIGURES)
    def board(request: Request, visit: FigureVisit) -> Response:
        context = _context(request, visit)
        return HTMLResponse(templates.get_template("now_board.html").render(visit=visit, t=visit.t, **context))


def _context(request: Request, visit: Visit) -> dict[str, Any]:
    data = figure_data(request, visit)
    chosen = tuple(b for b in request.query_params.getlist("building") if b)
    if set(chosen) - set(data.visible):
        raise ProblemError(404, "not-found", visit.t("There is no such page."))
    view = data.cache.get(
        (visit.org_id, "live", data.fingerprint),
        lambda: live_view(data.store, data.site, data.clock()),
        fresh=_FRESH,
        keep=_KEEP,
    )
    return {
        "board": board_of(view, visit, set(chosen or data.visible)),
        "chosen": chosen,
        "has_bookings": any(room.booking or room.following for room in view.rooms),
        "has_sensors": bool(data.site.sensors),
        "State": State,
        "query": request.url.query,
    }


def board_of(view: LiveView, visit: Visit, buildings: set[str]) -> Board:
    """What one reader sees of all rooms."""
    rooms = [room for room in view.rooms if room.building.id in buildings]
    rooms.sort(key=_place)
    tiles, people, withheld = [], 0, 0
    for room in rooms:
        hidden = _hidden(room, visit)
        withheld += hidden
        if room.people is not None and not hidden:
            people += room.people
        tiles.append(_tile(room, visit, view.at, hidden))
    return Board(view.at, tuple(tiles), people if any(r.people is not None for r in rooms) else None, withheld)


def _place(room: RoomNow) -> tuple[object, ...]:
    """The most urgent first; of the empty ones those that stay booked longest."""
    remaining = room.until.timestamp() if room.state is State.EMPTY_BOOKED and room.until else 0.0
    return (_ORDER[room.state], -remaining, room.building.name.casefold(), number_order(room.room.number), room.room.id)


def _hidden(room: RoomNow, visit: Visit) -> bool:
    """One to four people in a booked room: the timetable says who they are, whoever reads."""
    if room.people is None or room.booking is None:
        return False
    return bool(small(room.people)) and not visit.may(Right.SEE_SMALL_COUNTS, room.building.id)


def _tile(room: RoomNow, visit: Visit, at: datetime, hidden: bool) -> Tile:
    t = visit.t
    text = t("fewer than 5") if hidden else t.number(room.people)
    share = None if hidden or room.people is None or not room.seats else room.people / room.seats
    title = ""
    if room.booking is not None and visit.may(Right.SEE_EVENTS, room.building.id):
        title = room.booking.title
    minutes = None
    if room.empty_since is not None:
        since = max(room.empty_since, room.booking.start) if room.booking else room.empty_since
        minutes = int((at - since) / timedelta(minutes=1))
    return Tile(room, text, share, title, minutes)
