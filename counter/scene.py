"""The scene file: how a camera's view is to be counted. Coordinates are relative, 0 to 1, from the top left corner.

    mode = "door"

    [[lines]]
    name = "door"
    start = [0.1, 0.6]
    end = [0.9, 0.6]

Walking across a line from its left to its right hand side, seen from its start, is *entered*.
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from counter.lines import Anchor, Line
from counter.types import Frame
from counter.zones import Zone

Mode = Literal["door", "room"]

Coordinate = Annotated[
    float, Field(ge=0.0, le=1.0, allow_inf_nan=False, description="Share of the frame's width (x) or height (y).")
]
Point = tuple[Coordinate, Coordinate]
Name = Annotated[
    str,
    Field(
        min_length=1,
        max_length=40,
        pattern=r"^[^\s=\x00-\x1f\x7f]([^=\x00-\x1f\x7f]*[^\s=\x00-\x1f\x7f])?$",
        description="Shown in counts and previews; unique in the scene.",
    ),
]
_MIN_LENGTH = 0.02
_MIN_AREA = 1e-4
_LINE = Line((0.0, 0.0), (1.0, 1.0))  # for the defaults
_ZONE = Zone("defaults", ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0)))
_STRICT = ConfigDict(extra="forbid", frozen=True)


class SceneError(ValueError):
    """A scene that cannot be used: file, field, value and what to do."""

    def __init__(self, where: str, field: str, value: object, reason: str) -> None:
        shown = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
        shown = shown if len(shown) <= 80 else shown[:77] + "..."
        super().__init__(f"{where}: {field} = {shown}: {reason}" if field else f"{where}: {reason}")
        self.where = where
        self.field = field
        self.value = value
        self.reason = reason


class SceneLine(BaseModel):
    """A directed door line."""

    model_config = _STRICT | ConfigDict(title="Line")

    name: Name
    start: Point = Field(title="Start", description="x, y of the end from which left and right are told.")
    end: Point = Field(title="End", description="x, y of the other end.")
    anchor: Anchor = Field(Anchor.CENTRE, title="Anchor", description="Point of the box that must cross.")
    band: float = Field(
        _LINE.band,
        ge=0.0,
        le=2.0,
        title="Band",
        description="Half width of the band in which nobody has settled, in person sizes. Wider forgives swaying.",
    )
    dwell: float = Field(
        _LINE.dwell, ge=0.0, le=60.0, title="Dwell", description="Seconds beyond the band before somebody has crossed."
    )

    @model_validator(mode="after")
    def _long_enough(self) -> Self:
        length = float(np.hypot(self.end[0] - self.start[0], self.end[1] - self.start[1]))
        if length < _MIN_LENGTH:
            raise ValueError(f"the line is only {length:.3f} long; start and end must be {_MIN_LENGTH} apart or more")
        return self


class _Polygon(BaseModel):
    model_config = _STRICT

    name: Name
    points: Annotated[tuple[Point, ...], Field(min_length=3, max_length=64)] = Field(
        title="Corners", description="x, y of each corner, in order; the last is joined to the first."
    )

    @model_validator(mode="after")
    def _simple(self) -> Self:
        if reason := polygon_fault(self.points):
            raise ValueError(reason)
        return self


class SceneZone(_Polygon):
    """A polygon whose people are counted as present."""

    model_config = ConfigDict(title="Zone")

    anchor: Anchor = Field(Anchor.CENTRE, title="Anchor", description="Point of the box that must be inside.")
    enter_dwell: float = Field(
        _ZONE.enter_dwell, ge=0.0, le=3600.0, title="Enter dwell", description="Seconds inside before somebody counts."
    )
    leave_dwell: float = Field(
        _ZONE.leave_dwell,
        ge=0.0,
        le=3600.0,
        title="Leave dwell",
        description="Seconds outside before somebody is gone.",
    )


class SceneMask(_Polygon):
    """A polygon that is painted over before anything looks at the frame: mirrors, screens, windows to the street."""

    model_config = ConfigDict(title="Mask")


class Scene(BaseModel):
    """What to count in one camera's view."""

    model_config = _STRICT | ConfigDict(title="Scene")

    version: Literal[1] = Field(1, description="Version of this format.")
    mode: Mode = Field(
        "door",
        title="Way of working",
        description="door: people walk through, 10 to 25 frames/s at about 416x256. "
        "room: people sit, 1 or 2 frames/s at about 960x544.",
    )
    min_score: float | None = Field(
        None,
        ge=0.05,
        le=0.95,
        allow_inf_nan=False,
        title="Least score",
        description="Detections below this count for nothing (0 to 1); left out: the model's own threshold. "
        "Lower finds more people and more coats on chairs.",
    )
    lines: tuple[SceneLine, ...] = Field((), max_length=32, title="Lines")
    zones: tuple[SceneZone, ...] = Field((), max_length=32, title="Zones")
    masks: tuple[SceneMask, ...] = Field((), max_length=32, title="Masks")

    @model_validator(mode="after")
    def _unique_names(self) -> Self:
        seen: dict[str, str] = {}
        for kind, items in (("line", self.lines), ("zone", self.zones), ("mask", self.masks)):
            for item in items:
                if item.name in seen:
                    raise ValueError(f"the name {item.name!r} is given to a {seen[item.name]} and again to a {kind}")
                seen[item.name] = kind
        return self

    def counting_lines(self) -> tuple[Line, ...]:
        """The lines as the counter takes them."""
        return tuple(Line(x.start, x.end, x.name, x.anchor, x.band, x.dwell) for x in self.lines)

    def counting_zones(self) -> tuple[Zone, ...]:
        """The zones as the counter takes them."""
        return tuple(Zone(x.name, x.points, x.anchor, x.enter_dwell, x.leave_dwell) for x in self.zones)


