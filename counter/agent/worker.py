"""One camera, from picture to record: opened and closed by the hours, looked at by the pace, judged by its health."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from counter.agent.adapt import Pace
from counter.agent.clock import AgentClock, iso
from counter.agent.feed import Feed, OpenFeed
from counter.agent.records import RecordDesk
from counter.agent.schedule import Schedule
from counter.agent.settings import LEAST_FPS, CameraSettings, HealthSettings, WorkSettings
from counter.counting import IntervalCounter
from counter.health import ViewHealth
from counter.pipeline import MAX_GAP_SECONDS, PeopleCounter
from counter.privacy import in_use
from counter.scene import MaskPainter
from counter.sources import TimedFrame
from counter.types import FrameResult
from uplink.messages import CountRecord, Health

log = logging.getLogger(__name__)

MakeCounter = Callable[[Callable[[CountRecord], None]], PeopleCounter]
OnResult = Callable[[str, FrameResult], None]

STEADY_SECONDS = 120.0
"""So long a camera that failed must be counted without a fault before that is over: then it is said, once."""
_WAIT_SECONDS = 1.0
_READ_SECONDS = 0.5
_EVENTS = 10_000


class CameraState(StrEnum):
    """What a camera's worker is doing."""

    STARTING = "starting"
    COUNTING = "counting"
    AWAY = "away"
    CLOSED = "closed"
    FAILED = "failed"
    ENDED = "ended"


