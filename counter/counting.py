"""From frames to count records: intervals of UTC, time-weighted presence, coverage, clock jumps.

Each frame speaks for the time until the next one, unless that is longer than ``max_gap``: then nobody looked, and the
time is not covered. Durations come from the monotonic clock, labels from the wall clock.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from uplink.messages import CountRecord, Health

log = logging.getLogger(__name__)

STEP_BACK_SECONDS = 600.0
"""A clock set back by up to this is waited for; by more it was wrong before, and a new line of time begins."""


@dataclass(slots=True)
class _Interval:
    start: float  # UTC seconds
    held: dict[int, float] = field(default_factory=dict)  # presence -> seconds
    entered: int = 0
    left: int = 0
    health: set[Health] = field(default_factory=set)


@dataclass(slots=True)
class IntervalCounter:
    """Gathers frames into one :class:`CountRecord` per interval.

    Attributes:
        sensor_id: of the records.
        seconds: length of an interval; records begin on its multiples, in UTC.
        max_gap: longest time for which a frame speaks.
        peak_seconds: how long a number of people must have been there to count as the maximum.
    """

    sensor_id: str
    seconds: int = 60
    max_gap: float = 2.0
    peak_seconds: float = 1.0
    _open: _Interval | None = field(init=False, default=None)
    _t: float | None = field(init=False, default=None)
    _utc: float = field(init=False, default=-math.inf)
    _step: float = field(init=False, default=0.0)
    _present: int | None = field(init=False, default=None)
    _reported: float = field(init=False, default=-math.inf)  # start of the last interval that was closed
    _carried: list[int] = field(init=False, default_factory=lambda: [0, 0])
    _stepped_back: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        if not 1 <= self.seconds <= 3600:
            raise ValueError(f"seconds: expected 1 to 3600, got {self.seconds}")

    def add(
        self,
        t: float,
        utc: datetime,
        present: int | None,
        entered: int = 0,
        left: int = 0,
        health: Iterable[Health] = (),
    ) -> list[CountRecord]:
        """Take one frame.

        Args:
            t: monotonic seconds.
            utc: wall clock of the frame, with its zone.
            present: people there from now on; None where the view could not be judged.
            entered: crossings inwards since the last frame.
            left: crossings outwards since the last frame.
            health: faults of the view at this moment; none is ok.

        Returns:
            The records of the intervals that this frame completes, oldest first.
        """
        records = self.advance(t, utc, looked=True)
        if self._open is None:
            self._carried[0] += entered
            self._carried[1] += left
        else:
            self._open.entered += entered
            self._open.left += left
            self._open.health.update(h for h in health if h is not Health.OK)
        self._present = present
        return records

    def advance(self, t: float, utc: datetime, *, looked: bool = False) -> list[CountRecord]:
        """Let time pass up to ``t``. Without a frame (``looked`` false) the time is not covered: a camera is away.

        Intervals in which nobody looked become records with coverage 0 and ``no_signal``.
        """
        if utc.tzinfo is None:
            raise ValueError(f"utc {utc.isoformat()} has no time zone")
        now = utc.timestamp()
        passed = 0.0 if self._t is None else max(t - self._t, 0.0)
        covered = passed if looked and passed <= self.max_gap + 1e-6 else 0.0
        jumped = self._t is not None and abs((now - self._utc) - passed) > max(1.0, 0.01 * passed)
        records: list[CountRecord] = []
        if jumped:
            # The time before the jump belongs to the old clock.
            records += self._pass(self._utc, self._utc + covered, covered)
            records += self._jump(now)
        else:
            records += self._pass(self._utc if self._t is not None else now, now, covered, looked=looked)
        if covered:
            self._step = covered
        if looked or self._t is None:
            self._t, self._utc = t, now
        else:
            self._t, self._utc, self._present = t, now, None
        return records

    def close(self) -> list[CountRecord]:
        """The record of the interval that has begun, with the last frame speaking for as long as the one before."""
        records: list[CountRecord] = []
        if self._t is not None and self._present is not None and self._step:
            records += self._pass(self._utc, self._utc + self._step, self._step)
        if self._open is not None and (self._open.entered or self._open.left or sum(self._open.held.values()) > 1e-6):
            records.append(self._finish(self._open))
        self._open = self._t = self._present = None
        return records

    def _pass(self, begin: float, end: float, covered: float, *, looked: bool = True) -> list[CountRecord]:
        """Spread ``covered`` seconds of the present number over the intervals between two wall times."""
        records: list[CountRecord] = []
        scale = covered / (end - begin) if end > begin else 0.0
        at = begin
        while True:
            self._enter(at)
            start = self._start_of(at)
            until = min(start + self.seconds, end)
            if self._open is not None and self._open.start == start and self._present is not None and scale:
                held = self._open.held
                held[self._present] = held.get(self._present, 0.0) + (until - at) * scale
            if until >= end and self._start_of(end) == start:
                return records
            if self._open is not None and self._open.start == start:
                records.append(self._finish(self._open))
                self._open = None
            if not scale and looked and end - until > self.seconds:
                until = self._start_of(end)  # a gap: intervals in it were not watched and say nothing
            at = until

    def _enter(self, at: float) -> None:
        start = self._start_of(at)
        if self._open is None and start > self._reported:
            self._open = _Interval(start, entered=self._carried[0], left=self._carried[1])
            self._carried = [0, 0]
            self._stepped_back = False

    def _jump(self, now: float) -> list[CountRecord]:
        """The wall clock was set. Nothing is reported twice and no crossing is lost."""
        start = self._start_of(now)
        if self._open is not None and self._open.start == start:
            return []
        records = []
        if self._open is not None:
            records.append(self._finish(self._open))
            self._open = None
        if start <= self._reported:
            if self._reported - start > STEP_BACK_SECONDS:
                log.warning("the clock went back by %.0f s: a new line of time begins", self._reported - start)
                self._reported = -math.inf
            elif not self._stepped_back:
                log.warning("the clock went back: crossings wait until it has caught up")
                self._stepped_back = True
        self._enter(now)
        return records

    def _start_of(self, at: float) -> float:
        # The small step keeps 59.9999999 from being the minute before.
        return math.floor((at + 1e-6) / self.seconds) * float(self.seconds)

    def _finish(self, interval: _Interval) -> CountRecord:
        self._reported = max(self._reported, interval.start)
        covered = sum(interval.held.values())
        coverage = min(covered / self.seconds, 1.0)
        coverage = 1.0 if coverage > 1.0 - 1e-4 else round(coverage, 4)
        watched = coverage > 0  # as it is reported: a glance of microseconds that rounds to nothing saw nothing
        health = set(interval.health)
        if not watched and not health:
            health = {Health.NO_SIGNAL}
        present, peak = (
            (weighted_median(interval.held), robust_maximum(interval.held, self.peak_seconds))
            if watched
            else (None, None)
        )
        return CountRecord(
            sensor_id=self.sensor_id,
            start=datetime.fromtimestamp(interval.start, UTC),
            seconds=self.seconds,
            present=present,
            present_max=peak,
            entered=interval.entered,
            left=interval.left,
            coverage=coverage,
            health=frozenset(health or {Health.OK}),
        )


def weighted_median(held: Mapping[int, float]) -> int:
    """The number of people that was there for the middle of the time; of two middles the lower.

    Args:
        held: seconds per number of people, not empty.
    """
    half = sum(held.values()) / 2
    passed = 0.0
    for value in sorted(held):
        passed += held[value]
        if passed >= half - 1e-9:
            return value
    return max(held)


def robust_maximum(held: Mapping[int, float], least: float) -> int:
    """The largest number of people that was there, or was exceeded, for ``least`` seconds in all.

    In a record that covers less than twice that, half of the covered time is enough: it is never below the median.
    """
    enough = min(least, sum(held.values()) / 2)
    passed = 0.0
    for value in sorted(held, reverse=True):
        passed += held[value]
        if passed >= enough - 1e-9:
            return value
    return min(held)
