"""Remote care: what a sensor says of itself, and what it may be told, over the channel that carries the counts.

``POST /v1/care``, signed and answered as counts are (`uplink.signing`): the answer's signature binds it to this very
request, so an order can be neither forged nor replayed, and configuration carries a version that only grows.

Both directions are allow-lists. The report has numbers, names of states and versions; there is no field that could
hold a picture, an address or free text. The configuration has measuring hours and rates; cameras, scenes, models and
locks are set on the sensor alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from uplink.clock import Clock, SystemClock
from uplink.codec import JSON_TYPE
from uplink.keys import SensorKey
from uplink.messages import Health, SensorId
from uplink.signing import ANSWER_HEADER, SignatureError, sign_request, verify_answer
from uplink.transport import Transport, TransportError

CARE_PATH = "/v1/care"
MAX_CARE_BYTES = 16 * 1024
"""Of a report and of an order, each."""
_STRICT = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

Word = Annotated[str, Field(pattern=r"^[a-z][a-z_ -]{0,31}$")]
VersionText = Annotated[str, Field(pattern=r"^[0-9A-Za-z.+-]{1,32}$")]
Window = Annotated[str, Field(pattern=r"^\d{2}:\d{2}-\d{2}:\d{2}$", examples=["07:00-22:00"])]
Windows = Annotated[tuple[Window, ...], Field(max_length=8)]
DateText = Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]


class CareError(Exception):
    """No order came: link, service or signature. The text is safe for logs."""


class LockState(BaseModel):
    """One privacy lock."""

    model_config = _STRICT

    name: Word
    holds: bool
    required: bool = True


class CameraState(BaseModel):
    """One camera, by its sensor's name: where it is connected stays on the sensor."""

    model_config = _STRICT

    sensor_id: SensorId
    state: Word
    health: tuple[Health, ...] = Field((), max_length=len(Health))
    rate: float | None = Field(None, ge=0.0, le=1000.0, description="Pictures a second that are looked at.")


class SpoolState(BaseModel):
    """What waits on the sensor."""

    model_config = _STRICT

    waiting: int = Field(ge=0, le=10**9)
    lost: int = Field(0, ge=0, le=10**12)
    disk_ok: bool = True


class CareReport(BaseModel):
    """What a sensor says of itself, about once a minute."""

    model_config = _STRICT

    schema_version: Literal[1] = Field(1, alias="schema")
    version: VersionText = Field(description="Of the sensor's program.")
    uptime: int = Field(ge=0, le=10**10, description="Seconds since the program began.")
    config_version: int = Field(0, ge=0, le=10**9, description="Of the remote configuration in force; 0: none.")
    trying_version: int | None = Field(None, ge=1, le=10**9, description="Of the one on trial.")
    refused_version: int | None = Field(None, ge=1, le=10**9, description="The last one that was rolled back.")
    refused_because: Literal["not valid", "not healthy"] | None = None
    last_command: str | None = Field(None, pattern=r"^[0-9a-f]{32}$")
    locks: tuple[LockState, ...] = Field((), max_length=16)
    cameras: tuple[CameraState, ...] = Field((), max_length=16)
    spool: SpoolState | None = None
    temperature: float | None = Field(None, ge=-100.0, le=200.0, description="Degrees Celsius.")
    load: float | None = Field(None, ge=0.0, le=10_000.0, description="Programs that want to run, per CPU.")
    memory_mib: float | None = Field(None, ge=0.0, le=10**7)
    clock_skew: float | None = Field(None, ge=-1e11, le=1e11, description="The service's clock less ours, seconds.")


class RemoteException(BaseModel):
    """Other hours on a date, or on all dates of a period."""

    model_config = _STRICT

    first: DateText
    last: DateText | None = None
    windows: Windows = ()


class RemoteHours(BaseModel):
    """Measuring hours; a day that is left out keeps what the sensor has."""

    model_config = _STRICT

    mon: Windows | None = None
    tue: Windows | None = None
    wed: Windows | None = None
    thu: Windows | None = None
    fri: Windows | None = None
    sat: Windows | None = None
    sun: Windows | None = None
    exceptions: Annotated[tuple[RemoteException, ...], Field(max_length=100)] | None = None


