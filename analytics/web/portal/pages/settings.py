"""Settings: what its pages share, and the rooms with their capacities."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from datetime import date
from typing import Annotated, Any

from fastapi import Depends, File, Form, Request, Response, UploadFile
from fastapi.responses import RedirectResponse

from analytics import master
from analytics.accounts.rights import Right
from analytics.domain.model import Room
from analytics.room_import import MAX_SEATS, ImportPlan, decode, plan_import
from analytics.web.portal.view import page
from analytics.web.portal.visit import Pages, Visit, portal_of, visitor
from analytics.web.problems import ProblemError

Text = Annotated[str, Form(max_length=400)]
RoomVisit = Annotated[Visit, Depends(visitor(Right.MANAGE_ROOMS))]
MAX_FILE = 10 << 20
_ROOMS_SHOWN = 500

# (path below settings, text, right)
TABS: tuple[tuple[str, str, Right], ...] = (
    ("", "Rooms", Right.MANAGE_ROOMS),
    ("/hours", "Hours and closed days", Right.MANAGE_ROOMS),
    ("/periods", "Periods", Right.MANAGE_ROOMS),
    ("/rules", "Rules", Right.SEE_FIGURES),
    ("/sources", "Timetables", Right.MANAGE_SOURCES),
    ("/retention", "Keeping and erasing", Right.MANAGE_RETENTION),
)


def settings_page(request: Request, name: str, visit: Visit, *, status: int = 200, **context: Any) -> Response:
    """A page of the settings, with its tabs."""
    base = f"/o/{visit.org_id}/settings"
    here = request.url.path.removeprefix(base)
    tabs = [
        {"href": base + path, "text": visit.t(text), "here": (path != "" and here.startswith(path))}
        for path, text, right in TABS
        if visit.may(right)
    ]
    if not any(tab["here"] for tab in tabs) and tabs:
        tabs[0]["here"] = True
    context = {"problem_text": "", "done": "", **context}
    return page(request, name, visit, status=status, tabs=tabs, **context)


def record(request: Request, visit: Visit, action: str, **detail: Any) -> None:
    """Write a change of settings into the audit log."""
    portal = portal_of(request)
    portal.audit.record(visit.org_id, visit.user.id, action, detail, at=portal.clock())


def today_of(request: Request, visit: Visit) -> date:
    """The organisation's local date."""
    return portal_of(request).clock().astimezone(visit.zone).date()


def go_on(visit: Visit, path: str = "") -> Response:
    """To a page of the settings, after a change."""
    return RedirectResponse(f"/o/{visit.org_id}/settings{path}", 303)


def a_date(text: str, visit: Visit) -> date:
    """A date of a form. Raises ProblemError 400."""
    try:
        found = date.fromisoformat(text.strip())
    except ValueError:
        found = None
    if found is None or not 1900 <= found.year < 2200:
        raise ProblemError(400, "not-valid", visit.t("This is not a date such as 2026-09-01."))
    return found


def clean(text: str) -> str:
    """A name as it is kept: without control characters, which no name has and some readers trip over."""
    return "".join(letter for letter in text if unicodedata.category(letter) != "Cc").strip()


