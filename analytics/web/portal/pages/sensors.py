"""Sensors: how each one fares, adding and revoking them, and which room each one watches."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from fastapi import Depends, Form, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import TypeAdapter, ValidationError

from analytics.accounts.rights import Right
from analytics.assemble import Site
from analytics.domain.model import Room, Sensor, Watch, WatchKind
from analytics.enrolment import AdministrationError, Enrolment, IssuedCode
from analytics.sensor_health import DayRest, SensorHealth, SensorState, sensor_health
from analytics.web.portal.language import Language, t
from analytics.web.portal.view import page
from analytics.web.portal.visit import Pages, Visit, portal_of, visitor
from analytics.web.problems import ProblemError
from uplink.messages import SensorId

Text = Annotated[str, Form(max_length=200)]
SeeVisit = Annotated[Visit, Depends(visitor(Right.SEE_SENSORS))]
ManageVisit = Annotated[Visit, Depends(visitor(Right.MANAGE_SENSORS))]
_SENSOR_ID: TypeAdapter[str] = TypeAdapter(SensorId)
_BARS = "▁▂▃▄▅▆▇█"
_STALE_DAYS = 31  # of a room that gets its first sensor: as long as counts may have waited


def add_sensor_pages(pages: Pages) -> None:
    """Register the routes."""
    base = "/o/{org_id}/sensors"

    @pages.get(base, Right.SEE_SENSORS)
    def sensors(request: Request, visit: SeeVisit) -> Response:
        return _sensors_page(request, visit)

    @pages.post(base, Right.MANAGE_SENSORS)
    def add(
        request: Request,
        visit: ManageVisit,
        sensor_id: Text = "",
        name: Text = "",
        room: Text = "",
        kind: Text = "room",
        board: Text = "",
        with_code: Text = "",
    ) -> Response:
        watches = _watches(request, visit, room, kind)
        portal = portal_of(request)
        if board:
            _own(request, visit, board)
        try:
            chosen = _SENSOR_ID.validate_python(sensor_id.strip())
            issued = _enrolment(request).add(
                chosen, org_id=visit.org_id, name=name.strip(), verification=bool(with_code), board=board or None
            )
        except ValidationError:
            problem = "A sensor's id has lower-case letters, digits and dashes, for example hall-3."
            return _sensors_page(request, visit, problem=visit.t(problem), status=400)
        except AdministrationError:
            problem = "This id is taken; choose another one."
            return _sensors_page(request, visit, problem=visit.t(problem), status=400)
        if watches:
            portal.store.update_sensor(visit.org_id, chosen, lambda sensor: replace(sensor, watches=watches))
        _record(request, visit, "sensor.add", sensor=chosen, room=room, **({"board": board} if board else {}))
        return _sensors_page(request, visit, issued=issued)

    @pages.get(base + "/{sensor_id}", Right.MANAGE_SENSORS)
    def sensor(request: Request, visit: ManageVisit, sensor_id: str) -> Response:
        return _sensor_page(request, visit, _own(request, visit, sensor_id))

    @pages.post(base + "/{sensor_id}/code", Right.MANAGE_SENSORS)
    def code(request: Request, visit: ManageVisit, sensor_id: str, with_code: Text = "") -> Response:
        sensor = _own(request, visit, sensor_id)
        try:
            issued = _enrolment(request).issue(sensor.id, verification=bool(with_code))
        except AdministrationError:
            problem = "This sensor was revoked for good; add one with another id."
            return _sensors_page(request, visit, problem=visit.t(problem), status=400)
        _record(request, visit, "sensor.code", sensor=sensor.id)
        return _sensors_page(request, visit, issued=issued)

    @pages.post(base + "/{sensor_id}/revoke", Right.MANAGE_SENSORS)
    def revoke(request: Request, visit: ManageVisit, sensor_id: str, with_cameras: Text = "") -> Response:
        sensor = _own(request, visit, sensor_id)
        if len(_cameras(request, visit, sensor, seen=True)) < len(_cameras(request, visit, sensor)):
            problem = "Its board has cameras in buildings that you do not see; somebody who does can revoke it."
            return _sensor_page(request, visit, sensor, problem=visit.t(problem), status=403)
        try:
            revoked = _enrolment(request).revoke(sensor.id, with_cameras=bool(with_cameras))
        except AdministrationError:  # a camera came after the page was shown
            problem = "Its board has further cameras by now: see below what ends with it."
            return _sensor_page(request, visit, sensor, problem=visit.t(problem), status=409)
        for ended in revoked:
            _record(request, visit, "sensor.revoke", sensor=ended.id)
        return RedirectResponse(f"/o/{visit.org_id}/sensors", 303)

    @pages.post(base + "/{sensor_id}/watch", Right.MANAGE_SENSORS)
    def watch(
        request: Request,
        visit: ManageVisit,
        sensor_id: str,
        room: Text = "",
        kind: Text = "room",
        reverse: Text = "",
        second_room: Text = "",
    ) -> Response:
        sensor = _own(request, visit, sensor_id)
        wanted = _watches(request, visit, room, kind, reverse=bool(reverse), second_room=second_room)
        _move(request, visit, sensor, wanted)
        _record(request, visit, "sensor.watch", sensor=sensor.id, room=room, kind=kind, second_room=second_room)
        return RedirectResponse(f"/o/{visit.org_id}/sensors/{sensor.id}", 303)


def spark(rest: Sequence[DayRest]) -> str:
    """The size of each day's rest as a bar; a decoration beside the numbers."""
    most = max((abs(day.rest) for day in rest), default=0)
    return "".join(_BARS[round(abs(day.rest) / most * (len(_BARS) - 1))] if most else _BARS[0] for day in rest)


