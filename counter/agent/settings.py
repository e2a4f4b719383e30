"""``sensor.toml``: everything a sensor must be told, typed and bounded. `counter.agent.template` writes one."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from counter.agent.schedule import Hours
from counter.scene import Scene, load_scene
from counter.sources import public_name
from uplink.messages import SensorId

SETTINGS_FILE = "sensor.toml"
_STRICT = ConfigDict(extra="forbid", frozen=True)

FPS = {"door": 15.0, "room": 2.0}
IDLE_FPS = {"door": 5.0, "room": 1.0}
LEAST_FPS = {"door": 5.0, "room": 0.5}
"""Below this a sensor says that it is overloaded: people who walk are missed, or a room is looked at too seldom."""


class SettingsError(ValueError):
    """Settings that cannot be used: file, field, value and what to do."""

    def __init__(self, where: str, field: str, value: object, reason: str) -> None:
        shown = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
        shown = shown if len(shown) <= 80 else shown[:77] + "..."
        super().__init__(f"{where}: {field} = {shown}: {reason}" if field else f"{where}: {reason}")
        self.field = field
        self.value = value
        self.reason = reason


class CameraSettings(BaseModel):
    """One camera, which is one sensor to the service."""

    model_config = _STRICT

    source: str = Field(
        min_length=1,
        max_length=2000,
        title="Source",
        description="/dev/video0, rtsp://..., http://..., a GStreamer pipeline, or a recording (played in real time).",
    )
    sensor_id: SensorId | None = Field(
        None,
        title="Sensor",
        description="Name under which it is enrolled. With one camera it may be left out; with several each needs its "
        "own: one is the board's (headroom sensor enrol), the others its further cameras' (headroom sensor enrol "
        "--camera).",
    )
    scene: Scene = Field(
        Scene(),
        title="Scene",
        description="Scene file (draw one: headroom scene SOURCE), or the scene itself as a table [camera.scene].",
    )
    model: str | None = Field(
        None,
        min_length=1,
        max_length=500,
        title="Model",
        description="Name (headroom models list) or path; left out: the default.",
    )
    fps: float | None = Field(
        None,
        ge=0.1,
        le=60.0,
        title="Rate",
        description="Most pictures a second that are looked at; left out: 15 at a door, 2 in a room, or as many as the "
        "board can do. Where it is set, a board that does less than nine tenths of it says overloaded.",
    )
    idle_fps: float | None = Field(
        None,
        ge=0.1,
        le=60.0,
        title="Idle rate",
        description="The same while nothing moves; left out: 5 at a door, 1 in a room. Lower is cooler, and sees "
        "somebody who comes that much later.",
    )
    size: tuple[Annotated[int, Field(ge=64, le=7680)], Annotated[int, Field(ge=64, le=4320)]] | None = Field(
        None, title="Size", description="Width and height to ask of a camera; left out: what it gives."
    )
    camera_fps: float | None = Field(
        None, ge=1.0, le=120.0, title="Camera rate", description="Pictures a second to ask of a camera."
    )
    stall: float = Field(
        15.0, ge=1.0, le=300.0, title="Patience", description="Seconds without a picture after which it is reopened."
    )
    at_end: Literal["repeat", "stop"] = Field(
        "repeat", title="At the end", description="Of a recording: play it again, or end."
    )
    threads: int | None = Field(
        None, ge=1, le=16, title="Threads", description="Of one inference; left out: the CPUs shared among cameras."
    )

    @field_validator("scene", mode="before")
    @classmethod
    def _from_file(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, str):
            return value
        folder = (info.context or {}).get("folder", Path())
        return load_scene(folder / value)

    @field_validator("source")
    @classmethod
    def _resolved(cls, value: str, info: ValidationInfo) -> str:
        """A recording named relative to the settings file."""
        folder = (info.context or {}).get("folder")
        if folder is not None and "://" not in value and " ! " not in value and not Path(value).is_absolute():
            beside = Path(folder) / value
            if not value.isdigit() and beside.exists():
                return str(beside)
        return value

    @property
    def most_fps(self) -> float:
        """The rate while something moves."""
        return self.fps or FPS[self.scene.mode]

    @property
    def least_idle_fps(self) -> float:
        """The rate while nothing moves."""
        return min(self.idle_fps or IDLE_FPS[self.scene.mode], self.most_fps)

    @property
    def name(self) -> str:
        """The source for people, without a password."""
        return public_name(self.source)


class HealthSettings(BaseModel):
    """What counts as a fault of the view. A fault is flagged within 30 s and cleared when it is over."""

    model_config = _STRICT

    enabled: bool = Field(True, title="Enabled", description="Whether the view is watched at all.")
    dark: float = Field(
        28.0, ge=1.0, le=128.0, title="Dark", description="Grey level (0 to 255) below which a picture is dark."
    )
    blocked: float = Field(
        0.5, ge=0.3, le=0.95, title="Blocked", description="Share of the view that may be covered before it is blocked."
    )
    shift: float = Field(
        0.04,
        ge=0.02,
        le=0.3,
        title="Shift",
        description="Share of the picture's width by which the view may shift before the camera has been moved.",
    )


class WorkSettings(BaseModel):
    """How hard the board may work."""

    model_config = _STRICT

    share: float = Field(
        0.85,
        ge=0.1,
        le=1.0,
        title="Share",
        description="Of each second that a camera's thread may spend on counting; the rest belongs to others.",
    )
    warm: float = Field(
        75.0, ge=30.0, le=120.0, title="Warm", description="Degrees Celsius from which the rate is lowered."
    )
    hot: float = Field(
        85.0, ge=31.0, le=125.0, title="Hot", description="Degrees Celsius at which it is down to the least."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.hot <= self.warm:
            raise ValueError(f"hot {self.hot:g} must be above warm {self.warm:g}")
        return self


class CareSettings(BaseModel):
    """Remote care: a report a minute, and what the service may order."""

    model_config = _STRICT

    enabled: bool = Field(
        True,
        title="Enabled",
        description="Whether the sensor reports how it is, and takes measuring hours, rates and restarts from the "
        "service. Off: only counts leave it, and only this file holds.",
    )


class SensorSettings(BaseModel):
    """All of ``sensor.toml``."""

    model_config = _STRICT

    version: Literal[1] = Field(1, title="Version", description="Of this format.")
    interval: int = Field(60, ge=1, le=3600, title="Interval", description="Seconds of a count record.")
    strict: bool = Field(
        False, title="Strict", description="Refuse to run when a lock of the privacy promise does not hold."
    )
    camera: tuple[CameraSettings, ...] = Field(min_length=1, max_length=16, title="Cameras")
    hours: Hours = Field(Hours(), title="Measuring hours", description="Outside them the camera is closed.")
    health: HealthSettings = Field(HealthSettings(), title="View health")
    work: WorkSettings = Field(WorkSettings(), title="Work")
    care: CareSettings = Field(CareSettings(), title="Remote care")

    @field_validator("interval")
    @classmethod
    def _divides(cls, value: int) -> int:
        if 3600 % value:
            raise ValueError("must divide an hour: 10, 15, 20, 30, 60, 300, 600, 900, 1800, 3600...")
        return value

    @model_validator(mode="after")
    def _named(self) -> Self:
        if len(self.camera) > 1:
            names = [camera.sensor_id for camera in self.camera]
            for index, name in enumerate(names):
                if name is None:
                    raise ValueError(f"camera[{index}].sensor_id is missing: with several cameras each needs its own")
                if names.index(name) != index:
                    raise ValueError(f"camera[{index}].sensor_id: {name!r} is given twice")
        devices = [_device(camera.source) for camera in self.camera]
        for index, device in enumerate(devices):
            if device is not None and devices.index(device) != index:
                raise ValueError(
                    f"camera[{index}].source: {device} is given twice; a device gives its pictures to one camera alone "
                    "(v4l2-ctl --list-devices names the others)"
                )
        return self


def _device(source: str) -> str | None:
    """The camera device that ``0`` and ``/dev/video0`` name alike; None for anything else."""
    return f"/dev/video{source}" if source.isdigit() else source if source.startswith("/dev/") else None


def load_settings(path: str | Path) -> SensorSettings:
    """Read and check ``sensor.toml``. Scene files and recordings are looked for beside it.

    Raises:
        SettingsError: names file, field and value.
    """
    path = Path(path)
    where = str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SettingsError(where, "", None, "there is no such file; write one with: headroom sensor init") from None
    except UnicodeDecodeError as error:
        raise SettingsError(where, "", None, f"is not a text file in UTF-8 (byte {error.start})") from None
    except OSError as error:
        raise SettingsError(where, "", None, f"cannot be read: {error.strerror}") from None
    return parse_settings(text, where, path.parent)


def parse_settings(text: str, where: str = SETTINGS_FILE, folder: Path | None = None) -> SensorSettings:
    """Check settings given as TOML.

    Args:
        where: stands for the file in errors.
        folder: from which relative paths begin.

    Raises:
        SettingsError: names field and value.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        hint = "; a text stands in quotes" if str(error).startswith("Invalid value") else ""
        raise SettingsError(where, "", None, f"is not valid TOML: {error}{hint}") from None
    try:
        return SensorSettings.model_validate(data, context={"folder": folder or Path()})
    except ValidationError as error:
        raise _error(error, where) from None


