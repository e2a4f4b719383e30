"""The sensor's side of a window: crossings that the agent remembers, asked for over its socket. Nothing is written."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from counter.agent import state as agent_state
from counter.types import Direction
from counter.validation.presence import Heads
from counter.validation.statistics import Event

Ask = Callable[[Path, str], Any]
_Key = tuple[float, str, str]
_COUNTS_STAND = frozenset({"ok", "overloaded"})
"""Under any other health the view shows nothing that could be counted. A busy board is judged by what it counts."""


class CollectError(Exception):
    """The agent cannot be asked; the text says why and what to do."""


class Collector:
    """Gathers one sensor's crossings, how many it sees, and how much of the time it looked, by asking its agent.

    An agent that is restarted forgets what it remembered: what was gathered before stays gathered.

    Args:
        state: the agent's state folder.
        sensor_id: which of its cameras; None where it has one.
        ask: speaks to the agent.
        clock: the sensor's wall clock, seconds since 1970.

    Raises:
        CollectError: no agent answers, or the camera must be named.
    """

    def __init__(
        self,
        state: Path,
        sensor_id: str | None = None,
        *,
        ask: Ask = agent_state.ask,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._state = state
        self._ask = ask
        self._clock = clock
        self._present: list[Heads] = []
        self._events: Counter[_Key] = Counter()
        self._looks = self._seen = 0
        self.sensor_id = self._choose(sensor_id)

    def look(self, *, counts: bool = True) -> bool:
        """Ask once. Whether the sensor was counting is remembered for the coverage when ``counts``."""
        self._looks += counts
        try:
            status, events = self._answer("status"), self._answer("events")
        except CollectError:
            return False
        found = Counter((float(e["utc"]), str(e["line"]), str(e["direction"])) for e in events.get(self.sensor_id, []))
        self._events |= found  # of each crossing as many as were ever told at once: two may share a moment
        camera: dict[str, Any] = next((c for c in status.get("cameras", []) if c["sensor_id"] == self.sensor_id), {})
        counting = camera.get("state") == "counting" and set(camera.get("health", ["unknown"])) <= _COUNTS_STAND
        self._seen += counts and counting
        if counting and isinstance(camera.get("present"), int):
            self._present.append(Heads(self._clock(), camera["present"]))
        return counting

    def events(self, start: float, end: float) -> list[Event]:
        """Crossings from ``start`` to ``end``, seconds since 1970, in order of time."""
        return sorted(Event(t, Direction(way)) for t, _, way in self._events.elements() if start <= t <= end)

    def present(self, start: float, end: float) -> list[Heads]:
        """Whom it saw when it was asked, from ``start`` to ``end``."""
        return [look for look in self._present if start <= look.t <= end]

    @property
    def coverage(self) -> float | None:
        """The share of the looks at which the sensor was counting in a view without faults."""
        return self._seen / self._looks if self._looks else None

    def _choose(self, sensor_id: str | None) -> str:
        names = [str(camera["sensor_id"]) for camera in self._answer("status").get("cameras", [])]
        listed = ", ".join(names)
        if sensor_id is None:
            if len(names) != 1:
                raise CollectError(f"this agent has several sensors ({listed}): name one with --sensor")
            return names[0]
        if sensor_id not in names:
            raise CollectError(f"this agent has no sensor {sensor_id!r}; it has {listed}")
        return sensor_id

    def _answer(self, what: str) -> dict[str, Any]:
        try:
            answer = self._ask(self._state, what)
        except PermissionError:
            raise CollectError(f"{self._state}: the agent runs as another user; use sudo") from None
        except (OSError, ValueError) as error:
            raise CollectError(f"{self._state}: the agent does not answer: {error}") from None
        if not isinstance(answer, dict):
            raise CollectError(f"{self._state}: no agent runs with this state folder; start it: headroom sensor run")
        return answer