class CameraWorker:
    """Looks at one camera and hands its records to a :class:`RecordDesk`. Call :meth:`step` again and again.

    Args:
        sensor_id: of its records.
        make_counter: a fresh counter for each opening, given what takes its records.
        stop: ends waits.
        on_result: told of each frame's result, in this worker's thread.
    """

    def __init__(
        self,
        sensor_id: str,
        camera: CameraSettings,
        schedule: Schedule,
        desk: RecordDesk,
        make_counter: MakeCounter,
        open_feed: OpenFeed,
        clock: AgentClock,
        stop: threading.Event,
        *,
        health: HealthSettings | None = None,
        work: WorkSettings | None = None,
        on_result: OnResult | None = None,
    ) -> None:
        self.sensor_id = sensor_id
        self.camera = camera
        self._schedule = schedule
        self._desk = desk
        self._make_counter = make_counter
        self._open_feed = open_feed
        self._clock = clock
        self._stop = stop
        self._on_result = on_result
        health = health or HealthSettings()
        work = work or WorkSettings()
        self.pace = Pace(
            camera.most_fps,
            camera.least_idle_fps,
            min(LEAST_FPS[camera.scene.mode], camera.most_fps),
            work.share,
            work.warm,
            work.hot,
            asked=camera.fps,
        )
        self._view = (
            ViewHealth(dark=health.dark, blocked=health.blocked, shift=health.shift) if health.enabled else None
        )
        self._masks = MaskPainter(camera.scene.masks)
        self._max_gap = MAX_GAP_SECONDS[camera.scene.mode]
        self._feed: Feed | None = None
        self._counter: PeopleCounter | None = None
        self._last_t: float | None = None
        self._opened = 0.0
        self._unseen: IntervalCounter | None = None  # keeps the intervals while no counter can
        self._looking = False
        self._steady_since: float | None = None
        self._overload_at: float | None = None  # when it was last seen to be overloaded
        self.heartbeat = clock.monotonic()
        self.state = CameraState.STARTING
        self.since = clock.time()
        self.reason: str | None = None
        self.failing = False
        self.failures = 0
        self.faults: frozenset[Health] = frozenset()
        self.size: tuple[int, int] | None = None
        self.frames = self.inferred = self.entered = self.left = self.records = 0
        self.present: int | None = None
        self.delay = 0.0
        self.last_record: CountRecord | None = None
        self.events: deque[dict[str, Any]] = deque(maxlen=_EVENTS)
        """Crossings of late: ``utc`` (seconds since 1970), ``line`` and ``direction``. No track, no picture."""

    def step(self) -> None:
        """One look, or one wait of about a second at most.

        Raises:
            Exception: whatever a detector or a codec raises; call :meth:`fail`, then :meth:`rest`, and step again.
        """
        self.heartbeat = now = self._clock.monotonic()
        if not self._schedule.is_open(self._clock.time()):
            if self.state is not CameraState.CLOSED:
                self._hours_end()
            self._clock.wait(self._stop, _WAIT_SECONDS)
            return
        if self.state is CameraState.ENDED:
            self._clock.wait(self._stop, _WAIT_SECONDS)
            return
        feed, counter = self._open()
        pause = self.pace.due(now) - now
        if pause > 0.0:
            self._clock.wait(self._stop, min(pause, _WAIT_SECONDS))
            if pause > _WAIT_SECONDS or not self._schedule.is_open(self._clock.time()):
                return
        item = feed.read(_READ_SECONDS)
        if item is None:
            self._nothing(feed, counter)
        elif self._last_t is None or item.t > self._last_t:
            with in_use(item.frame):
                if not self._schedule.is_open(self._clock.time()):
                    return  # the hours ended while it was waited for: nobody looks at it
                self._looking = True
                self._look(item, counter, feed.rate)
            self._looking = False
            self._went_well()

    def shut(self) -> None:
        """Close the camera, with the interval that has begun recorded. Safe to repeat."""
        feed, self._feed = self._feed, None
        try:
            if feed is not None:
                feed.close()
        finally:
            self._end_counting()

    def fail(self, error: BaseException) -> None:
        """Something broke in this worker: it is said once, until it has been over for a while, and begun anew.

        Where it was the counting that failed, the feed stays open: nothing is wrong with the camera.
        """
        self.failures += 1
        level = logging.DEBUG if self.failing else logging.ERROR
        log.log(level, "%s: %s: %s; beginning anew", self.sensor_id, type(error).__name__, error, exc_info=error)
        self.failing, self._steady_since = True, None
        looking, self._looking = self._looking, False
        try:
            if looking:
                self._end_counting()
            else:
                self.shut()
        except Exception as again:
            log.log(level, "%s: could not be closed cleanly: %s", self.sensor_id, again, exc_info=again)
        self._enter(CameraState.FAILED, f"{type(error).__name__}: {error}")

    def rest(self, seconds: float) -> None:
        """Wait after a failure. Time passes for the records all the same: nobody looked, and they say so.

        The measuring hours hold here, too: a camera that is still open is closed when they end.
        """
        end = self._clock.monotonic() + seconds
        while not self._stop.is_set() and (left := end - self._clock.monotonic()) > 0.0:
            self.heartbeat = self._clock.monotonic()
            if self._feed is not None and not self._schedule.is_open(self._clock.time()):
                self._hours_end()
                return
            self._pass_unseen()
            self._clock.wait(self._stop, min(left, _WAIT_SECONDS))

    def snapshot(self) -> dict[str, Any]:
        """Plain data for the status. No picture, no track."""
        last = self.last_record
        return {
            "sensor_id": self.sensor_id,
            "source": self.camera.name,
            "mode": self.camera.scene.mode,
            "state": self.state.value,
            "since": iso(self.since),
            "reason": self.reason,
            "failures": self.failures,
            "health": sorted(self.health) or [Health.OK.value],
            "size": list(self.size) if self.size else None,
            "rate": round(self.pace.rate(self._clock.monotonic()), 2),
            "reached": None if self.pace.reached is None else round(self.pace.reached, 2),
            "enough": round(self.pace.enough, 2),
            "work_ms": round(self.pace.work * 1e3, 1),
            "delay_ms": round(self.delay * 1e3, 1),
            "frames": self.frames,
            "inferred": self.inferred,
            "entered": self.entered,
            "left": self.left,
            "present": self.present,
            "records": self.records,
            "last_record": last.model_dump(mode="json") if last is not None else None,
        }

    @property
    def health(self) -> frozenset[Health]:
        """Faults at this moment; empty when all is well."""
        faults = set(self.faults)
        if self.pace.overloaded:
            faults.add(Health.OVERLOADED)
        if self.state in (CameraState.AWAY, CameraState.FAILED):
            faults.add(Health.NO_SIGNAL)
        return frozenset(faults)

    # -- inside

    def _open(self) -> tuple[Feed, PeopleCounter]:
        if self._feed is None:
            self.shut()
            self._feed = self._open_feed(self.camera, self._clock)
        if self._counter is None:
            self._counter = self._make_counter(self._take)
            self._opened = self._clock.monotonic()
            if not self.failing:  # one that failed is well when it counts, not when it begins
                self._enter(CameraState.STARTING, None)
        return self._feed, self._counter

    def _hours_end(self) -> None:
        """Close the camera. Where there was nothing to count at the end, the last interval says so, like those before.

        One that the hours end in has no end of its own that anybody would wait for: it is let pass at once.
        """
        now, utc = self._clock.monotonic(), self._clock.time()
        rest = self._desk.seconds - utc % self._desk.seconds
        for ahead in (0.0, rest):
            at = datetime.fromtimestamp(utc + ahead, UTC)
            if self._unseen is not None:
                for record in self._unseen.advance(now + ahead, at):
                    self._take(record)
            elif self._counter is not None and (self.state is CameraState.AWAY or self.faults):
                self._counter.tick(now + ahead, at)
        self._unseen = None
        self.shut()
        self._enter(CameraState.CLOSED, "outside the measuring hours")

    def _nothing(self, feed: Feed, counter: PeopleCounter) -> None:
        """No picture came. Time passes all the same, once the last picture can no longer speak for it."""
        now = self._clock.monotonic()
        if feed.ended:
            reason = feed.failure or "the recording is over"
            self.shut()
            self._enter(CameraState.ENDED, reason)
            return
        quiet = now - (self._last_t if self._last_t is not None else self._opened)
        if quiet > self._max_gap:
            if self.state is not CameraState.AWAY:
                self.pace.pause()
                self.present = None
                self._enter(CameraState.AWAY, feed.failure)
                self._steady_since = None
            self.reason = feed.failure or self.reason
            self._watch_again()
            counter.tick(now, datetime.fromtimestamp(self._clock.time(), UTC))

    def _look(self, item: TimedFrame, counter: PeopleCounter, offered: float | None) -> None:
        frame = self._masks(item.frame)
        utc = item.utc or datetime.fromtimestamp(self._clock.time(), UTC)
        self.size = (frame.shape[1], frame.shape[0])
        self._last_t = item.t
        self.frames += 1
        self._watch_again()
        begin = self._clock.monotonic()
        faults = self._view.update(frame, item.t) if self._view is not None else frozenset()
        self._say(faults)
        if faults:
            # Nothing is counted in a view that shows nothing; the interval is marked, and time passes uncovered.
            self._desk.mark(utc.timestamp(), faults)
            counter.tick(item.t, utc)
            self.present = None
            self.pace.looked(begin, begin, inferred=False, offered=offered)
            return
        busy = frozenset({Health.OVERLOADED}) if self.pace.overloaded else frozenset()
        result = counter.update(frame, item.t, utc, busy)
        end = self._clock.monotonic()
        self.inferred += result.inferred
        self.present = counter.present(result)
        self.delay = end - item.t
        self.pace.looked(begin, end, inferred=result.inferred, offered=offered)
        self._say_overload(begin)
        self._events(result, utc)
        if self._on_result is not None:
            self._on_result(self.sensor_id, result)

    def _end_counting(self) -> None:
        counter, self._counter = self._counter, None
        try:
            if counter is not None:
                counter.close()
        finally:
            if counter is not None and (wipe := getattr(counter.detector, "wipe", None)) is not None:
                wipe()
            if self._view is not None:
                self._view.pause()
            self._last_t = self.present = None
            self.faults = frozenset()
            self.pace.pause()

    def _went_well(self) -> None:
        if self.state is not CameraState.COUNTING:
            self._enter(CameraState.COUNTING, None)
        if self.failing:
            now = self._clock.monotonic()
            self._steady_since = now if self._steady_since is None else self._steady_since
            if now - self._steady_since >= STEADY_SECONDS:
                self.failing = False
                log.info("%s: it counts again", self.sensor_id)

    def _pass_unseen(self) -> None:
        """Let the intervals pass while there is no counter that could."""
        if self._unseen is None:
            self._unseen = IntervalCounter(self.sensor_id, self._desk.seconds)
        utc = datetime.fromtimestamp(self._clock.time(), UTC)
        for record in self._unseen.advance(self._clock.monotonic(), utc):
            self._take(record)

    def _watch_again(self) -> None:
        """From here on the counter keeps the intervals; the one that has begun is its own."""
        if self._unseen is not None:
            self._pass_unseen()
            self._unseen = None

    def _events(self, result: FrameResult, utc: datetime) -> None:
        for crossing in result.crossings:
            at = utc.timestamp() + crossing.t - result.t
            self.events.append({"utc": round(at, 3), "line": crossing.line, "direction": crossing.direction.value})
            if crossing.direction == "entered":
                self.entered += 1
            else:
                self.left += 1

    def _take(self, record: CountRecord) -> None:
        before = self._desk.last
        self._desk.take(record)
        if self._desk.last != before:
            self.records += 1
            self.last_record = record

    def _say(self, faults: frozenset[Health]) -> None:
        """One line when a fault begins and one when it ends."""
        for fault in sorted(faults - self.faults):
            log.warning("%s: the view is faulty: %s; its counts are withheld", self.sensor_id, fault.value)
        for fault in sorted(self.faults - faults):
            log.info("%s: the view is well again: %s is over", self.sensor_id, fault.value)
        self.faults = faults

    def _say_overload(self, now: float) -> None:
        """One line when the board begins to be too slow, and one when it has kept up again for a while."""
        pace = self.pace
        if pace.overloaded:
            if self._overload_at is None:
                log.warning(
                    "%s: overloaded: looked at %.1f times/s, less than %.1f are too few",
                    self.sensor_id,
                    pace.reached or 0.0,
                    pace.enough,
                )
            self._overload_at = now
        elif self._overload_at is not None and now - self._overload_at >= STEADY_SECONDS:
            log.info("%s: it is looked at often enough again", self.sensor_id)
            self._overload_at = None

    def _enter(self, state: CameraState, reason: str | None) -> None:
        if state is not self.state:
            self.state, self.since = state, self._clock.time()
        self.reason = reason
