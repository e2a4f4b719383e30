"""The annotated preview: boxes, lines, zones and totals painted on a copy of the frame.

This is the only place in Headroom where pictures reach a disk, and only on the explicit local option ``--preview``.
By default everybody who was detected is pixelated from head to foot, whether tracked or not; somebody whom the
detector misses is not, so treat a preview as what it is: a picture of people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from counter.scene import SceneLine, SceneZone
from counter.types import Detections, Direction, Frame, FrameResult, Track

Colour = tuple[int, int, int]
_INK: Colour = (32, 26, 22)
_PAPER: Colour = (250, 250, 250)
_GREY: Colour = (176, 170, 164)
_PERSON: Colour = (64, 196, 255)  # amber, in BGR
_IN: Colour = (132, 214, 96)  # green
_OUT: Colour = (92, 120, 246)  # red
_ZONE: Colour = (226, 178, 72)  # blue
_FLASH = 0.8
"""Seconds for which a line shines after somebody crossed it."""


@dataclass(slots=True)
class Totals:
    """What the preview and the summary say so far."""

    entered: int = 0
    left: int = 0
    present: int | None = None
    per_line: dict[str, tuple[int, int]] = field(default_factory=dict)


class Painter:
    """Paints results on a copy of the frame.

    Args:
        lines, zones: the scene.
        pixelate: make the people unrecognisable. Off shows them as they are.
    """

    def __init__(self, lines: Sequence[SceneLine], zones: Sequence[SceneZone], *, pixelate: bool = True) -> None:
        self._lines = list(lines)
        self._zones = list(zones)
        self._pixelate = pixelate
        self._flash: dict[str, tuple[float, Direction]] = {}
        self._seen = Detections.empty()

    def paint(self, frame: Frame, result: FrameResult, totals: Totals) -> Frame:
        """A new picture ``[height, width, 3]``; the frame stays as it is."""
        canvas = frame.copy()
        if result.inferred:
            self._seen = result.detections  # where the network rests, people are still where they were
        if self._pixelate:
            _pixelate_people(canvas, result, self._seen)
        for crossing in result.crossings:
            self._flash[crossing.line] = (result.t, crossing.direction)
        unit = max(1.0, min(canvas.shape[0] / 480, canvas.shape[1] / 640))
        for zone in self._zones:
            self._paint_zone(canvas, zone, result.presence.get(zone.name), unit)
        for line in self._lines:
            self._paint_line(canvas, line, totals, result.t, unit)
        for track in result.tentative:
            _brackets(canvas, track, _GREY, max(1, round(unit)))
        for track in result.tracks:
            _brackets(canvas, track, _GREY if track.hidden else _PERSON, max(2, round(2 * unit)))
        _panel(canvas, totals, result.t, unit, show_flow=bool(self._lines))
        return canvas

    def _paint_zone(self, canvas: Frame, zone: SceneZone, present: int | None, unit: float) -> None:
        polygon = _pixels(canvas, zone.points)
        _blend_polygon(canvas, polygon, _ZONE, 0.14)
        cv2.polylines(canvas, [polygon], True, _ZONE, max(1, round(1.5 * unit)), cv2.LINE_AA)
        x, y = polygon.min(axis=0)
        label = zone.name if present is None else f"{zone.name}  {present}"
        _label(canvas, label, (int(x) + round(6 * unit), int(y) + round(6 * unit)), unit, _ZONE)

    def _paint_line(self, canvas: Frame, line: SceneLine, totals: Totals, t: float, unit: float) -> None:
        start, end = _pixels(canvas, (line.start, line.end)).astype(np.float64)
        along = (end - start) / max(float(np.hypot(*(end - start))), 1e-9)
        inwards = np.array([-along[1], along[0]])  # right hand side seen from the start, y downwards
        depth = 26 * unit
        for step in range(3):  # the entered side is shaded, fading away from the line
            near, far = inwards * depth * step / 3, inwards * depth * (step + 1) / 3
            band = np.rint([start + near, end + near, end + far, start + far]).astype(np.int32)
            _blend_polygon(canvas, band, _IN, (0.34, 0.2, 0.09)[step])
        flashed, direction = self._flash.get(line.name, (-_FLASH, Direction.ENTERED))
        colour = (_IN if direction is Direction.ENTERED else _OUT) if 0 <= t - flashed < _FLASH else _PAPER
        for ink, thickness in ((_INK, 6 * unit), (colour, 3 * unit)):
            cv2.line(canvas, _xy(start), _xy(end), ink, max(1, round(thickness)), cv2.LINE_AA)
        middle = (start + end) / 2
        for ink, thickness in ((_INK, 5 * unit), (_IN, 2.5 * unit)):
            cv2.arrowedLine(
                canvas, _xy(middle), _xy(middle + inwards * depth), ink, max(1, round(thickness)), cv2.LINE_AA, 0, 0.38
            )
        entered, left = totals.per_line.get(line.name, (0, 0))
        text = f"{line.name}  in {entered}  out {left}"
        width, height = _text_size(text, 13 * unit)
        half = np.array([width / 2 + 5 * unit, height / 2 + 5 * unit])  # of the plate, which goes on the outer side
        centre = middle - inwards * (float(np.abs(inwards) @ half) + 8 * unit)
        _label(canvas, text, _xy(centre - half), unit, _PAPER)


def _pixels(canvas: Frame, points: Sequence[tuple[float, float]]) -> np.ndarray[Any, np.dtype[np.int32]]:
    scale = np.array([canvas.shape[1] - 1, canvas.shape[0] - 1])
    return np.asarray(np.rint(np.array(points) * scale), np.int32)


def _xy(point: np.ndarray[Any, Any]) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))


def _clip(canvas: Frame, x1: float, y1: float, x2: float, y2: float) -> tuple[int, int, int, int]:
    height, width = canvas.shape[:2]
    return max(0, int(x1)), max(0, int(y1)), min(width, int(np.ceil(x2))), min(height, int(np.ceil(y2)))


def _pixelate_people(canvas: Frame, result: FrameResult, seen: Detections) -> None:
    """Replace every person by blocks of a seventh of the box's width: a face keeps one or two of them."""
    boxes = [tuple(map(float, box)) for box in seen.boxes]
    boxes += [track.box for track in (*result.tracks, *result.tentative)]
    for left, top, right, bottom in boxes:
        margin = 0.06 * (right - left)
        x1, y1, x2, y2 = _clip(canvas, left - margin, top - margin, right + margin, bottom + margin)
        if x2 - x1 < 2 or y2 - y1 < 2:
            continue
        block = max(6.0, (right - left) / 7)
        small = (max(1, round((x2 - x1) / block)), max(1, round((y2 - y1) / block)))
        coarse = cv2.resize(canvas[y1:y2, x1:x2], small, interpolation=cv2.INTER_AREA)
        canvas[y1:y2, x1:x2] = cv2.resize(coarse, (x2 - x1, y2 - y1), interpolation=cv2.INTER_NEAREST)


