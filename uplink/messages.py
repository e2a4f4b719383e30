"""The wire contract between sensor and service, schema version 1.

A record says what one sensor saw in one interval. It holds no image, no track and no person.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator, model_validator

SCHEMA_VERSION = 1
MAX_RECORDS_PER_BATCH = 1_000
MAX_BATCH_BYTES = 1 << 20
MAX_PEOPLE = 100_000
SENSOR_ID_PATTERN = r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$"

SensorId = Annotated[str, Field(pattern=SENSOR_ID_PATTERN, description="Lower-case name of the sensor, as in DNS.")]
Count = Annotated[int, Field(ge=0, le=MAX_PEOPLE, strict=True)]


class Health(StrEnum):
    """What the sensor says about its own view during the interval."""

    OK = "ok"
    DARK = "dark"
    BLOCKED = "blocked"
    MOVED = "moved"
    NO_SIGNAL = "no_signal"
    OVERLOADED = "overloaded"


class CountRecord(BaseModel):
    """What one sensor says about one interval ``[start, start + seconds)``.

    The key is (``sensor_id``, ``start``): sending a record twice changes nothing. ``present`` is the time-weighted
    median of the people in the zone, ``None`` when nobody looked: unknown is never zero.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    sensor_id: SensorId
    start: AwareDatetime = Field(description="Begin of the interval, UTC, on a multiple of `seconds`.")
    seconds: int = Field(60, ge=1, le=3600, strict=True, description="Length of the interval in seconds.")
    present: Count | None = Field(None, description="Median people present; null when not observed.")
    present_max: Count | None = Field(None, description="Most people present at one moment; null when not observed.")
    entered: Count = Field(0, description="People who crossed a line inwards.")
    left: Count = Field(0, description="People who crossed a line outwards.")
    coverage: float = Field(ge=0.0, le=1.0, allow_inf_nan=False, description="Share of the interval that was analysed.")
    health: frozenset[Health] = Field(default=frozenset({Health.OK}), min_length=1)

    @field_validator("start")
    @classmethod
    def _utc(cls, value: datetime) -> datetime:
        return value.astimezone(UTC)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.start.microsecond or int(self.start.timestamp()) % self.seconds:
            raise ValueError(f"start {self.start.isoformat()} is not on a multiple of {self.seconds} seconds")
        if (self.present is None) != (self.present_max is None):
            raise ValueError("present and present_max are either both given or both null")
        if self.present is not None and self.present_max is not None and self.present > self.present_max:
            raise ValueError(f"present {self.present} is above present_max {self.present_max}")
        if self.coverage == 0.0 and self.present is not None:
            raise ValueError("present must be null when nothing was observed (coverage 0)")
        if Health.OK in self.health and len(self.health) > 1:
            raise ValueError("health is either ok alone or a set of faults")
        return self
