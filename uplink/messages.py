"""The wire contract between sensor and service, schema version 1: types and bounds. `uplink.codec` makes bytes of them.

A record says what one sensor saw in one interval. It holds no image, no track and no person.

Versions: a field that is not known here is ignored, so a sensor may be newer than its service by a field. What an older
service must not misread gets a new `SCHEMA_VERSION`, which such a service refuses as a whole with a clear answer.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_serializer, field_validator, model_validator

SCHEMA_VERSION = 1
MAX_RECORDS_PER_BATCH = 1_000
MAX_BATCH_BYTES = 1 << 20
"""Of a batch's body, as sent and as decompressed."""
MAX_PEOPLE = 100_000
MIN_START = datetime(1970, 1, 1, tzinfo=UTC)
MAX_START = datetime(2200, 1, 1, tzinfo=UTC)
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
        try:
            value = value.astimezone(UTC)
        except OverflowError:
            raise ValueError("start is outside the calendar") from None
        if not MIN_START <= value < MAX_START:
            raise ValueError(f"start {value.isoformat()} is not within {MIN_START.year}..{MAX_START.year - 1}")
        return value

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

    @field_serializer("health", when_used="json")
    def _health_in_order(self, value: frozenset[Health]) -> list[str]:
        """One record, one text: a set has no order of its own."""
        return sorted(value)


class Batch(BaseModel):
    """The body of ``POST /v1/counts``: up to 1,000 records of one sensor."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    schema_version: int = Field(SCHEMA_VERSION, alias="schema", ge=1, le=SCHEMA_VERSION, strict=True)
    records: list[CountRecord] = Field(max_length=MAX_RECORDS_PER_BATCH)


class Rejection(BaseModel):
    """One record that the service will never take, by its place in the batch."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    index: int = Field(ge=0, lt=MAX_RECORDS_PER_BATCH, strict=True)
    reason: str = Field(max_length=500)


class BatchAnswer(BaseModel):
    """What became of the records of one batch; sent when the records are durable, never before.

    ``new + duplicate + conflicting + len(rejected)`` is the number of records in the batch. A duplicate equals what was
    stored. A conflicting record has the key of a stored one and another value: it is kept apart, not merged.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    new: int = Field(ge=0, strict=True)
    duplicate: int = Field(ge=0, strict=True)
    conflicting: int = Field(ge=0, strict=True)
    rejected: list[Rejection] = Field(default_factory=list, max_length=MAX_RECORDS_PER_BATCH)

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if len({rejection.index for rejection in self.rejected}) != len(self.rejected):
            raise ValueError("rejected: a record is named twice")
        return self

    @property
    def total(self) -> int:
        """Records that this answer speaks of."""
        return self.new + self.duplicate + self.conflicting + len(self.rejected)
