"""What a person has tapped: kept by id, so that a phone may send the same taps as often as its connection asks for.

A tap is a passage (``entered``, ``left``), or a count of who is there (``present``, with the number of ``people``).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from counter.types import Direction
from counter.validation.presence import Heads
from counter.validation.statistics import Event
from uplink.messages import MAX_PEOPLE

PRESENT = "present"
MAX_TAPS = 50_000
_LATEST = 1e11  # seconds since 1970; what is no number at all compares as false
_ID = re.compile(r"[A-Za-z0-9-]{1,40}")


class TallyError(ValueError):
    """Taps that cannot be taken; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Tap:
    """One touch of a button: the moment by the sensor's clock, and whether it was taken back.

    Attributes:
        direction: of a passage; None where people were counted.
        people: who was there; None of a passage.
    """

    t: float
    direction: Direction | None
    people: int | None
    undone: bool


class Tally:
    """All taps of a window. Threads may share it."""

    def __init__(self) -> None:
        self._taps: dict[str, Tap] = {}
        self._mutex = threading.Lock()

    def merge(self, data: Any) -> int:
        """Take the phone's whole list; gives the number of taps known. What was undone stays undone.

        Args:
            data: ``[{"id": "a1", "t": 1767600003.2, "direction": "entered", "undone": false}, ...]``; with
                ``"direction": "present"`` also ``"people": 12``.

        Raises:
            TallyError: the list is no such list; nothing of it is taken.
        """
        if not isinstance(data, list) or len(data) > MAX_TAPS:
            raise TallyError(f"taps: expected a list of at most {MAX_TAPS}")
        taps = dict(_tap(number, entry) for number, entry in enumerate(data))
        with self._mutex:
            if len(self._taps.keys() | taps.keys()) > MAX_TAPS:
                raise TallyError(f"taps: more than {MAX_TAPS}")
            for name, tap in taps.items():
                known = self._taps.get(name)
                # The first moment holds: the phone's idea of the sensor's clock may get worse when it is far away.
                self._taps[name] = tap if known is None else replace(known, undone=known.undone or tap.undone)
            return len(self._taps)

    def events(self) -> list[Event]:
        """The passages that hold, in order of time."""
        with self._mutex:
            return sorted(
                Event(tap.t, tap.direction)
                for tap in self._taps.values()
                if not tap.undone and tap.direction is not None
            )

    def heads(self) -> list[Heads]:
        """The counts of who is there that hold, in order of time."""
        with self._mutex:
            return sorted(
                Heads(tap.t, tap.people) for tap in self._taps.values() if not tap.undone and tap.people is not None
            )


def _tap(number: int, entry: Any) -> tuple[str, Tap]:
    if not isinstance(entry, Mapping):
        raise TallyError(f"taps[{number}]: expected an object")
    name, t, direction, undone = (entry.get(key) for key in ("id", "t", "direction", "undone"))
    if not isinstance(name, str) or not _ID.fullmatch(name):
        raise TallyError(f"taps[{number}].id: expected letters, digits and dashes")
    if isinstance(t, bool) or not isinstance(t, int | float) or not 0 <= t < _LATEST:
        raise TallyError(f"taps[{number}].t: expected seconds since 1970")
    if direction != PRESENT and direction not in tuple(Direction):
        raise TallyError(f"taps[{number}].direction: expected entered, left or present")
    if not isinstance(undone, bool):
        raise TallyError(f"taps[{number}].undone: expected true or false")
    if direction != PRESENT:
        return name, Tap(float(t), Direction(direction), None, undone)
    people = entry.get("people")
    if isinstance(people, bool) or not isinstance(people, int) or not 0 <= people <= MAX_PEOPLE:
        raise TallyError(f"taps[{number}].people: expected 0 to {MAX_PEOPLE}")
    return name, Tap(float(t), None, people, undone)