def polygon_fault(points: Sequence[tuple[float, float]]) -> str | None:
    """Why these corners make no zone: repeated corners, edges that cross, no area. None when they do."""
    corners = [tuple(p) for p in points]
    if len(set(corners)) < len(corners):
        return "a corner is given twice; the last corner need not repeat the first"
    edges = [(corners[i], corners[(i + 1) % len(corners)]) for i in range(len(corners))]
    for (i, first), (j, second) in combinations(enumerate(edges), 2):
        neighbours = j == i + 1 or (i == 0 and j == len(edges) - 1)
        if not neighbours and _segments_touch(*first, *second):
            return f"its edges {i + 1} and {j + 1} cross; give the corners in order around the zone"
    xs, ys = np.array(corners).T
    area = abs(float(np.dot(xs, np.roll(ys, -1)) - np.dot(ys, np.roll(xs, -1)))) / 2
    if area < _MIN_AREA:
        return f"its area is {area:.2g} of the frame; it must be {_MIN_AREA:g} or more"
    return None


def _segments_touch(a: tuple[float, ...], b: tuple[float, ...], c: tuple[float, ...], d: tuple[float, ...]) -> bool:
    def side(p: tuple[float, ...], q: tuple[float, ...], r: tuple[float, ...]) -> int:
        return int(np.sign((q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])))

    def within(p: tuple[float, ...], q: tuple[float, ...], r: tuple[float, ...]) -> bool:
        return all(min(p[k], q[k]) <= r[k] <= max(p[k], q[k]) for k in (0, 1))

    s1, s2, s3, s4 = side(a, b, c), side(a, b, d), side(c, d, a), side(c, d, b)
    if s1 != s2 and s3 != s4:
        return True
    return any(
        s == 0 and within(p, q, r) for s, p, q, r in ((s1, a, b, c), (s2, a, b, d), (s3, c, d, a), (s4, c, d, b))
    )