def rest_text(rest: Sequence[DayRest], t: Language) -> str:
    """``+3, 0, −1``: the rest of each day; a day nobody passed is a dash."""
    return ", ".join((f"{day.rest:+d}".replace("-", "−") if day.rest else "0") if day.traffic else "–" for day in rest)


def visible_sensors(visit: Visit, rooms: Sequence[Room], sensors: Sequence[Sensor]) -> list[Sensor]:
    """Sensors in buildings that the person may see; those in no room yet belong to the whole organisation."""
    if not visit.membership.buildings:
        return list(sensors)
    seen = {building.id for building in visit.buildings}
    inside = {room.id for room in rooms if room.building_id in seen}
    return [sensor for sensor in sensors if any(watch.room_id in inside for watch in sensor.watches)]


def _sensors_page(
    request: Request, visit: Visit, *, problem: str = "", issued: IssuedCode | None = None, status: int = 200
) -> Response:
    portal = portal_of(request)
    site = Site.load(portal.store, visit.org_id)
    seen = visible_sensors(visit, list(site.rooms.values()), site.sensors)
    found = sensor_health(portal.store, site, portal.clock(), seen)
    t = visit.t
    order = {state: i for i, state in enumerate((SensorState.SILENT, SensorState.FAULTY))}
    return page(
        request,
        "sensors.html",
        visit,
        status=status,
        problem_text=problem,
        issued=issued,
        rows=[_row(health, t, portal.clock()) for health in sorted(found, key=lambda h: order.get(h.state, 9))],
        may_manage=visit.may(Right.MANAGE_SENSORS),
        **_choices(visit, site.rooms.values()),
        boards=[sensor for sensor in seen if sensor.board is None and sensor.revoked_at is None],
        service_url=str(request.base_url).rstrip("/"),
        unwell=sum(health.state in (SensorState.SILENT, SensorState.FAULTY) for health in found),
    )


def _sensor_page(request: Request, visit: Visit, sensor: Sensor, *, problem: str = "", status: int = 200) -> Response:
    portal = portal_of(request)
    site = Site.load(portal.store, visit.org_id)
    (health,) = sensor_health(portal.store, site, portal.clock(), [sensor])
    row = _row(health, visit.t, portal.clock())
    return page(
        request,
        "sensor.html",
        visit,
        status=status,
        problem_text=problem,
        row=row,
        sensor=sensor,
        cameras=_cameras(request, visit, sensor, seen=True),
        **_choices(visit, site.rooms.values()),
    )


def _cameras(request: Request, visit: Visit, sensor: Sensor, *, seen: bool = False) -> list[Sensor]:
    """The further cameras of its board that are not revoked: all of them, or those that the person may see."""
    store = portal_of(request).store
    found = [camera for camera in store.sensors_on_board(visit.org_id, sensor.id) if camera.revoked_at is None]
    return visible_sensors(visit, store.rooms(visit.org_id), found) if seen else found


def _choices(visit: Visit, rooms: Iterable[Room]) -> dict[str, Any]:
    """What the form of a watch offers: rooms in use of the buildings that the person may see."""
    names = {building.id: building.name for building in visit.buildings}
    seen = (room for room in rooms if room.building_id in names and room.retired_on is None)
    return {
        "rooms": sorted(seen, key=lambda room: (names[room.building_id].casefold(), room.number)),
        "building_names": names,
        "kinds": [(kind.value, visit.t(_KINDS[kind])) for kind in WatchKind],
    }


