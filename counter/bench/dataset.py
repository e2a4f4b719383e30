"""Video with truth: MOTChallenge folders, and a simple manifest in TOML or JSON.

A manifest::

    [[clips]]
    name = "entrance, morning"
    source = "entrance.mp4"          # beside the manifest; $VARIABLES are filled in
    fps = 10
    mode = "door"                    # or "room"
    present = [[60, 198, 1]]         # first frame, last frame (from 0), people; 0 elsewhere
    unknown = [[199, 203]]           # first and last frame of stretches that are not compared
    [[clips.lines]]
    name = "door"
    start = [0.1, 0.6]
    end = [0.9, 0.6]
    [[clips.zones]]                  # optional; without one, presence is that of the whole view
    name = "hall"
    points = [[0, 0], [1, 0], [1, 1]]
    [[clips.events]]
    line = "door"
    direction = "entered"            # or "left"
    frame = 123                      # or t = 12.3 (seconds); without either, only the total counts

MOTChallenge (https://motchallenge.net): a sequence folder with ``seqinfo.ini``, ``img1/`` and ``gt/gt.txt``, or a
folder of such folders. Presence is the number of true pedestrians in each frame.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from counter.bench.measures import UNKNOWN, Event, Floats, Ints
from counter.bench.tracking import FrameTracks
from counter.interop import InteropError, read_mot, read_seqinfo
from counter.lines import Line
from counter.scene import SceneLine, SceneZone
from counter.types import Direction
from counter.zones import Zone

Mode = Literal["door", "room"]
PEDESTRIAN = 1


class DatasetError(ValueError):
    """A dataset that cannot be used: names the file, field and value."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What is known about a clip.

    Attributes:
        present: first frame, last frame, people; None where presence is not known.
        unknown: first and last frame of stretches in which presence is not known.
        events: crossings with their times.
        totals: crossings per line and direction, those with and without a time.
        boxes: true tracks per frame (from 0), where there are any.
    """

    present: tuple[tuple[int, int, int], ...] | None = None
    events: tuple[TrueEvent, ...] = ()
    totals: dict[tuple[str, Direction], int] = field(default_factory=dict)
    boxes: dict[int, FrameTracks] | None = None
    unknown: tuple[tuple[int, int], ...] = ()

    def presence(self, frames: int) -> Ints:
        """People per frame; ``UNKNOWN`` where nobody knows."""
        if self.boxes is not None:
            return np.array([len(self.boxes[k][0]) if k in self.boxes else 0 for k in range(frames)], np.int64)
        if self.present is None:
            return np.full(frames, UNKNOWN, np.int64)
        people = np.zeros(frames, np.int64)
        for first, last, count in self.present:
            people[first : last + 1] = count
        for first, last in self.unknown:
            people[first : last + 1] = UNKNOWN
        return people

    def timed_events(self, times: Floats) -> list[Event]:
        """The events whose time is known, in seconds of the clip."""
        found = []
        for event in self.events:
            t = event.t
            if t is None and event.frame is not None and event.frame < len(times):
                t = float(times[event.frame])
            if t is not None:
                found.append(Event(event.line, event.direction, t))
        return found


@dataclass(frozen=True, slots=True)
class Clip:
    """One video and what is known about it.

    Attributes:
        zone: whose presence is compared; ``""`` is the whole view.
    """

    name: str
    source: str
    fps: float | None
    mode: Mode
    lines: tuple[Line, ...]
    zones: tuple[Zone, ...]
    truth: Truth
    zone: str = ""


class TrueEvent(BaseModel):
    """A crossing that really happened."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    line: str
    direction: Direction
    frame: Annotated[int, Field(ge=0)] | None = None
    t: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    count: Annotated[int, Field(ge=1)] = 1

    @model_validator(mode="after")
    def _one_time(self) -> TrueEvent:
        if self.frame is not None and self.t is not None:
            raise ValueError("give frame or t, not both")
        if self.count > 1 and (self.frame is not None or self.t is not None):
            raise ValueError("count is for events without a time; give each timed event by itself")
        return self


Whole = Annotated[int, Field(ge=0)]