def _blend_polygon(canvas: Frame, polygon: np.ndarray[Any, Any], colour: Colour, alpha: float) -> None:
    x, y, w, h = cv2.boundingRect(polygon)
    x1, y1, x2, y2 = _clip(canvas, x, y, x + w, y + h)
    if x2 <= x1 or y2 <= y1:
        return
    region = canvas[y1:y2, x1:x2]
    painted = region.copy()
    cv2.fillPoly(painted, [polygon - np.array([x1, y1], np.int32)], colour, cv2.LINE_AA)
    cv2.addWeighted(painted, alpha, region, 1 - alpha, 0, dst=region)


def _brackets(canvas: Frame, track: Track, colour: Colour, thickness: int) -> None:
    """The four corners of a box: less ink over the people than a full frame."""
    x1, y1, x2, y2 = (round(v) for v in track.box)
    reach = max(6, round(0.22 * min(x2 - x1, y2 - y1)))
    for ink, width in ((_INK, thickness + 2), (colour, thickness)):
        for x, dx in ((x1, reach), (x2, -reach)):
            for y, dy in ((y1, reach), (y2, -reach)):
                corner = np.array([[x + dx, y], [x, y], [x, y + dy]], np.int32)
                cv2.polylines(canvas, [corner], False, ink, width, cv2.LINE_AA)


