"""Time as the uplink sees it: a wall clock that may jump, and a monotonic one that may not.

Everything that waits or stamps takes a `Clock`, so that tests turn the hands themselves.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks and a way to wait."""

    def time(self) -> float:
        """Seconds since 1970-01-01 UTC. May jump back and forward."""

    def monotonic(self) -> float:
        """Seconds since some moment. Never goes back."""

    def sleep(self, seconds: float) -> None:
        """Wait."""


class SystemClock:
    """The machine's clocks."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
