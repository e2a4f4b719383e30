"""How often a caller may knock: token buckets, a bounded number of them."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable


class RateLimiter:
    """One token bucket a key. Not thread-safe: lives on the event loop."""

    def __init__(
        self, rate: float, burst: int, *, most: int = 50_000, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """`rate` tokens a second up to `burst`; at most `most` keys are remembered, the longest silent go first."""
        self._rate = rate
        self._burst = float(burst)
        self._most = most
        self._monotonic = monotonic
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # key -> (tokens, at)

    def take(self, key: str) -> float:
        """Take one token. Returns 0.0, or the seconds to wait when there is none (then nothing is taken)."""
        tokens, now = self._fill(key)
        if tokens < 1.0:
            self._keep(key, tokens, now)
            return (1.0 - tokens) / self._rate
        self._keep(key, tokens - 1.0, now)
        return 0.0

    def wait(self, key: str) -> float:
        """Seconds until `take` would succeed, without taking."""
        tokens, _ = self._fill(key)
        return 0.0 if tokens >= 1.0 else (1.0 - tokens) / self._rate

    def _fill(self, key: str) -> tuple[float, float]:
        now = self._monotonic()
        tokens, at = self._buckets.get(key, (self._burst, now))
        return min(self._burst, tokens + max(0.0, now - at) * self._rate), now

    def _keep(self, key: str, tokens: float, now: float) -> None:
        self._buckets[key] = (tokens, now)
        self._buckets.move_to_end(key)
        while len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
