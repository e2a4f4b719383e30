"""What the API answers. Instants are UTC in ISO 8601, days are local dates; null is unknown and never 0."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from typing import Annotated, Generic, TypeVar

from fastapi import Query, Request, Response
from pydantic import BaseModel, Field

from analytics.web.api.access import MOST_ITEMS, to_cursor

Item = TypeVar("Item", bound=BaseModel)

Limit = Annotated[int, Query(ge=1, le=MOST_ITEMS, description="Items of one page at most.")]
Cursor = Annotated[str, Query(max_length=4_000, description="`next` of the page before; empty: from the beginning.")]


class Page(BaseModel, Generic[Item]):
    """A page of a list. The header `Link` names the next one too (`rel="next"`)."""

    items: list[Item]
    next: str | None = Field(description="Cursor of the next page; null: this was the last.")


class PeriodView(BaseModel):
    """A named stretch of local days `[start, end)`."""

    name: str
    start: date
    end: date
    kind: str


class OrganisationView(BaseModel):
    """An organisation."""

    id: str
    name: str
    time_zone: str
    periods: list[PeriodView]


class ClosureView(BaseModel):
    """Local days `[start, end)` without measuring."""

    start: date
    end: date
    name: str
    kind: str


class BuildingView(BaseModel):
    """A building."""

    id: str
    name: str
    time_zone: str
    measuring_hours: list[list[str]] = Field(description="Seven weekdays from Monday, spans such as 07:00-22:00.")
    closures: list[ClosureView]


class CapacityView(BaseModel):
    """Seats from a local date on; null: unknown."""

    valid_from: date
    seats: int | None


class RoomView(BaseModel):
    """A room."""

    id: str
    building_id: str
    number: str
    name: str
    room_class: str
    floor: str
    capacity: int | None = Field(description="Seats today; null: unknown.")
    capacities: list[CapacityView]
    parts: list[str] = Field(description="Rooms that a combined room is made of.")
    retired_on: date | None


class RestView(BaseModel):
    """One local day of a door."""

    day: date
    rest: int = Field(description="People counted in minus people counted out.")
    traffic: int


class SensorView(BaseModel):
    """A sensor and how it fares."""

    id: str
    name: str
    board: str | None = Field(description="Of a further camera: the sensor on whose board it is; null: its own.")
    state: str = Field(description="new, well, faulty, silent, asleep or revoked")
    faults: list[str]
    rooms: list[str] = Field(description="Ids of the rooms that it watches now.")
    last_contact: datetime | None
    coverage_today: float | None
    coverage_7_days: float | None
    rest: list[RestView]


class FigureRow(BaseModel):
    """One row: a room, an hour, a week ..."""

    label: str = Field(description="Id of a room or building, a class, an hour 07, a weekday 0-6, a date, 2026-W36 ...")
    figures: dict[str, float | None]


class FiguresView(BaseModel):
    """Figures of a scope. Ratios are of sums, never means of percentages."""

    definition: str = Field(description="Version of the definitions.")
    by: str
    first: date
    last: date
    rows: list[FigureRow]
    total: dict[str, float | None]
    units: dict[str, str] = Field(description="ratio, people or hours, for each figure.")
    days_missing: int = Field(description="Room-days that are not computed yet, or lie before the first count.")


class OccupancyView(BaseModel):
    """People in a room, step by step; arrays of equal length."""

    room_id: str
    start: datetime
    end: datetime
    step_seconds: int
    people: list[float | None] = Field(description="Mean over the measured minutes of the step; null: unknown.")
    peak: list[float | None]
    coverage: list[float] = Field(description="Share of the minutes of the step that is known.")
    method: str
    withheld: int = Field(description="Steps of small groups that this caller may not see: they are null.")


class BookingView(BaseModel):
    """A booking and what became of it. It never names who booked."""

    source: str
    source_id: str
    room_id: str
    building_id: str
    title: str
    category: str
    series: str
    start: datetime
    end: datetime
    expected: int | None
    outcome: str = Field(description="held, no_show, late_start, early_end, overrun, over_capacity or unknown")
    attendance: float | None = Field(description="People, robust estimate of the plateau; null: unknown or withheld.")
    attendance_withheld: bool = Field(description="A group too small for this caller to see.")
    capacity: int | None
    coverage: float | None
    confidence: float | None
    release_minutes: int | None
    withdrawn_late: bool


def known(value: float, digits: int = 4) -> float | None:
    """A number, or null where it is unknown."""
    return None if not math.isfinite(value) else round(float(value), digits)


def paged(
    request: Request, response: Response, found: Sequence[Item], limit: int, key: Callable[[Item], Iterable[str]]
) -> Page[Item]:
    """A page of at most ``limit`` items; ``found`` holds one more where there is a next page."""
    items = list(found[:limit])
    following = to_cursor(*key(items[-1])) if len(found) > limit else None
    if following is not None:
        response.headers["Link"] = f'<{request.url.include_query_params(cursor=following)}>; rel="next"'
    return Page(items=items, next=following)


def tagged(request: Request, model: BaseModel) -> Response:
    """The answer with its ETag; 304 without a body where the caller has it already."""
    body = model.model_dump_json().encode()
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache", "Vary": "Authorization, Cookie"}
    asked = {text.strip().removeprefix("W/") for text in request.headers.get("if-none-match", "").split(",")}
    if tag in asked or "*" in asked:
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type="application/json")
