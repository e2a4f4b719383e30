"""Recordings: video files and GIFs, folders of pictures, iterators of arrays. Nothing is lost by taking one's time."""

from __future__ import annotations

import configparser
import logging
import os
import re
from collections.abc import Iterable, Iterator, Sized
from pathlib import Path

import cv2
import numpy as np

from counter.sources.base import ClosingSource, SizeGuard, SourceError, TimedFrame, checked_frame, public_name
from counter.types import Frame

log = logging.getLogger(__name__)

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".gif", ".ts", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv", ".3gp"}
)
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"})
_TIMEOUT_MS = 15_000
_SHORT = 0.9
"""A recording that gives less than this share of the frames and of the time it announced is cut."""


class VideoFile(ClosingSource):
    """A video file, an animated GIF, or a video behind a URL: every frame with the container's own timestamp.

    Timestamps come from the container, never from counting frames: a phone records with a varying rate, a GIF gives
    each picture its own delay. The first frame is at 0 s.

    Args:
        path: the file, or a URL that ends in a video suffix.
        field: how errors name it.
        strict: raise when the file breaks off before its announced end; else warn and use what could be read.

    Raises:
        SourceError: missing, not a video, without frames, cut, or with a size that changes midway (the last two
            while iterating).
    """

    live = False

    def __init__(self, path: str | Path, *, field: str = "SOURCE", strict: bool = True) -> None:
        self.path = str(path)
        self._field = field
        self._strict = strict
        is_url = "://" in self.path
        self._shown = public_name(self.path)
        self.name = self._shown.rsplit("/", 1)[-1]
        if not is_url:
            _check_file(Path(path), field)
        timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, _TIMEOUT_MS]
        self._capture = cv2.VideoCapture(self.path, cv2.CAP_FFMPEG, timeouts if is_url else [])
        if not self._capture.isOpened():
            self._capture.release()
            raise SourceError(
                field,
                self._shown,
                "no video stream could be read from this "
                + ("address" if is_url else "file; is it a video, and was it copied or recorded to its end?"),
            )
        fps = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.fps: float | None = fps if 0.01 < fps < 1000 else None
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.frame_count: int | None = count if 0 < count < 1 << 40 else None
        self._buffer: Frame | None = None

    def __iter__(self) -> Iterator[TimedFrame]:
        guard = SizeGuard(self._field, self._shown)
        step = 1.0 / (self.fps or 25.0)
        index, t, first, warned = 0, 0.0, 0.0, False
        while self._capture.grab():
            stamp = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000.0
            ok, frame = self._capture.retrieve(self._buffer)
            if not ok or frame is None:
                break
            self._buffer = frame  # retrieve() writes into it again where size and kind still fit
            if index == 0:
                first = stamp
            elif stamp - first > t:
                t = stamp - first
            else:  # broken or missing timestamps: go on by the nominal rate, and say so once
                t += step
                if not warned:
                    log.warning("%s: frame %d has no usable timestamp, going on by %.3g s", self.name, index, step)
                    warned = True
            guard.check(frame, index, t)
            yield TimedFrame(frame, t)
            index += 1
        self._check_end(index, t)

    def _check_end(self, frames: int, last_t: float) -> None:
        if frames == 0:
            raise SourceError(self._field, self._shown, "the video holds no frame that can be decoded", usage=False)
        announced = self.frame_count
        # Both must fall short: for a varying rate some containers only estimate the number of frames.
        if announced is None or frames >= announced * _SHORT:
            return
        if self.fps is not None and last_t + 1.0 / self.fps >= announced / self.fps * _SHORT:
            return
        reason = f"breaks off at {last_t:.1f} s after {frames} of {announced} frames; the file is cut or damaged"
        if self._strict:
            raise SourceError(self._field, self._shown, f"{reason} (--allow-cut counts what can be read)", usage=False)
        log.warning("%s %s", self.name, reason)

    def close(self) -> None:
        self._capture.release()
        if self._buffer is not None:
            self._buffer.fill(0)
            self._buffer = None