def _error(error: ValidationError, where: str) -> SettingsError:
    first = error.errors()[0]
    # A date of TOML and the like reach pydantic as they are; the names of its unions are not ours.
    loc = [part for part in first["loc"] if not (isinstance(part, str) and part.startswith(("function-", "tagged-")))]
    field = _path(loc)
    value = first["input"]
    if first["type"] == "missing":
        hint = "; add a table [[camera]]" if field == "camera" else ""
        return SettingsError(where, "", None, f"{field} is missing{hint}")
    reason = _unknown(loc) if first["type"] == "extra_forbidden" else _reason(first["type"], field, str(first["msg"]))
    if isinstance(value, str):
        value = public_name(value) or '""'  # an address in the wrong field has a password all the same
    if isinstance(value, dict | list) or value is None:  # a fault of several fields names them itself
        return SettingsError(where, "", None, f"{field}: {reason}" if field else reason)
    return SettingsError(where, field, value, reason)


def _reason(kind: str, field: str, message: str) -> str:
    """pydantic's words, or ours where those speak of Python."""
    last = field.rpartition(".")[2]
    if kind == "tuple_type":
        if last in ("camera", "exceptions", "lines", "zones", "masks"):
            return f"expected a table with two brackets each time: [[{field}]]"
        return "expected a list, " + ("e.g. [1280, 720]" if last == "size" else 'e.g. ["07:00-22:00"]')
    if kind == "string_pattern_mismatch" and last == "sensor_id":
        return "expected small letters, digits and hyphens, as it was enrolled, e.g. hall-3"
    if kind.startswith("date_"):
        return "expected a date without quotes, e.g. 2026-12-24"
    if kind == "string_type":
        return "expected a text in quotes"
    if kind in ("model_type", "dict_type", "model_attributes_type") and last == "scene":
        return 'expected a scene file, e.g. "scene.toml", or a table [camera.scene]'
    if kind == "string_too_short":
        return "must not be empty"
    if kind == "too_long" and field == "camera":
        return "16 at most; put the others on a second board"
    return message.removeprefix("Value error, ")


def _unknown(loc: Sequence[int | str]) -> str:
    """What to say of a field that there is not."""
    name, known = str(loc[-1]), _fields(loc[:-1])
    if close := difflib.get_close_matches(name, known, n=1):
        return f"no such field; did you mean {close[0]}?"
    if len(loc) > 1 and name in SensorSettings.model_fields:
        return "no such field here; it belongs above the first table, before [[camera]]"
    if name in CameraSettings.model_fields:
        return "no such field here; it belongs below [[camera]]"
    return f"no such field (there are {', '.join(known)})"


def _path(loc: Sequence[int | str]) -> str:
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _fields(loc: Sequence[int | str]) -> list[str]:
    """The names that a table may hold."""
    model: Any = SensorSettings
    for part in loc:
        if isinstance(part, int):
            continue
        info = getattr(model, "model_fields", {}).get(part)
        if info is None:
            return []
        model = info.annotation
        while not hasattr(model, "model_fields"):
            inner = [x for x in get_args(model) if x is not type(None) and x is not ...]
            if not inner:
                return []
            model = inner[0]
    return list(model.model_fields)
