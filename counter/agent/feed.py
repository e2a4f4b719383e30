"""Where a camera's worker gets its pictures: always the newest, never waiting for ever."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Protocol

from counter.agent.clock import AgentClock, utc_of
from counter.agent.settings import CameraSettings
from counter.sources import FrameSource, LiveSettings, LiveSource, SourceError, TimedFrame, live_capture, open_source

log = logging.getLogger(__name__)


class Feed(Protocol):
    """A camera as the agent sees it.

    Attributes:
        name: for people, without a password.
        failure: why there are no pictures, if that is known.
        ended: no picture will ever come again.
        rate: pictures a second that the camera gives, also those that nobody asks for; None: not known (yet).
    """

    name: str
    failure: str | None
    ended: bool

    @property
    def rate(self) -> float | None: ...

    def read(self, timeout: float) -> TimedFrame | None:
        """The newest picture not seen yet, None when none came within ``timeout`` seconds.

        It belongs to the feed, and the agent overwrites its pixels when it has been counted.
        """

    def close(self) -> None:
        """Release the device and overwrite what it left in memory."""


OpenFeed = Callable[[CameraSettings, AgentClock], Feed]


def open_feed(camera: CameraSettings, clock: AgentClock) -> Feed:
    """The feed of a camera. One that is away is no error: it is tried again for ever.

    Raises:
        SourceError: this can never be a camera: an unknown scheme, a file that is no video.
    """
    live = live_capture(camera.source, size=camera.size, fps=camera.camera_fps, field="source")
    if live is None:
        return RecordingFeed(
            lambda: open_source(camera.source, fps=camera.camera_fps, strict=False, field="source"), camera, clock
        )
    opener, name = live
    return _LiveFeed(
        opener,
        name=name,
        fps=camera.camera_fps,
        settings=LiveSettings(stall=camera.stall),
        clock=clock.monotonic,
        wall_clock=lambda: utc_of(clock),
    )


class _LiveFeed(LiveSource):
    ended = False


class RecordingFeed:
    """A recording as a camera would give it: in real time, late pictures dropped, once or over and over.

    Raises:
        SourceError: the recording cannot be opened.
    """

    def __init__(self, opener: Callable[[], FrameSource], camera: CameraSettings, clock: AgentClock) -> None:
        self._opener = opener
        self._clock = clock
        self._repeat = camera.at_end == "repeat"
        self._never = threading.Event()
        self._source = opener()
        self._frames: Iterator[TimedFrame] | None = None
        self._next: TimedFrame | None = None
        self._begun = 0.0
        self._epoch = 0
        self._step = 1.0 / (self._source.fps or 25.0)
        self.name = self._source.name
        self.failure: str | None = None
        self.ended = False
        self.rate = self._source.fps

    def read(self, timeout: float) -> TimedFrame | None:
        """See :class:`Feed`."""
        deadline = self._clock.monotonic() + timeout
        if self._frames is None and not self.ended:
            self._begun, self._frames = self._clock.monotonic(), iter(self._source)
        while not self.ended:
            now = self._clock.monotonic()
            item = self._next or self._forward(now)
            self._next = None
            if item is None:
                return None
            due = self._begun + item.t
            if due > deadline:
                self._next = item  # its picture stays in the source's buffer until it is asked for
                self._clock.wait(self._never, deadline - now)
                return None
            if due > now:
                self._clock.wait(self._never, due - now)
            elif now - due > self._step:
                continue
            late = self._clock.monotonic() - due
            utc = datetime.fromtimestamp(self._clock.time() - late, UTC)
            return TimedFrame(item.frame, due, utc, self._epoch)
        return None

    def close(self) -> None:
        """See :class:`Feed`."""
        self.ended = True
        self._source.close()

    def _forward(self, now: float) -> TimedFrame | None:
        """The next picture; at the end of the recording the first, or None."""
        assert self._frames is not None
        try:
            item = next(self._frames, None)
        except SourceError as error:
            log.warning("%s", error)
            self.failure = error.reason
            item = None
        if item is not None:
            return item
        self._source.close()
        if not self._repeat or self.failure is not None:
            self.ended = True
            return None
        self._source = self._opener()
        # A step after the last picture, and never before now: the second round begins after the first.
        self._frames, self._begun = iter(self._source), max(now, self._begun) + self._step
        self._epoch += 1
        return next(self._frames, None)
