"""Values to JSON and back, and the small conversions both stores share: milliseconds, days, months."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from analytics.domain.model import Building, Organisation, PlannedBooking, Room, Sensor
from analytics.store.errors import StoreError

T = TypeVar("T")
EPOCH_DAY = date(1970, 1, 1).toordinal()
_ADAPTERS: dict[type[Any], TypeAdapter[Any]] = {
    kind: TypeAdapter(kind) for kind in (Organisation, Building, Room, Sensor, PlannedBooking)
}


def to_json(value: Any) -> str:
    """A domain value as compact JSON."""
    return _ADAPTERS[type(value)].dump_json(value).decode()


def from_json(kind: type[T], text: str) -> T:
    """The reverse of `to_json`; fields this program does not know are ignored. Raises StoreError when it is damaged."""
    try:
        value: T = _ADAPTERS[kind].validate_json(text)
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, problem["loc"])) for problem in error.errors(include_input=False))
        raise StoreError(f"a stored {kind.__name__} does not read back: {fields}") from None
    return value


def to_ms(moment: datetime) -> int:
    """Milliseconds since 1970, the precision of both stores. Raises ValueError for a time without a zone."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone")
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1000 + since.microseconds // 1000


def from_ms(milliseconds: int) -> datetime:
    """UTC."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)


def truncated(moment: datetime) -> datetime:
    """The same instant in UTC, cut to milliseconds, as it will read back."""
    return from_ms(to_ms(moment))


def day_number(day: date) -> int:
    """Days since 1970."""
    return day.toordinal() - EPOCH_DAY


def day_of(number: int) -> date:
    return date.fromordinal(number + EPOCH_DAY)


def month_number(day: date) -> int:
    """Months since year 0: groups the days of one month."""
    return day.year * 12 + day.month - 1


def divmod_month(month: int) -> tuple[int, int]:
    """Year and month (1 to 12) of a month number."""
    year, index = divmod(month, 12)
    return year, index + 1


def normalised(booking: PlannedBooking) -> PlannedBooking:
    """As it reads back: UTC, milliseconds. Raises ValueError for times without a zone or an end before the start."""
    if booking.end < booking.start:
        raise ValueError(f"booking {booking.source_id!r} of {booking.source!r} ends before it begins")
    return replace(booking, start=truncated(booking.start), end=truncated(booking.end))


def check_org(org_id: str, values: Iterable[Building | Room]) -> None:
    """Raises ValueError when a value names another organisation than the call does."""
    for value in values:
        if value.org_id != org_id:
            raise ValueError(f"{value.id!r} belongs to organisation {value.org_id!r}, not to {org_id!r}")
