"""Preview files: MP4, WebM or AVI video, a short GIF, or a PNG sheet of nine moments.

OpenCV's own encoders decide what is possible: MP4 holds MPEG-4 part 2 (fast; desktop players show it, web browsers do
not), WebM holds VP8 (slower; web browsers show it).
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from counter.outputs import OutputError, StagedFile
from counter.preview import check_preview_path
from counter.types import Frame

_CODECS = {".mp4": "mp4v", ".webm": "VP80", ".avi": "MJPG"}
_MAX_FPS = 30.0
_MAX_GAP = 5.0
"""Seconds for which a still picture stands in for missing frames, so that a lost camera writes no hours of them."""
_GIF_SECONDS, _GIF_FPS, _GIF_WIDTH = 30.0, 8.0, 480
_SHEET = 9


class PreviewSink(Protocol):
    """Takes painted frames and their seconds; the file appears on commit."""

    def write(self, picture: Frame, t: float) -> None: ...
    def commit(self) -> None: ...
    def abort(self) -> None: ...


def open_preview(path: str | Path, fps: float | None) -> PreviewSink:
    """The writer for a preview, by suffix.

    Args:
        fps: nominal rate of the source; None is taken as 25.

    Raises:
        OutputError: unknown suffix, or the file cannot be written.
    """
    try:
        suffix = check_preview_path(path)
    except ValueError as error:
        raise OutputError("--preview", path, str(error)) from error
    staged = StagedFile(path, "--preview")
    if suffix == ".gif":
        return GifPreview(staged)
    if suffix == ".png":
        return SheetPreview(staged)
    return VideoPreview(staged, _CODECS[suffix], min(fps or 25.0, _MAX_FPS))


class VideoPreview:
    """Video at a constant rate in real time: pictures are repeated or left out so that a second stays a second."""

    def __init__(self, staged: StagedFile, codec: str, fps: float) -> None:
        self._staged = staged
        self._codec = codec
        self._fps = fps
        self._writer: cv2.VideoWriter | None = None
        self._written = 0
        self._last: Frame | None = None
        self._offset: float | None = None

    def write(self, picture: Frame, t: float) -> None:
        if self._writer is None:
            self._writer = self._open(picture)
        if self._offset is None:
            self._offset = t
        due = round((t - self._offset) * self._fps) + 1
        if due <= self._written:
            return
        if due - self._written > _MAX_GAP * self._fps:  # shorten a long gap
            self._offset += (due - self._written - _MAX_GAP * self._fps) / self._fps
            due = self._written + int(_MAX_GAP * self._fps)
        while self._last is not None and self._written < due - 1:
            self._writer.write(self._last)
            self._written += 1
        self._writer.write(picture)
        self._written += 1
        self._last = picture

    def _open(self, picture: Frame) -> cv2.VideoWriter:
        size = (picture.shape[1], picture.shape[0])
        code = cv2.VideoWriter.fourcc(*self._codec)
        writer = cv2.VideoWriter(str(self._staged.temporary), cv2.CAP_FFMPEG, code, self._fps, size)
        if not writer.isOpened():
            writer.release()
            raise OutputError(
                "--preview", self._staged.target, f"this OpenCV cannot write {self._codec} at {size[0]}x{size[1]}"
            )
        return writer

    def commit(self) -> None:
        if self._writer is None:
            self._staged.abort()
            return
        self._writer.release()
        if self._staged.temporary.stat().st_size == 0:
            self._staged.abort()
            raise OutputError("--preview", self._staged.target, "nothing could be written; is the disk full?")
        self._staged.commit()

    def abort(self) -> None:
        if self._writer is not None:
            self._writer.release()
        self._staged.abort()


class GifPreview:
    """The first half minute as an animated GIF, small enough for a page."""

    def __init__(self, staged: StagedFile) -> None:
        self._staged = staged
        self._frames: list[Frame] = []
        self._times: list[float] = []

    def write(self, picture: Frame, t: float) -> None:
        if self._times and (t - self._times[0] > _GIF_SECONDS or t - self._times[-1] < 0.999 / _GIF_FPS):
            return
        self._frames.append(_fitted(picture, _GIF_WIDTH))
        self._times.append(t)

    def commit(self) -> None:
        if not self._frames:
            self._staged.abort()
            return
        if not hasattr(cv2, "imwriteanimation"):
            self.abort()
            raise OutputError("--preview", self._staged.target, "this OpenCV writes no GIF (4.11 or newer does)")
        animation = cv2.Animation()
        animation.frames = [cv2.cvtColor(f, cv2.COLOR_BGR2BGRA) for f in self._frames]
        gaps = np.diff([*self._times, self._times[-1] + 1 / _GIF_FPS])
        animation.durations = [int(max(20, round(gap * 1000))) for gap in gaps]
        if not cv2.imwriteanimation(str(self._staged.temporary), animation):
            self.abort()
            raise OutputError("--preview", self._staged.target, "the GIF could not be written")
        self._staged.commit()

    def abort(self) -> None:
        self._frames.clear()
        self._staged.abort()


class SheetPreview:
    """Nine moments, evenly spread, on one picture. Keeps at most 18 frames however long the video is."""

    def __init__(self, staged: StagedFile) -> None:
        self._staged = staged
        self._kept: list[Frame] = []
        self._stride = 1
        self._seen = 0

    def write(self, picture: Frame, t: float) -> None:
        if self._seen % self._stride == 0:
            self._kept.append(_fitted(picture, 640))
            if len(self._kept) == 2 * _SHEET:
                self._kept = self._kept[::2]
                self._stride *= 2
        self._seen += 1

    def commit(self) -> None:
        if not self._kept:
            self._staged.abort()
            return
        chosen = [self._kept[round(i)] for i in np.linspace(0, len(self._kept) - 1, min(_SHEET, len(self._kept)))]
        columns = 3 if len(chosen) > 2 else len(chosen)
        while len(chosen) % columns:
            chosen.append(np.full_like(chosen[0], 24))
        rows = [np.hstack(chosen[i : i + columns]) for i in range(0, len(chosen), columns)]
        if not cv2.imwrite(str(self._staged.temporary), np.vstack(rows)):
            self.abort()
            raise OutputError("--preview", self._staged.target, "the picture could not be written")
        self._staged.commit()

    def abort(self) -> None:
        self._kept.clear()
        self._staged.abort()


def _fitted(picture: Frame, width: int) -> Frame:
    if picture.shape[1] <= width:
        return picture.copy()
    height = max(1, round(picture.shape[0] * width / picture.shape[1]))
    small: Frame = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    return small
