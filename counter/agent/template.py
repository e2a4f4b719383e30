"""A commented ``sensor.toml``, written from the settings' own titles, descriptions, defaults and bounds."""

from __future__ import annotations

import contextlib
import json
import os
import textwrap
from collections.abc import Set
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from counter.agent.schedule import DAYS, Hours, window_text
from counter.agent.settings import CameraSettings, CareSettings, HealthSettings, SensorSettings, WorkSettings

_UNITS = {
    "interval": "s",
    "fps": "pictures/s",
    "idle_fps": "pictures/s",
    "camera_fps": "pictures/s",
    "stall": "s",
    "warm": "degrees Celsius",
    "hot": "degrees Celsius",
    "dark": "grey level",
}
_EXAMPLES = {
    "sensor_id": '"hall-3"',
    "model": '"yolox-nano"',
    "fps": "15.0",
    "idle_fps": "5.0",
    "size": "[1280, 720]",
    "camera_fps": "15.0",
    "threads": "2",
}


def render(camera: str, zone: str, scene: str | None = None) -> str:
    """The file for one camera; what is left at its default is there as a comment.

    Args:
        camera: the source.
        zone: IANA name of the site's zone.
        scene: scene file.
    """
    out = [
        "# Headroom sensor. Test it with: headroom sensor check      Run it with: headroom sensor run",
        "# Lines that begin with '# name = ...' show defaults. Files are looked for beside this one.",
        "",
        *_fields(SensorSettings, skip={"camera", "hours", "health", "work", "care"}, active={"version", "interval"}),
        "",
        "# One table [[camera]] for each camera of this board; with several each needs the sensor_id it counts as.",
        "[[camera]]",
        *_about(CameraSettings, "source"),
        f"source = {_toml(camera)}",
        *_about(CameraSettings, "scene"),
        f"scene = {_toml(scene)}" if scene is not None else '# scene = "scene.toml"',
        *_fields(CameraSettings, skip={"source", "scene"}),
        "",
        "# When to measure, in the site's own time. Outside these hours the camera is closed.",
        "[hours]",
        f"zone = {_toml(zone)}",
        *(f"{day} = [{', '.join(_toml(window_text(w)) for w in getattr(Hours(), day))}]" for day in DAYS),
        "",
        "# Other hours on a date or in a period; without windows it is closed all day.",
        "# [[hours.exceptions]]",
        "# first = 2026-12-21",
        "# last = 2027-01-01",
        "# windows = []",
        "",
        "# Faults of the view: dark, blocked, moved, frozen. Counts of such intervals are withheld.",
        "[health]",
        *_fields(HealthSettings),
        "",
        "# How hard the board may work.",
        "[work]",
        *_fields(WorkSettings),
        "",
        "# What the service may know of this sensor, and ask of it, besides the counts.",
        "[care]",
        *_fields(CareSettings),
    ]
    return "\n".join(out) + "\n"


def local_zone() -> str:
    """The zone of this machine, as far as it says so; else UTC."""
    candidates = [os.environ.get("TZ", "").lstrip(":")]
    with contextlib.suppress(OSError, UnicodeDecodeError):
        candidates.append(Path("/etc/timezone").read_text("utf-8").strip())
    candidates.append(str(Path("/etc/localtime").resolve()).partition("zoneinfo/")[2])
    for name in candidates:
        try:
            ZoneInfo(name)
        except (ValueError, OSError, KeyError):
            continue
        if name and name not in ("Etc/UTC", "Universal", "Zulu", "UCT"):
            return name
    return "UTC"


def _fields(model: type[BaseModel], skip: Set[str] = frozenset(), active: Set[str] = frozenset()) -> list[str]:
    out = []
    for name, info in model.model_fields.items():
        if name in skip:
            continue
        out += _about(model, name)
        default = info.default
        shown = _EXAMPLES.get(name, "") if default is None else _toml(default)
        out.append(f"{'' if name in active else '# '}{name} = {shown}")
    return out


def _about(model: type[BaseModel], name: str) -> list[str]:
    info = model.model_fields[name]
    bounds = _bounds(info)
    unit = f", {_UNITS[name]}" if name in _UNITS else ""
    title = f"# {info.title}{unit}{f' ({bounds})' if bounds else ''}."
    return textwrap.wrap(f"{title} {info.description or ''}".strip(), 110, subsequent_indent="#   ")


def _bounds(info: FieldInfo) -> str:
    low = next((m.ge for m in info.metadata if getattr(m, "ge", None) is not None), None)
    high = next((m.le for m in info.metadata if getattr(m, "le", None) is not None), None)
    return f"{low:g} to {high:g}" if low is not None and high is not None else ""


def _toml(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return json.dumps(value)
