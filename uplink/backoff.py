"""When to try again: exponential back-off with full jitter, and what ``Retry-After`` asks for."""

from __future__ import annotations

import math
import random
from datetime import UTC
from email.utils import parsedate_to_datetime

MAX_RETRY_AFTER = 3_600.0


class Backoff:
    """Waits of 0 to ``min(cap, base * 2^n)`` seconds, evenly spread.

    Full jitter: after an outage a thousand sensors do not come back in step. ("Exponential Backoff And Jitter",
    AWS Architecture Blog, 2015.)
    """

    def __init__(self, base: float = 1.0, cap: float = 300.0, rng: random.Random | None = None) -> None:
        self._base = base
        self._cap = cap
        self._rng = rng or random.SystemRandom()
        self.failures = 0

    def after_failure(self, at_least: float = 0.0) -> float:
        """Seconds to wait now. What the service asked for (`at_least`) is kept, and spread a little above."""
        ceiling = min(self._cap, self._base * 2.0 ** min(self.failures, 32))
        self.failures += 1
        return at_least + self._rng.uniform(0.0, ceiling)

    def reset(self) -> None:
        """It worked."""
        self.failures = 0


def retry_after(value: str | None, now: float) -> float:
    """Seconds from a ``Retry-After`` header (RFC 9110, 10.2.3: seconds or a date), 0 to one hour; 0 for nonsense.

    Args:
        now: seconds since 1970 by the service's clock: a date is the service's, not the sensor's.
    """
    if not value:
        return 0.0
    text = value.strip()
    if text.isascii() and text.isdigit():
        seconds = float(text[:9])
    else:
        moment = http_date(text)
        seconds = moment - now if moment is not None else 0.0
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)


def http_date(value: str | None) -> float | None:
    """Seconds since 1970 from an HTTP date; None for anything else."""
    if not value:
        return None
    try:
        moment = parsedate_to_datetime(value)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = moment.timestamp()
    except (ValueError, TypeError, OverflowError, IndexError, AttributeError):
        return None
    return seconds if math.isfinite(seconds) else None
