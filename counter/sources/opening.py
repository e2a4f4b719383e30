"""From what people write (a path, a camera number, an address, a pipeline) to a frame source."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import cv2

from counter.sources.base import ClosingSource, FrameSource, SourceError, TimedFrame, public_name
from counter.sources.live import Capture, LiveSettings, LiveSource
from counter.sources.recorded import VIDEO_SUFFIXES, ImageFolder, VideoFile
from counter.types import Frame

_STREAMS = frozenset({"rtsp", "rtsps", "rtmp", "http", "https", "udp", "tcp", "srt", "rtp"})


def open_source(
    spec: str,
    *,
    fps: float | None = None,
    size: tuple[int, int] | None = None,
    strict: bool = True,
    settings: LiveSettings | None = None,
    on_change: Callable[[bool], None] | None = None,
    field: str = "SOURCE",
) -> FrameSource:
    """Open whatever ``spec`` names.

    Args:
        spec: a video file or GIF; a folder of pictures or a MOTChallenge sequence; a camera (``0``, ``/dev/video0``);
            an address (``rtsp://``, ``http://``...; one that ends in a video suffix is a recording); or a GStreamer
            pipeline (contains `` ! ``), where OpenCV was built with GStreamer.
        fps: pictures per second of a folder; wished rate of a camera.
        size: wished width and height of a camera.
        strict: refuse recordings that break off before their announced end.
        settings, on_change: for live sources, see :class:`LiveSource`.

    Raises:
        SourceError: names the field, the value and what to do.
    """
    if fps is not None and not fps > 0:
        raise SourceError("--fps", fps, "must be above 0")
    if not spec.strip():
        raise SourceError(field, spec, "name a video, a folder, a camera number or an address")
    live = live_capture(spec, size=size, fps=fps, field=field)
    if live is not None:
        opener, name = live
        if (device := _device(spec)) and not device.exists():
            raise SourceError(field, spec, f"there is no camera {device} on this machine")
        return LiveSource(opener, name=name, fps=fps, settings=settings, on_change=on_change)
    if "://" in spec and not spec.startswith("file://"):
        return VideoFile(spec, field=field, strict=strict)
    path = Path(spec.removeprefix("file://"))
    if path.is_dir():
        return ImageFolder(path, fps=fps, field=field)
    return VideoFile(path, field=field, strict=strict)


def live_capture(
    spec: str, *, size: tuple[int, int] | None = None, fps: float | None = None, field: str = "SOURCE"
) -> tuple[Callable[[], Capture], str] | None:
    """How to open a camera or stream, and its name for people; None for recordings. Nothing is opened here.

    For those who must live with a camera that is not there yet: the returned function raises while it is not.

    Raises:
        SourceError: no such camera or stream can ever be opened (an unknown scheme, no GStreamer).
    """
    scheme = re.match(r"([a-z][a-z0-9+.-]*)://", spec)
    if scheme and scheme[1] != "file":
        if scheme[1] not in _STREAMS:
            raise SourceError(field, public_name(spec), f"{scheme[1]}:// is not one of {', '.join(sorted(_STREAMS))}")
        if Path(urlsplit(spec).path).suffix.lower() in VIDEO_SUFFIXES and scheme[1] in {"http", "https"}:
            return None
        return lambda: CvCapture.stream(spec), public_name(spec)
    if " ! " in spec:
        if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
            raise SourceError(
                field,
                public_name(spec),
                "this build of OpenCV has no GStreamer; use an OpenCV that has it, or rtsp:// or /dev/video",
            )
        return lambda: CvCapture.pipeline(spec), "GStreamer pipeline"
    device = _device(spec)
    if device is not None:
        number = int(device.name.removeprefix("video"))
        return lambda: CvCapture.camera(number, size, fps), f"camera {number}"
    return None


def _device(spec: str) -> Path | None:
    """The device that ``0`` or ``/dev/video0`` names; a number that is also a file or folder here names that."""
    camera = re.fullmatch(r"(?:/dev/video)?(\d{1,3})", spec)
    if camera is None or not (spec.startswith("/dev/") or not Path(spec).exists()):
        return None
    return Path(f"/dev/video{int(camera[1])}")


class CvCapture:
    """One opened OpenCV capture. The time-outs are the second guard behind the watchdog of :class:`LiveSource`."""

    _TIMEOUTS = (cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 10_000, cv2.CAP_PROP_READ_TIMEOUT_MSEC, 10_000)

    def __init__(self, capture: cv2.VideoCapture, what: str) -> None:
        self._capture = capture
        if not capture.isOpened():
            capture.release()
            raise SourceError("SOURCE", what, "cannot be opened")

    @classmethod
    def stream(cls, url: str) -> CvCapture:
        return cls(cv2.VideoCapture(url, cv2.CAP_FFMPEG, list(cls._TIMEOUTS)), public_name(url))

    @classmethod
    def pipeline(cls, pipeline: str) -> CvCapture:
        return cls(cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER), "GStreamer pipeline")

    @classmethod
    def camera(cls, number: int, size: tuple[int, int] | None, fps: float | None) -> CvCapture:
        if not Path(f"/dev/video{number}").exists():
            raise SourceError("SOURCE", f"camera {number}", f"/dev/video{number} is not there; is it plugged in?")
        capture = cv2.VideoCapture(number, cv2.CAP_V4L2)
        if size is not None:
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, size[0])
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size[1])
        if fps is not None:
            capture.set(cv2.CAP_PROP_FPS, fps)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        return cls(capture, f"camera {number}")

    def read(self, buffer: Frame | None) -> Frame | None:
        ok, frame = self._capture.read(buffer)
        return frame if ok else None

    def release(self) -> None:
        self._capture.release()


class Paced(ClosingSource):
    """A recording played in real time, as a camera would give it: late frames are dropped, every frame has a UTC.

    Args:
        source: a recording.
        speed: 2 plays twice as fast. ``t`` and ``utc`` stay those of the recording, beginning now.
    """

    live = True

    def __init__(
        self,
        source: FrameSource,
        *,
        speed: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        if not speed > 0:
            raise SourceError("speed", speed, "must be above 0")
        self._source = source
        self._speed = speed
        self._clock = clock
        self._sleep = sleep
        self._wall_clock = wall_clock
        self.name = source.name
        self.fps = source.fps
        self.frame_count = source.frame_count

    def __iter__(self) -> Iterator[TimedFrame]:
        begun, begun_utc = self._clock(), self._wall_clock()
        step = 1.0 / (self.fps or 25.0)
        for item in self._source:
            late = (self._clock() - begun) * self._speed - item.t
            if late > step and item.t > 0:
                continue
            if late < 0:
                self._sleep(-late / self._speed)
            utc = datetime.fromtimestamp(begun_utc.timestamp() + item.t, UTC)
            yield TimedFrame(item.frame, begun + item.t, utc, item.epoch)

    def close(self) -> None:
        self._source.close()