class RemoteConfig(BaseModel):
    """All that can be set from afar. What is left out stays as the sensor's own file says."""

    model_config = _STRICT

    hours: RemoteHours | None = None
    fps: float | None = Field(None, ge=0.1, le=60.0, description="Most pictures a second, of every camera.")
    idle_fps: float | None = Field(None, ge=0.1, le=60.0, description="The same while nothing moves.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.fps is not None and self.idle_fps is not None and self.idle_fps > self.fps:
            raise ValueError(f"idle_fps {self.idle_fps:g} is above fps {self.fps:g}")
        return self


class VersionedConfig(BaseModel):
    """A configuration and its number, which grows with every change."""

    model_config = _STRICT

    version: int = Field(ge=1, le=10**9)
    config: RemoteConfig


class Command(BaseModel):
    """Something to do once."""

    model_config = _STRICT

    id: str = Field(pattern=r"^[0-9a-f]{32}$")
    action: Literal["restart"]


class CareOrder(BaseModel):
    """The answer to a report. An older sensor ignores what it does not know."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    config: VersionedConfig | None = None
    command: Command | None = None


def encode_report(report: CareReport) -> bytes:
    """The body of a report: the same report gives the same bytes."""
    return report.model_dump_json(by_alias=True, exclude_none=True).encode()


def decode_report(body: bytes) -> CareReport:
    """Read a report.

    Raises:
        ValueError: too large, or anything but the allow-list. The text names the field and never its value.
    """
    if len(body) > MAX_CARE_BYTES:
        raise ValueError(f"the report has {len(body)} bytes; at most {MAX_CARE_BYTES}")
    try:
        return CareReport.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])[:80]
        raise ValueError(f"{place or 'report'}: {first['msg']}") from None


class CareClient:
    """Reports to one service and brings its order back.

    Args:
        key: gives the sensor's present key; it changes when the service hands over its next one.
    """

    def __init__(
        self, service_url: str, key: Callable[[], SensorKey], transport: Transport, clock: Clock | None = None
    ) -> None:
        self._url = service_url.rstrip("/") + CARE_PATH
        self._key = key
        self._transport = transport
        self._clock = clock or SystemClock()
        self._offset = 0.0  # the service's clock less ours, as proven by a signed answer

    def exchange(self, report: CareReport) -> CareOrder:
        """Report once. A clock that is off is learnt from the service's signed answer, and the report sent again.

        Raises:
            CareError: no answer that is proven to be the service's.
        """
        body = encode_report(report)
        for _ in range(2):
            order = self._post(body)
            if order is not None:
                return order
        raise CareError("the clocks of sensor and service do not agree")

    def _post(self, body: bytes) -> CareOrder | None:
        key = self._key()
        now = self._clock.time() + self._offset
        claim = sign_request(key, method="POST", path=CARE_PATH, body=body, now=now, content_type=JSON_TYPE)
        headers = {"Authorization": claim.header(), "Content-Type": JSON_TYPE, "Accept": JSON_TYPE}
        try:
            reply = self._transport.post(self._url, body, headers)
        except TransportError as error:
            raise CareError(str(error)) from None
        try:
            served = verify_answer(
                key, claim, reply.headers.get(ANSWER_HEADER.lower()), status=reply.status, body=reply.body
            )
        except SignatureError as error:
            raise CareError(f"the service answered {reply.status}: {error}") from None
        self._offset = served + 0.5 - self._clock.time()
        if reply.status == 401:
            return None
        if reply.status != 200:
            raise CareError(f"the service answered {reply.status}")
        if len(reply.body) > MAX_CARE_BYTES:
            raise CareError(f"the order has {len(reply.body)} bytes; at most {MAX_CARE_BYTES}")
        try:
            return CareOrder.model_validate_json(reply.body)
        except ValidationError as error:
            raise CareError(f"the order is not valid: {error.error_count()} faults") from None
