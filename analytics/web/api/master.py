"""Organisations, buildings, rooms and sensors."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date
from typing import Annotated

from fastapi import Depends, Query, Request, Response

from analytics.accounts.rights import Right
from analytics.domain.model import Building, Organisation, Room
from analytics.sensor_health import SensorHealth, sensor_health
from analytics.store.errors import NotFoundError
from analytics.web.api.access import Api, Caller, Desk, caller, desk, from_cursor
from analytics.web.api.shapes import (
    BuildingView,
    CapacityView,
    ClosureView,
    Cursor,
    Limit,
    OrganisationView,
    Page,
    PeriodView,
    RestView,
    RoomView,
    SensorView,
    known,
    paged,
)
from analytics.web.portal.visit import LOGGED_IN, portal_of
from analytics.web.problems import ProblemError

FigureDesk = Annotated[Desk, Depends(desk(Right.SEE_FIGURES))]
SensorDesk = Annotated[Desk, Depends(desk(Right.SEE_SENSORS))]
_ONE = "/v1/organisations/{org_id}"


def add_master_routes(api: Api) -> None:
    """Register the routes."""

    @api.get("/v1/organisations", LOGGED_IN, tags=["master data"], summary="Organisations that you may see")
    def organisations(request: Request, who: Annotated[Caller, Depends(caller)]) -> Page[OrganisationView]:
        store = portal_of(request).store
        found = []
        for org_id in sorted(who.organisations):
            try:
                found.append(_organisation(store.organisation(org_id)))
            except NotFoundError:
                continue
        return Page(items=found, next=None)

    @api.get(_ONE, Right.SEE_FIGURES, tags=["master data"], summary="One organisation")
    def organisation(found: FigureDesk) -> OrganisationView:
        return _organisation(found.organisation)

    @api.get(f"{_ONE}/buildings", Right.SEE_FIGURES, tags=["master data"], summary="Buildings that you may see")
    def buildings(found: FigureDesk) -> Page[BuildingView]:
        listed = [_building(found.buildings[building_id]) for building_id in sorted(found.buildings)]
        return Page(items=listed, next=None)

    @api.get(f"{_ONE}/rooms", Right.SEE_FIGURES, tags=["master data"], summary="Rooms, by id")
    def rooms(
        request: Request,
        response: Response,
        found: FigureDesk,
        building: Annotated[str, Query(max_length=200, description="Only of this building.")] = "",
        limit: Limit = 200,
        cursor: Cursor = "",
    ) -> Page[RoomView]:
        after = from_cursor(cursor, 1)[0] if cursor else ""
        today = _today(request, found)
        listed = sorted(
            (
                room
                for room in portal_of(request).store.rooms(found.org_id)
                if room.building_id in found.buildings
                and (not building or room.building_id == building)
                and room.id > after
            ),
            key=lambda room: room.id,
        )
        views = [_room(room, today) for room in listed[: limit + 1]]
        return paged(request, response, views, limit, lambda view: (view.id,))

    @api.get(_ONE + "/rooms/{room_id}", Right.SEE_FIGURES, tags=["master data"], summary="One room")
    def room(request: Request, found: FigureDesk, room_id: str) -> RoomView:
        return _room(room_of(request, found, room_id), _today(request, found))

    @api.get(f"{_ONE}/sensors", Right.SEE_SENSORS, tags=["sensors"], summary="Sensors and how they fare, by id")
    def sensors(
        request: Request, response: Response, found: SensorDesk, limit: Limit = 200, cursor: Cursor = ""
    ) -> Page[SensorView]:
        after = from_cursor(cursor, 1)[0] if cursor else ""
        site = found.site(request)
        inside = {room.id for room in site.rooms.values() if room.building_id in found.buildings}
        whole = not found.caller.buildings(found.org_id)
        chosen = sorted(
            (s for s in site.sensors if s.id > after and (whole or any(w.room_id in inside for w in s.watches))),
            key=lambda sensor: sensor.id,
        )[: limit + 1]
        portal = portal_of(request)
        health = sorted(sensor_health(portal.store, site, portal.clock(), chosen), key=lambda h: h.sensor.id)
        return paged(request, response, [_sensor(h, inside) for h in health], limit, lambda view: (view.id,))


def room_of(request: Request, found: Desk, room_id: str) -> Room:
    """A room that the caller may see. Raises ProblemError 404."""
    try:
        room = portal_of(request).store.room(found.org_id, room_id)
    except NotFoundError:
        room = None
    if room is None or room.building_id not in found.buildings:
        raise ProblemError(404, "not-found", "there is no such room, or you may not see it")
    return room


def _today(request: Request, found: Desk) -> date:
    from zoneinfo import ZoneInfo

    return portal_of(request).clock().astimezone(ZoneInfo(found.organisation.time_zone)).date()


def _organisation(organisation: Organisation) -> OrganisationView:
    periods = [PeriodView(name=p.name, start=p.start, end=p.end, kind=p.kind) for p in organisation.periods]
    return OrganisationView(
        id=organisation.id, name=organisation.name, time_zone=organisation.time_zone, periods=periods
    )


def _building(building: Building) -> BuildingView:
    def clock(minute: int) -> str:
        return f"{minute // 60:02d}:{minute % 60:02d}"

    return BuildingView(
        id=building.id,
        name=building.name,
        time_zone=building.time_zone,
        measuring_hours=[
            [f"{clock(span.start)}-{clock(span.end)}" for span in spans] for spans in building.measuring_hours.weekdays
        ],
        closures=[ClosureView(start=c.start, end=c.end, name=c.name, kind=c.kind.value) for c in building.closures],
    )


def _room(room: Room, today: date) -> RoomView:
    return RoomView(
        id=room.id,
        building_id=room.building_id,
        number=room.number,
        name=room.name,
        room_class=room.room_class,
        floor=room.floor,
        capacity=room.capacity_on(today),
        capacities=[CapacityView(**asdict(capacity)) for capacity in room.capacities],
        parts=list(room.parts),
        retired_on=room.retired_on,
    )


def _sensor(health: SensorHealth, inside: set[str]) -> SensorView:
    return SensorView(
        id=health.sensor.id,
        name=health.sensor.name,
        board=health.sensor.board,
        state=health.state.value,
        faults=list(health.faults),
        rooms=[room.id for room in health.rooms if room.id in inside],
        last_contact=health.last_contact,
        coverage_today=known(health.coverage_today),
        coverage_7_days=known(health.coverage_week),
        rest=[RestView(day=day.day, rest=day.rest, traffic=day.traffic) for day in health.rest],
    )