class _ClipModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str | None = None
    source: str
    fps: Annotated[float, Field(gt=0, le=1000)] | None = None
    mode: Mode = "door"
    present: tuple[tuple[Whole, Whole, Whole], ...] | None = None
    unknown: tuple[tuple[Whole, Whole], ...] = ()
    lines: tuple[SceneLine, ...] = ()
    zones: tuple[SceneZone, ...] = ()
    zone: str = ""
    events: tuple[TrueEvent, ...] = ()
    note: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> _ClipModel:
        names = {line.name for line in self.lines}
        for event in self.events:
            if event.line not in names:
                raise ValueError(f"an event names the line {event.line!r}, which the clip does not have")
        if self.zone and self.zone not in {zone.name for zone in self.zones}:
            raise ValueError(f"zone {self.zone!r} is none of the clip's zones")
        for first, last, *_ in (*(self.present or ()), *self.unknown):
            if last < first:
                raise ValueError(f"present and unknown: last frame {last} lies before the first, {first}")
        return self


class _Manifest(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str = ""
    note: str = ""
    clips: Annotated[tuple[_ClipModel, ...], Field(min_length=1)]


def load_dataset(path: Path) -> list[Clip]:
    """The clips of a manifest, a MOTChallenge sequence, or a folder of sequences.

    Raises:
        DatasetError: what is wrong, in which file and field.
    """
    if path.is_file():
        return _from_manifest(path)
    if not path.is_dir():
        raise DatasetError(f"{path}: there is no such file or folder")
    if (path / "seqinfo.ini").is_file():
        return [_from_sequence(path)]
    folders = sorted(child.parent for child in path.glob("*/seqinfo.ini"))
    if not folders:
        raise DatasetError(f"{path}: neither a MOTChallenge sequence (seqinfo.ini) nor a folder of such")
    return [_from_sequence(folder) for folder in folders]


def _from_manifest(path: Path) -> list[Clip]:
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
        manifest = _Manifest.model_validate(data)
    except (UnicodeDecodeError, json.JSONDecodeError, tomllib.TOMLDecodeError) as error:
        raise DatasetError(f"{path}: not valid TOML or JSON: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DatasetError(f"{path}: {where}: {first['msg']}") from error
    return [_clip(entry, path) for entry in manifest.clips]


def _clip(entry: _ClipModel, manifest: Path) -> Clip:
    totals: dict[tuple[str, Direction], int] = defaultdict(int)
    for event in entry.events:
        totals[event.line, event.direction] += event.count
    return Clip(
        name=entry.name or Path(entry.source).stem,
        source=_source(entry.source, manifest),
        fps=entry.fps,
        mode=entry.mode,
        lines=tuple(Line(line.start, line.end, line.name) for line in entry.lines),
        zones=tuple(Zone(zone.name, zone.points) for zone in entry.zones),
        truth=Truth(entry.present, entry.events, dict(totals), unknown=entry.unknown),
        zone=entry.zone,
    )


def _source(text: str, manifest: Path) -> str:
    for name in re.findall(r"\$\{?(\w+)\}?", text):
        if not os.environ.get(name):
            raise DatasetError(f"{manifest}: source {text!r}: the environment variable {name} is not set")
    filled = Path(os.path.expandvars(text))
    path = filled if filled.is_absolute() else manifest.parent / filled
    if not path.exists():
        raise DatasetError(f"{manifest}: source {text!r}: there is no {path}")
    return str(path)


def _from_sequence(folder: Path) -> Clip:
    try:
        info = read_seqinfo(folder)
        rows = read_mot(folder / "gt" / "gt.txt")
    except InteropError as error:
        raise DatasetError(str(error)) from error
    grouped: dict[int, tuple[list[int], list[list[float]]]] = defaultdict(lambda: ([], []))
    for row in rows:
        if row.score == 0 or row.category not in (None, PEDESTRIAN):
            continue  # marked as not to be evaluated
        ids, boxes = grouped[row.frame - 1]
        ids.append(row.id)
        boxes.append([row.left, row.top, row.left + row.width, row.top + row.height])
    tracks: dict[int, FrameTracks] = {
        frame: (np.array(ids, np.int64), np.array(boxes, np.float64).reshape(-1, 4))
        for frame, (ids, boxes) in grouped.items()
    }
    return Clip(info.name, str(folder), info.frame_rate, "door", (), (), Truth(boxes=tracks))
