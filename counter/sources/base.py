"""What every frame source promises: frames with a monotonic time, and the wall clock where there is one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

import numpy as np

from counter.types import Frame


class SourceError(ValueError):
    """A source that cannot be used: names the field, its value and what to do.

    ``usage`` is True when the caller gave something unusable (a file that is not there), False when a run that had
    begun failed (a file that breaks off).
    """

    def __init__(self, field: str, value: object, reason: str, *, usage: bool = True) -> None:
        super().__init__(f"{field} {str(value)!r}: {reason}")
        self.field = field
        self.value = value
        self.reason = reason
        self.usage = usage


@dataclass(frozen=True, slots=True)
class TimedFrame:
    """One frame and its moment.

    Attributes:
        frame: ``[height, width, 3]`` uint8 BGR. It belongs to the source, which writes the next picture over it:
            copy what must outlive the loop's body.
        t: seconds, never decreasing. Recordings begin at 0; live sources use the machine's monotonic clock.
        utc: wall clock of live frames, None for recordings.
        epoch: grows by one whenever a live source was lost and found again or changed its size: tracks from the
            epoch before mean nothing any more.
    """

    frame: Frame
    t: float
    utc: datetime | None = None
    epoch: int = 0


class FrameSource(Protocol):
    """Frames in order of time, from a file, a folder, an iterator or a camera.

    Attributes:
        name: short, for people, without a password.
        live: True when frames arrive by themselves and waiting costs frames.
        frame_count: how many frames a recording announces, None where nobody knows.
        fps: nominal frames per second, None where nobody knows. For progress bars and previews alone: the time of a
            frame is its own ``t``.
    """

    @property
    def name(self) -> str: ...
    @property
    def live(self) -> bool: ...
    @property
    def frame_count(self) -> int | None: ...
    @property
    def fps(self) -> float | None: ...
    def __iter__(self) -> Iterator[TimedFrame]: ...
    def close(self) -> None: ...


def public_name(spec: str) -> str:
    """An address without user, password and query: fit for logs and errors; of a pipeline, that it is one.

    Anything else stays as it is.
    """
    if " ! " in spec:  # addresses and passwords may stand anywhere in it
        return "GStreamer pipeline"
    if "://" not in spec:
        return spec
    try:
        parts = urlsplit(spec)
    except ValueError:
        return f"{spec.partition('://')[0]}://..."
    try:
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        host, port = "", ""
    return f"{parts.scheme}://{host}{port}{parts.path}"


class ClosingSource:
    """``with source:`` for sources, and frames overwritten when it ends."""

    def close(self) -> None:
        """Release what the source holds. May be called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def checked_frame(frame: Any, where: str) -> Frame:
    """The frame itself when it is what the counter works on, else a :class:`SourceError` that says how to make it so.

    Args:
        frame: anything an iterator may give.
        where: which frame, for the message ("frame 12").
    """
    if not isinstance(frame, np.ndarray):
        raise SourceError(where, type(frame).__name__, "expected a numpy array [height, width, 3], uint8, BGR")
    if frame.ndim != 3 or frame.shape[2] != 3:
        hint = "; turn grey or RGBA pictures into BGR with cv2.cvtColor first" if frame.ndim in (2, 3) else ""
        raise SourceError(where, f"shape {list(frame.shape)}", f"expected [height, width, 3]{hint}")
    if frame.dtype != np.uint8:
        raise SourceError(where, f"dtype {frame.dtype}", "expected uint8, 0 to 255")
    if 0 in frame.shape:
        raise SourceError(where, f"shape {list(frame.shape)}", "the picture is empty")
    return frame


class SizeGuard:
    """Refuses a recording whose pictures change size midway: lines and tracks would silently mean something else."""

    def __init__(self, field: str, value: object) -> None:
        self._field = field
        self._value = value
        self._shape: tuple[int, ...] | None = None

    def check(self, frame: Frame, index: int, t: float) -> None:
        if self._shape is None:
            self._shape = frame.shape
        elif frame.shape != self._shape:
            was, now = self._shape, frame.shape
            raise SourceError(
                self._field,
                self._value,
                f"frame {index} (at {t:.2f} s) is {now[1]}x{now[0]}, the frames before it are {was[1]}x{was[0]}; "
                "a recording must keep one size: split it there or scale it first",
                usage=False,
            )
