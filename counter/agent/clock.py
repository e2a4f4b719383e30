"""The agent's clock: that of the uplink, and a wait that can be interrupted."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import Protocol

from uplink.clock import Clock, SystemClock


class AgentClock(Clock, Protocol):
    """Everything in the agent that waits or stamps takes one of these."""

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait until ``event`` is set, at most ``seconds`` of this clock. Returns whether it is set."""


class SystemAgentClock(SystemClock):
    """The machine's clocks."""

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return event.wait(max(seconds, 0.0))


class ScaledClock:
    """A clock that runs ``speed`` times as fast, from ``start``; its wall clock can be set. For soaks and tests.

    Args:
        speed: seconds of this clock per real second.
        start: seconds since 1970 of the wall clock at the beginning; default: now.
    """

    def __init__(self, speed: float, start: float | None = None) -> None:
        self.speed = speed
        self._begun = time.monotonic()
        self._wall = time.time() if start is None else start

    def monotonic(self) -> float:
        return self._begun + (time.monotonic() - self._begun) * self.speed

    def time(self) -> float:
        return self._wall + self.monotonic() - self._begun

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward (or back, below 0). The monotonic clock does not notice."""
        self._wall += seconds

    def sleep(self, seconds: float) -> None:
        time.sleep(max(seconds, 0.0) / self.speed)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return event.wait(max(seconds, 0.0) / self.speed)


def utc_of(clock: Clock) -> datetime:
    """The wall clock as a datetime, UTC."""
    return datetime.fromtimestamp(clock.time(), UTC)


def iso(seconds: float) -> str:
    """Seconds since 1970 as text, UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
