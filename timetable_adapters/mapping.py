"""Reading values out of answers whose shape a customer or a vendor decides."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo

from .base import ProtocolError, iso_time, local_time

TimeFormat = Literal["iso", "epoch_seconds", "epoch_milliseconds"]


def pick(value: Any, path: str) -> Any:
    """The value at a dotted path (``location.0.name``), itself for an empty one; None where the path leads nowhere."""
    for part in path.split(".") if path else ():
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list) and part.isdigit():
            value = value[int(part)] if int(part) < len(value) else None
        else:
            return None
    return value


def expect_list(value: Any, what: str) -> list[Any]:
    """``value`` as a list.

    Raises:
        ProtocolError: it is something else; an answer without its list is never an empty timetable.
    """
    if not isinstance(value, list):
        raise ProtocolError(f"the answer holds no list {what!r}")
    return value


def expect_mapping(value: Any, what: str) -> Mapping[str, Any]:
    """``value`` as an object.

    Raises:
        ProtocolError: it is something else.
    """
    if not isinstance(value, Mapping):
        raise ProtocolError(f"{what} is not an object")
    return value


def moment(value: Any, form: TimeFormat, zone: ZoneInfo, *, field: str) -> datetime:
    """UTC from an ISO text or a number of (milli)seconds since 1970.

    Raises:
        ProtocolError: not such a time; names the field.
    """
    if form == "iso":
        return iso_time(value, zone, field=field)
    try:
        number = float(value)
        return datetime.fromtimestamp(number / 1000 if form == "epoch_milliseconds" else number, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        raise ProtocolError(f"{field} is not a time in {form.replace('_', ' ')}") from None


def compact_time(day: Any, clock: Any, zone: ZoneInfo) -> datetime:
    """UTC from WebUntis' integers: day 20130108 and time 800 (08:00, no leading zero).

    Raises:
        ProtocolError: not such numbers.
    """
    try:
        return local_time(datetime.strptime(f"{int(day):08d}{int(clock):04d}", "%Y%m%d%H%M"), zone)  # noqa: DTZ007
    except (TypeError, ValueError):
        raise ProtocolError("date or time is not in the form 20130108 and 800") from None