def _row(health: SensorHealth, t: Language, now: datetime) -> dict[str, object]:
    words = [t(_FAULTS[fault]) for fault in health.faults]
    return {
        "sensor": health.sensor,
        "state": t(_STATES[health.state][0]),
        "tag": _STATES[health.state][1],
        "revoked": health.state is SensorState.REVOKED,
        "faults": ", ".join(words),
        "contact": t.moment(health.last_contact),
        "today": t.percent(health.coverage_today),
        "week": t.percent(health.coverage_week),
        "low": not math.isnan(health.coverage_week) and health.coverage_week < 0.9,
        "spark": spark(health.rest),
        "rest": rest_text(health.rest, t),
        "watches": [
            (room.number or room.id, t(_KINDS[w.kind]))
            for w in health.sensor.watches
            for room in health.rooms
            if room.id == w.room_id and (w.valid_until is None or w.valid_until > now)
        ],
    }


_STATES = {
    SensorState.NEW: (t("waits for its code"), "warn"),
    SensorState.WELL: (t("well"), ""),
    SensorState.FAULTY: (t("sees badly"), "warn"),
    SensorState.SILENT: (t("silent"), "bad"),
    SensorState.ASLEEP: (t("outside its hours"), ""),
    SensorState.REVOKED: (t("revoked"), "bad"),
}
_FAULTS = {
    "dark": t("too dark"),
    "blocked": t("blocked"),
    "moved": t("was moved"),
    "no_signal": t("no picture"),
    "overloaded": t("overloaded"),
}
_KINDS = {
    WatchKind.ROOM: t("the whole room"),
    WatchKind.PART: t("a part of the room"),
    WatchKind.DOOR: t("a door"),
}


def _watches(
    request: Request, visit: Visit, room_id: str, kind: str, *, reverse: bool = False, second_room: str = ""
) -> tuple[Watch, ...]:
    """What a form says; rooms must be ones that the person may manage."""
    wanted = [(room_id, reverse)] if room_id else []
    if second_room and second_room != room_id and kind == WatchKind.DOOR:
        wanted.append((second_room, not reverse))  # who leaves one room enters the other
    rooms = {room.id: room for room in portal_of(request).store.rooms(visit.org_id)}
    try:
        chosen = WatchKind(kind)
    except ValueError:
        raise ProblemError(400, "not-valid", visit.t("There is no such room.")) from None
    for wanted_id, _ in wanted:
        if wanted_id not in rooms or rooms[wanted_id].building_id not in {b.id for b in visit.buildings}:
            raise ProblemError(400, "not-valid", visit.t("There is no such room."))
        visit.demand(Right.MANAGE_SENSORS, rooms[wanted_id].building_id)
    return tuple(Watch(wanted_id, chosen, chosen is WatchKind.DOOR and turned) for wanted_id, turned in wanted)


def _move(request: Request, visit: Visit, sensor: Sensor, wanted: tuple[Watch, ...]) -> None:
    """From now on the sensor watches other rooms; what it counted before stays where it was."""
    portal = portal_of(request)
    now = portal.clock()

    def change(old: Sensor) -> Sensor:
        ended = tuple(
            replace(watch, valid_until=now) if watch.valid_until is None or watch.valid_until > now else watch
            for watch in old.watches
        )
        since = now if ended else None  # the first room gets all that the sensor ever counted
        return replace(old, watches=(*ended, *(replace(watch, valid_from=since) for watch in wanted)))

    changed = portal.store.update_sensor(visit.org_id, sensor.id, change)
    today = now.astimezone(ZoneInfo(visit.organisation.time_zone)).date()
    rooms = {watch.room_id for watch in changed.watches}
    portal.store.mark_stale(visit.org_id, {(r, today - timedelta(days=i)) for r in rooms for i in range(_STALE_DAYS)})


def _own(request: Request, visit: Visit, sensor_id: str) -> Sensor:
    """A sensor of this organisation that the person may see; else it looks as if there were none."""
    store = portal_of(request).store
    seen = visible_sensors(visit, store.rooms(visit.org_id), store.sensors(visit.org_id))
    for sensor in seen:
        if sensor.id == sensor_id:
            return sensor
    raise ProblemError(404, "not-found", visit.t("There is no such page."))


def _enrolment(request: Request) -> Enrolment:
    services = getattr(request.app.state, "services", None)
    if services is None:
        raise ProblemError(503, "no-service", "sensors are added where the service runs")
    enrolment = services.enrolment
    assert isinstance(enrolment, Enrolment)
    return enrolment


def _record(request: Request, visit: Visit, action: str, **detail: str) -> None:
    portal = portal_of(request)
    portal.audit.record(visit.org_id, visit.user.id, action, detail, at=portal.clock())
