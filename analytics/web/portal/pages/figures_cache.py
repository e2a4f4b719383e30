"""Values that are expensive and may be a little old: kept in the process, refreshed behind the reader's back.

The first reader waits, later ones get what is there; what is older than ``fresh`` is computed again by one thread while
readers still get the old value, and nobody gets one older than ``keep``. Keys begin with the organisation.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass
class _Entry:
    value: object
    made: float
    refreshing: bool = False


class FreshCache:
    """At most ``size`` values, the least recently read go first.

    Args:
        clock: seconds that only grow; tests inject one.
        background: False computes again in the reader's own thread (tests, single-threaded tools).
    """

    def __init__(
        self, size: int = 256, clock: Callable[[], float] = time.monotonic, *, background: bool = True
    ) -> None:
        self._size, self._clock, self._background = size, clock, background
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._lock = threading.Lock()
        self._making: dict[Hashable, threading.Lock] = {}
        self._one_at_a_time = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], T], *, fresh: float, keep: float) -> T:
        """The value under ``key``, computed by ``make`` where there is none young enough; seconds."""
        found = self._find(key, fresh, keep, make)
        if found is not None:
            return cast(T, found.value)
        with self._lock:
            making = self._making.setdefault(key, threading.Lock())
        with making:  # one computes, the others wait for it
            found = self._find(key, fresh, keep, make)
            if found is not None:
                return cast(T, found.value)
            try:
                value = make()
                self._put(key, value)
            finally:
                with self._lock:
                    self._making.pop(key, None)
            return value

    def warm(self, key: Hashable, make: Callable[[], Any], *, fresh: float, keep: float) -> None:
        """Have a value made ready that will probably be asked for; waits for nothing."""
        with self._lock:
            entry = self._entries.get(key)
            if not self._background or (entry is not None and self._clock() - entry.made < keep):
                return
        self._start(key, lambda: self.get(key, make, fresh=fresh, keep=keep))

    def soon(
        self, key: Hashable, make: Callable[[], T], *, fresh: float, keep: float, patience: float = 0.2
    ) -> T | None:
        """The value if it is there or made within ``patience`` seconds; else None, and it is being made."""
        if not self._background:
            return self.get(key, make, fresh=fresh, keep=keep)
        found = self._find(key, fresh, keep, make)
        if found is not None:
            return cast(T, found.value)
        with self._lock:
            begun = key in self._making
        if not begun:
            self._start(key, lambda: self.get(key, make, fresh=fresh, keep=keep))
        until = time.monotonic() + patience
        while time.monotonic() < until:
            with self._lock:
                if (entry := self._entries.get(key)) is not None:
                    return cast(T, entry.value)
            time.sleep(0.01)
        return None

    def _find(self, key: Hashable, fresh: float, keep: float, make: Callable[[], object]) -> _Entry | None:
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            age = self._clock() - entry.made
            if age >= (keep if self._background else fresh):
                return None
            self._entries.move_to_end(key)
            if age < fresh or entry.refreshing:
                return entry
            entry.refreshing = True
        self._start(key, lambda: self._put(key, make()))
        return entry

    def _put(self, key: Hashable, value: object) -> None:
        with self._lock:
            self._entries[key] = _Entry(value, self._clock())
            self._entries.move_to_end(key)
            while len(self._entries) > self._size:
                self._entries.popitem(last=False)

    def _start(self, key: Hashable, work: Callable[[], object]) -> None:
        def run() -> None:
            try:
                with self._one_at_a_time:  # refreshing must not crowd out the readers
                    work()
            except Exception:
                # The reader who next finds the value too old computes it and gets the fault itself.
                log.warning("a value for the pages was not refreshed", exc_info=True)
                with self._lock:
                    if (entry := self._entries.get(key)) is not None:
                        entry.refreshing = False

        threading.Thread(target=run, name="portal-figures", daemon=True).start()