_FACE: Any = cv2.FontFace("sans") if hasattr(cv2, "FontFace") else None
"""OpenCV 5 brings a real typeface; OpenCV 4 has stroke letters only."""


def _text_size(text: str, size: float) -> tuple[int, int]:
    if _FACE is not None:
        _, _, width, height = cv2.getTextSize((0, 0), text, (0, 0), _FACE, round(size), 500)
        return int(width), int(size)
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size / 24, 1)
    return int(width), int(height)


def _text(canvas: Frame, text: str, left: int, baseline: int, size: float, colour: Colour) -> None:
    if _FACE is not None:
        cv2.putText(canvas, text, (left, baseline), colour, _FACE, round(size), 500)
    else:
        cv2.putText(canvas, text, (left, baseline), cv2.FONT_HERSHEY_SIMPLEX, size / 24, colour, 1, cv2.LINE_AA)


def _plate(canvas: Frame, x: int, y: int, width: int, height: int) -> None:
    """A dark translucent plate, so that text is legible on any picture."""
    x1, y1, x2, y2 = _clip(canvas, x, y, x + width, y + height)
    region = canvas[y1:y2, x1:x2]
    cv2.addWeighted(np.full_like(region, _INK), 0.78, region, 0.22, 0, dst=region)


def _label(canvas: Frame, text: str, at: tuple[int, int], unit: float, colour: Colour) -> None:
    """A small plate with text whose top left corner is ``at``, pushed inside the frame where it would stick out."""
    size, pad = 13 * unit, round(5 * unit)
    width, height = _text_size(text, size)
    x = max(2, min(at[0], canvas.shape[1] - width - 2 * pad - 2))
    y = max(2, min(at[1], canvas.shape[0] - height - 2 * pad - 2))
    _plate(canvas, x, y, width + 2 * pad, height + 2 * pad)
    _text(canvas, text, x + pad, y + pad + round(0.84 * height), size, colour)


def _panel(canvas: Frame, totals: Totals, t: float, unit: float, *, show_flow: bool) -> None:
    """People now, in and out, at the top left; the time at the top right."""
    cells = [("present", "–" if totals.present is None else str(totals.present), _PERSON)]
    if show_flow:
        cells += [("entered", str(totals.entered), _IN), ("left", str(totals.left), _OUT)]
    pad, cell, height = round(10 * unit), round(74 * unit), round(54 * unit)
    _plate(canvas, pad, pad, cell * len(cells) + pad, height)
    for index, (name, value, colour) in enumerate(cells):
        x = 2 * pad + cell * index
        _text(canvas, value, x, pad + round(30 * unit), 25 * unit, colour)
        _text(canvas, name, x, pad + round(46 * unit), 12 * unit, _PAPER)
    clock = f"{int(t // 60):d}:{t % 60:04.1f}"
    _label(canvas, clock, (canvas.shape[1], pad), unit, _PAPER)


def check_preview_path(path: str | Path) -> str:
    """The suffix of a preview, in lower case.

    Raises:
        ValueError: not one of those that can be written.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in PREVIEW_SUFFIXES:
        raise ValueError(f"the name must end in {', '.join(PREVIEW_SUFFIXES)}")
    return suffix


PREVIEW_SUFFIXES = (".mp4", ".webm", ".avi", ".gif", ".png")
