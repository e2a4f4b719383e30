"""One sensor's care: what it last said of itself, its privacy locks, and what it is told. Never a picture."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import Depends, Form, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import ValidationError

from analytics.accounts.rights import Right
from analytics.assemble import Site
from analytics.care import Care, CareOrders, CareStatus
from analytics.domain.model import Building, Closure, MeasuringHours, Room, Sensor
from analytics.web.portal.language import UNKNOWN, Language, t
from analytics.web.portal.pages.sensors import visible_sensors
from analytics.web.portal.view import page
from analytics.web.portal.visit import Pages, Visit, portal_of, visitor
from analytics.web.problems import ProblemError
from uplink.care import CameraState, RemoteConfig, RemoteException, RemoteHours

Text = Annotated[str, Form(max_length=40)]
SeeVisit = Annotated[Visit, Depends(visitor(Right.SEE_SENSORS))]
ManageVisit = Annotated[Visit, Depends(visitor(Right.MANAGE_SENSORS))]
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MOST_EXCEPTIONS = 100


def add_care_pages(pages: Pages) -> None:
    """Register the routes."""
    base = "/o/{org_id}/sensors/{sensor_id}/care"

    @pages.get(base, Right.SEE_SENSORS)
    def show(request: Request, visit: SeeVisit, sensor_id: str) -> Response:
        return _page(request, visit, _own(request, visit, sensor_id))

    @pages.post(base, Right.MANAGE_SENSORS)
    def configure(
        request: Request,
        visit: ManageVisit,
        sensor_id: str,
        fps: Text = "",
        idle_fps: Text = "",
        with_hours: Text = "",
    ) -> Response:
        sensor = _ordered(request, visit, sensor_id)
        try:
            hours = _hours(request, visit, sensor) if with_hours else None
            config = RemoteConfig(fps=_number(fps), idle_fps=_number(idle_fps), hours=hours)
        except (ValidationError, ValueError):
            problem = visit.t("Pictures a second are from 0.1 to 60, and while nothing moves not more than otherwise.")
            return _page(request, visit, sensor, problem=problem, status=400)
        given = _care(request).configure(visit.org_id, sensor.id, config)
        _record(request, visit, "sensor.configure", sensor=sensor.id, version=str(given.version))
        return _back(visit, sensor)

    @pages.post(base + "/restart", Right.MANAGE_SENSORS)
    def restart(request: Request, visit: ManageVisit, sensor_id: str) -> Response:
        sensor = _ordered(request, visit, sensor_id)
        _care(request).restart(visit.org_id, sensor.id)
        _record(request, visit, "sensor.restart", sensor=sensor.id)
        return _back(visit, sensor)


def remote_hours(hours: MeasuringHours, closures: tuple[Closure, ...], today: datetime) -> RemoteHours:
    """Measuring hours and the coming closures of a room, as a sensor is told them."""
    days = {
        day: tuple(f"{_clock(span.start)}-{_clock(span.end)}" for span in spans)
        for day, spans in zip(_DAYS, hours.weekdays, strict=True)
    }
    coming = sorted((c for c in closures if c.end > today.date()), key=lambda c: c.start)[:_MOST_EXCEPTIONS]
    exceptions = [
        RemoteException(first=c.start.isoformat(), last=(c.end - timedelta(days=1)).isoformat()) for c in coming
    ]
    return RemoteHours.model_validate({**days, "exceptions": exceptions})


def _page(request: Request, visit: Visit, sensor: Sensor, *, problem: str = "", status: int = 200) -> Response:
    care, now = _care(request), portal_of(request).clock()
    found, orders = _said(care, visit, sensor), care.orders(visit.org_id, sensor.id)
    room = _room(request, visit, sensor)
    return page(
        request,
        "sensor_care.html",
        visit,
        status=status,
        problem_text=problem,
        sensor=sensor,
        facts=[] if found is None else _facts(found, visit.t),
        silent=found is not None and found.silent(now),
        locks=[] if found is None else [(visit.t(_LOCKS.get(x.name, x.name)), x) for x in found.report.locks],
        cameras=[] if found is None else _cameras(found, sensor),
        board=_board(request, visit, sensor),
        states=_CAMERAS,
        config=_config_text(found, orders, visit.t),
        waits=orders.command is not None and (found is None or found.report.last_command != orders.command.id),
        orders=orders,
        room=None if room is None else room[0],
        may_manage=visit.may(Right.MANAGE_SENSORS) and sensor.revoked_at is None,
    )


def _said(care: Care, visit: Visit, sensor: Sensor) -> CareStatus | None:
    """What a sensor said of itself; of a further camera what its board said, if that names it."""
    if sensor.board is None:
        return care.status(visit.org_id, sensor.id)
    found = care.status(visit.org_id, sensor.board)
    return found if found is not None and _cameras(found, sensor) else None


def _cameras(found: CareStatus, sensor: Sensor) -> list[CameraState]:
    """What is said of a further camera; of a board all that is said."""
    return [camera for camera in found.report.cameras if sensor.board is None or camera.sensor_id == sensor.id]


def _board(request: Request, visit: Visit, sensor: Sensor) -> Sensor | None:
    """The board that cares for a further camera, where the person may see it."""
    try:
        return None if sensor.board is None else _own(request, visit, sensor.board)
    except ProblemError:
        return None


def _ordered(request: Request, visit: Visit, sensor_id: str) -> Sensor:
    """Who takes orders: boards do, for all their cameras."""
    sensor = _own(request, visit, sensor_id)
    if sensor.board is not None:
        raise ProblemError(
            409, "not-a-board", visit.t("Its board takes configuration and restarts, for all its cameras.")
        )
    return sensor


def _facts(status: CareStatus, t: Language) -> list[tuple[str, str]]:
    report = status.report
    warm = UNKNOWN if report.temperature is None else f"{t.number(report.temperature, 1)} °C"
    waiting = UNKNOWN if report.spool is None else t.number(report.spool.waiting)
    return [
        (t("Last report"), t.moment(status.received_at)),
        (t("Program"), report.version),
        (t("Running for, hours"), t.number(report.uptime / 3600, 1)),
        (t("Temperature"), warm),
        (t("Records that wait"), waiting),
        (t("Its clock is off by, seconds"), t.number(report.clock_skew, 1)),
    ]


def _config_text(status: CareStatus | None, orders: CareOrders, t: Language) -> str:
    """In what state the newest configuration is."""
    if orders.config is None:
        return t("None was given from here: the sensor's own file holds.")
    version = orders.config.version
    report = None if status is None else status.report
    if report is not None and report.config_version == version:
        return t("Version {version} is in force.", version=version)
    if report is not None and report.trying_version == version:
        return t("Version {version} is on trial.", version=version)
    if report is not None and report.refused_version == version:
        if report.refused_because == "not valid":
            return t("Version {version} was refused: it does not fit the sensor.", version=version)
        return t("Version {version} was rolled back: the sensor did not come back healthy.", version=version)
    return t("Version {version} waits for the sensor's next report.", version=version)


def _hours(request: Request, visit: Visit, sensor: Sensor) -> RemoteHours | None:
    found = _room(request, visit, sensor)
    if found is None:
        return None
    room, building = found
    now = portal_of(request).clock().astimezone(visit.zone)
    return remote_hours(room.measuring_hours or building.measuring_hours, (*building.closures, *room.closures), now)


def _room(request: Request, visit: Visit, sensor: Sensor) -> tuple[Room, Building] | None:
    """The room that it watches now, with its building."""
    portal = portal_of(request)
    site, now = Site.load(portal.store, visit.org_id), portal.clock()
    for watch in sensor.watches:
        if watch.room_id in site.rooms and (watch.valid_until is None or watch.valid_until > now):
            room = site.rooms[watch.room_id]
            return room, site.buildings[room.building_id]
    return None


def _own(request: Request, visit: Visit, sensor_id: str) -> Sensor:
    """A sensor of this organisation that the person may see; else it looks as if there were none."""
    store = portal_of(request).store
    for sensor in visible_sensors(visit, store.rooms(visit.org_id), store.sensors(visit.org_id)):
        if sensor.id == sensor_id:
            return sensor
    raise ProblemError(404, "not-found", visit.t("There is no such page."))


def _record(request: Request, visit: Visit, action: str, **detail: str) -> None:
    portal = portal_of(request)
    portal.audit.record(visit.org_id, visit.user.id, action, detail, at=portal.clock())


def _care(request: Request) -> Care:
    portal = portal_of(request)
    return Care(portal.keep, portal.clock)


def _back(visit: Visit, sensor: Sensor) -> Response:
    return RedirectResponse(f"/o/{visit.org_id}/sensors/{sensor.id}/care", 303)


def _number(text: str) -> float | None:
    return float(text.replace(",", ".")) if text.strip() else None


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


_LOCKS = {
    "core dumps": t("no memory in crash files"),
    "tracing": t("no other program may read along"),
    "swap": t("no memory on a disk (swap)"),
    "files": t("no files outside its own folder"),
    "network": t("connections to the service alone"),
    "system calls": t("no way around the locks"),
    "frames": t("pictures overwritten after use"),
    "debug switches": t("no switch that saves pictures"),
    "telemetry": t("libraries report nothing"),
}
_CAMERAS = {
    "starting": t("starting"),
    "counting": t("counting"),
    "away": t("no picture"),
    "closed": t("closed outside its hours"),
    "failed": t("failed"),
    "ended": t("ended"),
}