def _check_file(path: Path, field: str) -> None:
    """Say what is wrong with a path before a codec says nothing."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise SourceError(field, path, "there is no such file, folder, camera or address") from None
    except OSError as error:
        raise SourceError(field, path, f"cannot be read: {error.strerror}") from error
    if size == 0:
        raise SourceError(field, path, "the file is empty")
    try:
        with path.open("rb") as file:
            head = file.read(6)
            if head in (b"GIF87a", b"GIF89a"):
                file.seek(-min(size, 64), os.SEEK_END)
                if not file.read().rstrip(b"\0").endswith(b";"):
                    raise SourceError(field, path, "the GIF has no end mark: the file is cut; fetch it again")
    except OSError as error:
        raise SourceError(field, path, f"cannot be read: {error.strerror}") from error


class ImageFolder(ClosingSource):
    """A folder of pictures in natural order (2 before 10), or a MOTChallenge sequence (``seqinfo.ini`` + ``img1/``).

    Args:
        folder: the folder.
        fps: pictures per second; read from ``seqinfo.ini`` where there is one.

    Raises:
        SourceError: no pictures, no rate, an unreadable picture, or a size that changes midway.
    """

    live = False

    def __init__(self, folder: str | Path, *, fps: float | None = None, field: str = "SOURCE") -> None:
        root = Path(folder)
        self.path = str(folder)
        self.name = root.name or self.path
        self._field = field
        pictures, info_fps = _sequence(root, field)
        self._files = sorted(
            (f for f in pictures.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES and f.is_file()), key=_natural
        )
        if not self._files:
            raise SourceError(field, folder, f"no pictures in this folder ({', '.join(sorted(IMAGE_SUFFIXES))})")
        rate = fps if fps is not None else info_fps
        if rate is None:
            raise SourceError(
                field, folder, "pictures in a folder carry no time: give the pictures per second with --fps"
            )
        self.fps: float | None = rate
        self.frame_count: int | None = len(self._files)

    def __iter__(self) -> Iterator[TimedFrame]:
        guard = SizeGuard(self._field, self.path)
        assert self.fps is not None
        for index, file in enumerate(self._files):
            frame = cv2.imread(str(file), cv2.IMREAD_COLOR)
            if frame is None:
                raise SourceError(self._field, file, "this picture cannot be decoded", usage=False)
            t = index / self.fps
            guard.check(frame, index, t)
            yield TimedFrame(frame, t)
            frame.fill(0)


def _sequence(root: Path, field: str) -> tuple[Path, float | None]:
    """The folder with the pictures and the rate that ``seqinfo.ini`` names."""
    info = root / "seqinfo.ini"
    if not info.is_file():
        return root, None
    parser = configparser.ConfigParser()
    try:
        parser.read(info, encoding="utf-8")
        section = parser["Sequence"]
        rate = float(section["frameRate"])
        folder = root / section.get("imDir", "img1")
    except (configparser.Error, KeyError, ValueError) as error:
        raise SourceError(field, info, f"no [Sequence] with a frameRate can be read from it ({error})") from error
    if not rate > 0:
        raise SourceError(field, info, f"frameRate {rate} is not above 0")
    if not folder.is_dir():
        raise SourceError(field, folder, "seqinfo.ini names this folder (imDir), but it is not there")
    return folder, rate


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Sort key that reads digits as numbers."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", path.name)]


class ArraySource(ClosingSource):
    """Frames from any iterable: arrays at a fixed rate, or ``(t, frame)`` pairs with their own seconds.

    Args:
        frames: ``[height, width, 3]`` uint8 BGR arrays, or pairs of seconds and array.
        fps: frames per second for bare arrays.
    """

    live = False

    def __init__(
        self,
        frames: Iterable[Frame] | Iterable[tuple[float, Frame]],
        *,
        fps: float | None = None,
        name: str = "frames",
    ) -> None:
        if fps is not None and not fps > 0:
            raise SourceError("fps", fps, "must be above 0")
        self._frames = frames
        self.fps = fps
        self.name = name
        self.frame_count: int | None = len(frames) if isinstance(frames, Sized) else None

    def __iter__(self) -> Iterator[TimedFrame]:
        guard = SizeGuard("frames", self.name)
        last = -np.inf
        for index, item in enumerate(self._frames):
            where = f"frame {index}"
            if isinstance(item, tuple):
                t, frame = float(item[0]), checked_frame(item[1], where)
                if not np.isfinite(t) or t < last:
                    raise SourceError(where, t, f"time must be finite and never go back (before it: {last:g} s)")
            elif self.fps is None:
                raise SourceError("fps", None, "bare arrays carry no time: give fps=, or (seconds, frame) pairs")
            else:
                t, frame = index / self.fps, checked_frame(item, where)
            guard.check(frame, index, t)
            yield TimedFrame(frame, t)
            last = t
        if last == -np.inf:
            raise SourceError("frames", self.name, "there was not a single frame", usage=False)