def load_scene(path: str | Path) -> Scene:
    """Read and check a scene file.

    Raises:
        SceneError: names file, field and value.
    """
    where = str(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SceneError(where, "", None, "there is no such file; draw one with 'headroom scene SOURCE'") from None
    except UnicodeDecodeError as error:
        raise SceneError(where, "", None, f"is not a text file in UTF-8 (byte {error.start})") from error
    except OSError as error:
        raise SceneError(where, "", None, f"cannot be read: {error.strerror}") from error
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SceneError(where, "", None, f"is not valid TOML: {error}") from error
    return parse_scene(data, where)


def parse_scene(data: dict[str, Any], where: str = "scene") -> Scene:
    """Check a scene given as plain data.

    Raises:
        SceneError: names field and value; ``where`` stands for the file.
    """
    try:
        return Scene.model_validate(data)
    except ValidationError as error:
        raise _scene_error(error, data, where) from error


def scene_faults(data: dict[str, Any]) -> list[tuple[str, str]]:
    """Every fault as (field, reason); empty when the data is a valid scene. For live validation."""
    try:
        Scene.model_validate(data)
    except ValidationError as error:
        return [(_path(e["loc"]), _reason(e)) for e in error.errors()]
    return []


def _scene_error(error: ValidationError, data: dict[str, Any], where: str) -> SceneError:
    first = error.errors()[0]
    loc = list(first["loc"])
    name = None
    if len(loc) >= 2 and isinstance(loc[1], int):
        items = data.get(str(loc[0]))
        if isinstance(items, list) and loc[1] < len(items) and isinstance(items[loc[1]], dict):
            name = items[loc[1]].get("name")
    field = _path(loc) + (f" (named {name!r})" if name else "")
    value = first["input"]
    if first["type"] == "missing" or (loc == [] and isinstance(value, dict)):
        return SceneError(where, "", None, f"{field}: {_reason(first)}" if field else _reason(first))
    reason = _reason(first)
    if first["type"] == "extra_forbidden":
        known = list(Scene.model_fields) if len(loc) == 1 else ["name", "start", "end", "points"]
        close = difflib.get_close_matches(str(loc[-1]), known, n=1)
        reason = "no such field" + (f"; did you mean {close[0]}?" if close else f" (there are {', '.join(known)})")
    return SceneError(where, field, value, reason)


def _path(loc: Iterable[int | str]) -> str:
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _reason(error: Any) -> str:
    kind = error["type"]
    coordinate = bool(error["loc"]) and isinstance(error["loc"][-1], int)
    if kind in {"greater_than_equal", "less_than_equal"} and coordinate:
        return "lies outside the frame; coordinates are relative, 0 to 1"
    if kind == "missing":
        return "is missing"
    if kind == "string_pattern_mismatch":
        return "must not contain '=' or control characters, nor begin or end with a space"
    return str(error["msg"]).removeprefix("Value error, ")


def parse_numbers(text: str, field: str) -> tuple[str | None, list[float]]:
    """Split ``[name=]x,y,x,y...`` into its name and its numbers.

    Raises:
        SceneError: names the number that is none.
    """
    name, found, rest = text.rpartition("=")
    numbers = []
    for part in rest.split(","):
        try:
            numbers.append(float(part))
        except ValueError:
            raise SceneError(field, "", None, f"{text!r}: {part.strip()!r} is not a number") from None
    return (name.strip() if found else None), numbers


def line_from_text(text: str, index: int = 0, field: str = "--line") -> dict[str, Any]:
    """``[name=]x1,y1,x2,y2`` as plain data of a :class:`SceneLine`; nameless lines are ``line``, ``line-2``..."""
    name, n = parse_numbers(text, field)
    if len(n) != 4:
        raise SceneError(
            field, "", None, f"{text!r}: a line is [name=]x1,y1,x2,y2, four numbers from 0 to 1, not {len(n)}"
        )
    return {"name": _default(name, "line", index), "start": [n[0], n[1]], "end": [n[2], n[3]]}


def zone_from_text(text: str, index: int = 0, field: str = "--zone") -> dict[str, Any]:
    """``[name=]x1,y1,x2,y2,x3,y3[,...]`` as plain data of a :class:`SceneZone`."""
    name, n = parse_numbers(text, field)
    if len(n) < 6 or len(n) % 2:
        raise SceneError(
            field,
            "",
            None,
            f"{text!r}: a zone is [name=]x1,y1,x2,y2,x3,y3[,...], three corners or more, not {len(n)} numbers",
        )
    return {"name": _default(name, "zone", index), "points": [list(p) for p in zip(n[::2], n[1::2], strict=True)]}


def _default(name: str | None, kind: str, index: int) -> str:
    return name if name is not None else kind if index == 0 else f"{kind}-{index + 1}"


def dump_scene(scene: Scene) -> str:
    """The scene as commented TOML; :func:`parse_scene` reads back an equal scene."""
    out = [
        "# Headroom scene: what to count in this view. Coordinates are shares of the frame, 0 to 1, from the top left.",
        f"version = {scene.version}",
        "",
        "# door: people walk through (10 to 25 frames/s).  room: people sit (1 or 2 frames/s).",
        f"mode = {_quoted(scene.mode)}",
        "# Detections below this score (0.05 to 0.95) count for nothing; left out: the model's own threshold.",
        f"min_score = {scene.min_score!r}" if scene.min_score is not None else "# min_score = 0.4",
    ]
    if scene.lines:
        out += ["", "# Walking across from the left to the right hand side, seen from the start, is `entered`."]
    for line in scene.lines:
        out += ["", "[[lines]]", f"name = {_quoted(line.name)}"]
        out += [f"start = {_pair(line.start)}", f"end = {_pair(line.end)}", *_options(line)]
    if scene.zones:
        out += ["", "# People inside a zone are present. Corners in order; the last is joined to the first."]
    for zone in scene.zones:
        out += ["", "[[zones]]", f"name = {_quoted(zone.name)}", *_corners(zone.points), *_options(zone)]
    if scene.masks:
        out += ["", "# Painted over before anything looks: mirrors, screens, windows to the street."]
    for mask in scene.masks:
        out += ["", "[[masks]]", f"name = {_quoted(mask.name)}", *_corners(mask.points)]
    return "\n".join(out) + "\n"


def _options(item: SceneLine | SceneZone) -> list[str]:
    """What differs from the defaults, each with its meaning."""
    lines = []
    for name, info in type(item).model_fields.items():
        value = getattr(item, name)
        if not info.is_required() and value != info.default:
            shown = _quoted(value.value) if isinstance(value, Anchor) else repr(value)
            lines += [f"# {info.description}", f"{name} = {shown}"]
    return lines


def save_scene(scene: Scene, path: str | Path) -> None:
    """Write the scene file, whole or not at all.

    Raises:
        SceneError: the file cannot be written.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        temporary.write_text(dump_scene(scene), encoding="utf-8")
        temporary.replace(target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise SceneError(str(path), "", None, f"cannot be written: {error.strerror}") from error


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # a JSON string without control characters is a TOML string


def _pair(point: Sequence[float]) -> str:
    return f"[{float(point[0])!r}, {float(point[1])!r}]"


def _corners(points: Iterable[Sequence[float]]) -> list[str]:
    return ["points = [", *(f"  {_pair(p)}," for p in points), "]"]


class MaskPainter:
    """Paints the masks of a scene over each frame, in place, with the grey that letterboxing uses."""

    def __init__(self, masks: Sequence[SceneMask]) -> None:
        self._masks = [np.array(mask.points, np.float64) for mask in masks]
        self._polygons: list[np.ndarray[Any, np.dtype[np.int32]]] = []
        self._shape: tuple[int, ...] | None = None

    def __call__(self, frame: Frame) -> Frame:
        if self._masks:
            if frame.shape != self._shape:
                scale = np.array([frame.shape[1], frame.shape[0]])
                self._polygons = [np.rint(mask * scale).astype(np.int32) for mask in self._masks]
                self._shape = frame.shape
            cv2.fillPoly(frame, self._polygons, (114, 114, 114))
        return frame
