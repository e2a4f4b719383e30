"""Live sources: cameras and streams that hang, vanish and come back.

The camera is read by a thread of its own, so that a read that hangs can never hang the program. The reader always
gets the newest picture; older ones are overwritten unseen, so nothing queues up and delay cannot grow.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import numpy as np

from counter.sources.base import ClosingSource, SourceError, TimedFrame
from counter.types import Frame

log = logging.getLogger(__name__)

_RATE_PICTURES = 61
"""Pictures over which a camera's rate is taken."""


class Capture(Protocol):
    """An opened device or stream. Both methods are called by the capture thread alone."""

    def read(self, buffer: Frame | None) -> Frame | None:
        """The next picture, in ``buffer`` where it fits; None when the device gives nothing any more."""

    def release(self) -> None: ...


@dataclass(frozen=True, slots=True)
class LiveSettings:
    """How patient a live source is, in seconds.

    Attributes:
        stall: without a new picture for so long the connection counts as lost and is opened anew. Shorter finds a
            hanging camera sooner, but takes a slow one (a picture every few seconds) for a dead one.
        back_off: first pause between attempts; it doubles up to ``back_off_max``.
        back_off_max: longest pause: how late a camera that came back may be noticed.
        max_stuck: capture threads that may hang inside a driver at the same time. They cannot be killed, so no
            further attempt is made until one of them returns: memory and threads stay bounded.
    """

    stall: float = 15.0
    back_off: float = 0.5
    back_off_max: float = 30.0
    max_stuck: int = 3


class _Mailbox:
    """Three buffers: one being written, the newest finished one, one in the reader's hands. Nothing is copied."""

    def __init__(self, now: float) -> None:
        self.changed = threading.Condition()
        self.last_sign = now
        self.spare: Frame | None = None
        self.times: deque[float] = deque(maxlen=_RATE_PICTURES)
        self._ready: tuple[Frame, float, datetime] | None = None
        self._held: Frame | None = None

    def put(self, frame: Frame, t: float, utc: datetime) -> Frame | None:
        """Offer a finished picture; returns the buffer to write the next one into (None: make one)."""
        with self.changed:
            free = self._ready[0] if self._ready is not None else self.spare
            if self._ready is None:
                self.spare = None
            self._ready = (frame, t, utc)
            self.last_sign = t
            self.times.append(t)
            self.changed.notify_all()
            return free

    def take(self) -> tuple[Frame, float, datetime] | None:
        """The newest picture, once. The one taken before goes back to be written over. Call with the lock held."""
        if self._ready is None:
            return None
        self.spare, self._held = self._held, self._ready[0]
        taken, self._ready = self._ready, None
        return taken

    @property
    def empty(self) -> bool:
        return self._ready is None

    def wipe(self) -> None:
        """Overwrite every picture that is still here."""
        with self.changed:
            for frame in (self.spare, self._held, self._ready[0] if self._ready else None):
                if frame is not None:
                    frame.fill(0)
            self.spare = self._held = self._ready = None


class _Session(threading.Thread):
    """One connection: opens, reads until it fails, is told to stop, or hangs."""

    def __init__(self, source: LiveSource, opener: Callable[[], Capture], mailbox: _Mailbox) -> None:
        super().__init__(name=f"capture {source.name}", daemon=True)
        self._source = source
        self._opener = opener
        self._mailbox = mailbox
        self.stop = threading.Event()
        self.failure: str | None = None

    def run(self) -> None:
        capture: Capture | None = None
        buffer: Frame | None = None
        try:
            capture = self._opener()
            while not self.stop.is_set():
                frame = capture.read(buffer)
                if frame is None:
                    self.failure = "it gives no more pictures"
                    break
                if self.stop.is_set():  # woke from a hang after it had been given up
                    frame.fill(0)
                    break
                buffer = self._mailbox.put(frame, self._source.clock(), self._source.wall_clock())
        except SourceError as error:
            self.failure = error.reason
        except Exception as error:  # a driver may raise anything; the source must survive it
            self.failure = f"{type(error).__name__}: {error}"
        finally:
            if buffer is not None:
                buffer.fill(0)
            if capture is not None:
                capture.release()
            with self._mailbox.changed:
                self._mailbox.changed.notify_all()