def add_settings_pages(pages: Pages) -> None:
    """Register the routes of rooms; the other tabs have modules of their own."""
    base = "/o/{org_id}/settings"

    @pages.get(base, Right.MANAGE_ROOMS)
    def settings(request: Request, visit: RoomVisit, q: str = "") -> Response:
        return _rooms_page(request, visit, search=q)

    @pages.post(f"{base}/rooms", Right.MANAGE_ROOMS)
    def add_room(
        request: Request,
        visit: RoomVisit,
        building: Text = "",
        number: Text = "",
        name: Text = "",
        capacity: Text = "",
        room_class: Text = "",
    ) -> Response:
        # The same way as a file of one line: the same checks, and the same words for what is wrong.
        header = ("building", "number", "name", "capacity", "class")
        cells = (building, number, name, capacity, room_class)
        text = "\n".join(";".join(_quoted(cell) for cell in line) for line in (header, cells))
        plan = _plan(request, visit, text)
        if plan.faults:
            return _rooms_page(request, visit, plan=plan, status=400)
        if not plan.new:
            problem = visit.t("There is a room of this number in this building already.")
            return _rooms_page(request, visit, problem=problem, status=400)
        _carry_out(request, visit, plan)
        return go_on(visit)

    @pages.post(f"{base}/rooms/import", Right.MANAGE_ROOMS)
    def import_rooms(
        request: Request,
        visit: RoomVisit,
        file: Annotated[UploadFile, File()],
        write: Text = "",
    ) -> Response:
        data = file.file.read(MAX_FILE + 1)
        if len(data) > MAX_FILE:
            return _rooms_page(request, visit, problem=visit.t("The file is larger than 10 MB; split it."), status=413)
        try:
            plan = _plan(request, visit, decode(data))
        except ValueError as error:
            return _rooms_page(request, visit, problem=str(error), status=400)
        if plan.faults or not write:
            return _rooms_page(request, visit, plan=plan, status=400 if plan.faults else 200)
        _carry_out(request, visit, plan)
        return _rooms_page(request, visit, plan=plan, written=True)

    @pages.get(base + "/rooms/{room_id}", Right.MANAGE_ROOMS)
    def room(request: Request, visit: RoomVisit, room_id: str) -> Response:
        return _room_page(request, visit, _room(request, visit, room_id))

    @pages.post(base + "/rooms/{room_id}", Right.MANAGE_ROOMS)
    def change_room(
        request: Request,
        visit: RoomVisit,
        room_id: str,
        number: Text = "",
        name: Text = "",
        room_class: Text = "",
        floor: Text = "",
        aliases: Annotated[str, Form(max_length=4000)] = "",
        retired_on: Text = "",
    ) -> Response:
        old = _room(request, visit, room_id)
        if not clean(number):
            problem = visit.t("A room needs its number.")
            return _room_page(request, visit, old, problem=problem, status=400)
        changed = replace(
            old,
            number=clean(number),
            name=clean(name),
            room_class=clean(room_class),
            floor=clean(floor),
            aliases=tuple(clean(line) for line in aliases.splitlines() if clean(line)),
            retired_on=a_date(retired_on, visit) if retired_on.strip() else None,
        )
        master.save_rooms(portal_of(request).store, visit.org_id, [changed], today_of(request, visit))
        record(request, visit, "room.change", room=room_id)
        return go_on(visit, f"/rooms/{room_id}")

    @pages.post(base + "/rooms/{room_id}/capacity", Right.MANAGE_ROOMS)
    def capacity(request: Request, visit: RoomVisit, room_id: str, seats: Text = "", valid_from: Text = "") -> Response:
        old = _room(request, visit, room_id)
        text = seats.strip()
        if text and (not text.isascii() or not text.isdigit() or int(text) > MAX_SEATS):
            problem = visit.t("Seats are a whole number; leave it empty where nobody knows.")
            return _room_page(request, visit, old, problem=problem, status=400)
        since = a_date(valid_from, visit)
        changed = master.with_capacity(old, int(text) if text else None, since)
        master.save_rooms(portal_of(request).store, visit.org_id, [changed], today_of(request, visit))
        record(request, visit, "room.capacity", room=room_id, seats=text, valid_from=since.isoformat())
        return go_on(visit, f"/rooms/{room_id}")


def _quoted(cell: str) -> str:
    return '"' + cell.strip().replace('"', '""') + '"'


def _plan(request: Request, visit: Visit, text: str) -> ImportPlan:
    store = portal_of(request).store
    plan = plan_import(
        text,
        visit.org_id,
        store.buildings(visit.org_id),
        store.rooms(visit.org_id),
        today_of(request, visit),
        visit.organisation.time_zone,
    )
    seen = {building.id for building in visit.buildings}
    if visit.membership.buildings and any(room.building_id not in seen for room in plan.rooms):
        raise ProblemError(403, "forbidden", visit.t("You may change rooms of your own buildings alone."))
    return plan


def _carry_out(request: Request, visit: Visit, plan: ImportPlan) -> None:
    store = portal_of(request).store
    store.put_buildings(visit.org_id, plan.buildings)
    master.save_rooms(store, visit.org_id, plan.rooms, today_of(request, visit))
    record(request, visit, "room.import", new=len(plan.new), changed=len(plan.changed))


def _room(request: Request, visit: Visit, room_id: str) -> Room:
    for room in portal_of(request).store.rooms(visit.org_id):
        if room.id == room_id and room.building_id in {building.id for building in visit.buildings}:
            return room
    raise ProblemError(404, "not-found", visit.t("There is no such page."))


def _rooms_page(
    request: Request,
    visit: Visit,
    *,
    search: str = "",
    problem: str = "",
    plan: ImportPlan | None = None,
    written: bool = False,
    status: int = 200,
) -> Response:
    today = today_of(request, visit)
    buildings = {building.id: building for building in portal_of(request).store.buildings(visit.org_id)}
    seen = {building.id for building in visit.buildings} | (set() if visit.membership.buildings else set(buildings))
    words = search.casefold().split()
    rooms = [
        room
        for room in portal_of(request).store.rooms(visit.org_id)
        if room.building_id in seen
        and all(w in f"{buildings[room.building_id].name} {room.number} {room.name}".casefold() for w in words)
    ]
    rooms.sort(key=lambda room: (buildings[room.building_id].name.casefold(), room.number))
    return settings_page(
        request,
        "settings_rooms.html",
        visit,
        status=status,
        problem_text=problem,
        search=search,
        rooms=rooms[:_ROOMS_SHOWN],
        count=len(rooms),
        buildings={building_id: buildings[building_id].name for building_id in sorted(seen)},
        seats={room.id: room.capacity_on(today) for room in rooms[:_ROOMS_SHOWN]},
        classes=sorted({room.room_class for room in rooms if room.room_class}),
        plan=plan,
        written=written,
        today=today,
    )


def _room_page(request: Request, visit: Visit, room: Room, *, problem: str = "", status: int = 200) -> Response:
    return settings_page(
        request,
        "settings_room.html",
        visit,
        status=status,
        problem_text=problem,
        room=room,
        building=next(b.name for b in visit.buildings if b.id == room.building_id),
        capacities=sorted(room.capacities, key=lambda capacity: capacity.valid_from, reverse=True),
        today=today_of(request, visit),
    )