class LiveSource(ClosingSource):
    """A camera or stream that is watched, given up when it hangs, and opened again with growing pauses, for ever.

    Read it by ``read(timeout)``, which returns None when nothing came in time (the caller can then say ``no_signal``),
    or by iterating, which waits for ever. Not thread-safe: one reader.

    Args:
        opener: opens the device; raises :class:`SourceError` when it cannot.
        name: for people and logs, without a password.
        fps: nominal rate, if known.
        on_change: called with True when pictures begin to come and with False when they stop, once each.
        clock, wall_clock: monotonic seconds and UTC.
    """

    live = True
    frame_count: int | None = None

    def __init__(
        self,
        opener: Callable[[], Capture],
        *,
        name: str,
        fps: float | None = None,
        settings: LiveSettings | None = None,
        on_change: Callable[[bool], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.name = name
        self.fps = fps
        self.clock = clock
        self.wall_clock = wall_clock
        self._opener = opener
        self._settings = settings or LiveSettings()
        self._on_change = on_change
        self._session: _Session | None = None
        self._mailbox = _Mailbox(0.0)
        self._stuck: list[_Session] = []
        self._pause = self._settings.back_off
        self._next_attempt = -np.inf
        self._epoch = 0
        self._shape: tuple[int, ...] | None = None
        self._closed = False
        self.connected = False
        self.failure: str | None = None
        """Why the last connection ended, for people; None before the first failure."""

    @property
    def rate(self) -> float | None:
        """Pictures a second that came of late, those included that nobody asked for; None while too few came."""
        with self._mailbox.changed:
            times = self._mailbox.times
            spent = times[-1] - times[0] if len(times) > _RATE_PICTURES // 4 else 0.0
            return (len(times) - 1) / spent if spent > 0.0 else None

    @property
    def stuck(self) -> int:
        """Capture threads that hang inside a driver at this moment."""
        self._stuck = [session for session in self._stuck if session.is_alive()]
        return len(self._stuck)

    def read(self, timeout: float) -> TimedFrame | None:
        """The newest picture not seen yet, or None when none came within ``timeout`` seconds."""
        deadline = self.clock() + timeout
        while not self._closed:
            with self._mailbox.changed:
                taken = self._mailbox.take()
            if taken is not None:
                return self._received(*taken)
            session = self._ensure_session()
            now = self.clock()
            if now >= deadline:
                return None
            ended = session is None or not session.is_alive()
            wake = min(deadline, self._next_attempt if ended else self._mailbox.last_sign + self._settings.stall)
            with self._mailbox.changed:
                if self._mailbox.empty:
                    self._mailbox.changed.wait(min(max(wake - now, 0.001), 1.0))
        return None

    def __iter__(self) -> Iterator[TimedFrame]:
        while not self._closed:
            frame = self.read(1.0)
            if frame is not None:
                yield frame

    def close(self) -> None:
        """Release the device and overwrite the pictures. A thread that hangs in a driver is left to itself."""
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            session.stop.set()
            session.join(timeout=2.0)
        self._mailbox.wipe()

    def _received(self, frame: Frame, t: float, utc: datetime) -> TimedFrame:
        self._pause = self._settings.back_off
        if not self.connected:
            self.connected = True
            log.info("%s: pictures are coming, %dx%d", self.name, frame.shape[1], frame.shape[0])
            if self._on_change is not None:
                self._on_change(True)
        if self._shape is not None and frame.shape != self._shape:
            log.warning("%s: the picture is now %dx%d", self.name, frame.shape[1], frame.shape[0])
            self._epoch += 1
        self._shape = frame.shape
        return TimedFrame(frame, t, utc, self._epoch)

    def _ensure_session(self) -> _Session | None:
        """Watch the running connection; open a new one when the last has ended and its pause is over."""
        now = self.clock()
        session = self._session
        if session is not None:
            if not self._mailbox.empty:
                return session  # its last picture counts, also when it has ended since
            if session.is_alive() and now - self._mailbox.last_sign <= self._settings.stall:
                return session
            if session.is_alive():
                session.stop.set()
                self._stuck.append(session)
                self._lost(f"no picture for {self._settings.stall:g} s", now)
            else:
                self._lost(session.failure or "the connection ended", now)
            self._session = None
        if now < self._next_attempt:
            return None
        if self.stuck >= self._settings.max_stuck:
            self._next_attempt = now + self._settings.back_off_max
            return None
        # A mailbox of its own: a thread that wakes from a hang must not write into buffers that are in use again.
        self._mailbox.wipe()
        self._mailbox = _Mailbox(now)
        self._session = _Session(self, self._opener, self._mailbox)
        self._session.start()
        return self._session

    def _lost(self, why: str, now: float) -> None:
        if self.connected or self.failure is None:
            log.warning("%s: no pictures (%s); trying again for ever", self.name, why)
        if self.connected:
            self._epoch += 1
            if self._on_change is not None:
                self._on_change(False)
        self.connected = False
        self.failure = why
        self._next_attempt = now + self._pause
        self._pause = min(self._pause * 2, self._settings.back_off_max)
