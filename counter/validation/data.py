"""A window of validation as a file: what the person and the sensor said, to be evaluated again or elsewhere.

{"sensor_id": "hall-3", "start": 1767600000.0, "end": 1767601800.0, "coverage": 1.0,
 "hand": [{"t": 1767600003.2, "direction": "entered"}], "sensor": [...],
 "hand_present": [{"t": 1767600060.0, "people": 12}], "sensor_present": [...]}

The last two may be left out: nobody counted who was there.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from counter.types import Direction
from counter.validation.presence import Heads
from counter.validation.statistics import Event
from uplink.keyfiles import write_atomic
from uplink.messages import MAX_PEOPLE, MAX_START


class DataError(ValueError):
    """A file that is no window; the text names file, field and reason."""


@dataclass(frozen=True, slots=True)
class Window:
    """What both said: passages, and people present. Moments are seconds since 1970; no picture, no track, no person."""

    sensor_id: str
    start: float
    end: float
    hand: tuple[Event, ...]
    sensor: tuple[Event, ...]
    coverage: float | None = None
    hand_present: tuple[Heads, ...] = ()
    sensor_present: tuple[Heads, ...] = ()


def save_window(window: Window, path: Path) -> None:
    """Write it, readable by its owner alone. Raises OSError."""
    document = {
        "sensor_id": window.sensor_id,
        "start": window.start,
        "end": window.end,
        "coverage": window.coverage,
        "hand": [{"t": event.t, "direction": event.direction.value} for event in window.hand],
        "sensor": [{"t": event.t, "direction": event.direction.value} for event in window.sensor],
        "hand_present": [asdict(heads) for heads in window.hand_present],
        "sensor_present": [asdict(heads) for heads in window.sensor_present],
    }
    write_atomic(path, (json.dumps(document, indent=1) + "\n").encode())


def load_window(path: Path) -> Window:
    """Read it.

    Raises:
        DataError: names file, field and reason.
    """
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON: {error}") from None
    if not isinstance(document, dict):
        raise DataError(f"{path}: expected an object with sensor_id, start, end, hand and sensor")
    start, end = (_seconds(path, name, document.get(name)) for name in ("start", "end"))
    if start >= end:
        raise DataError(f"{path}: end {end} does not lie after start {start}")
    coverage = document.get("coverage")
    if coverage is not None and (not isinstance(coverage, int | float) or not 0 <= coverage <= 1):
        raise DataError(f"{path}: coverage: expected 0 to 1 or null")
    hand, sensor = (_events(path, name, document.get(name)) for name in ("hand", "sensor"))
    hand_present, sensor_present = (
        _heads(path, name, document.get(name, [])) for name in ("hand_present", "sensor_present")
    )
    name = str(document.get("sensor_id", "?"))
    return Window(name, start, end, hand, sensor, coverage, hand_present, sensor_present)


def _events(path: Path, name: str, value: Any) -> tuple[Event, ...]:
    if not isinstance(value, list):
        raise DataError(f"{path}: {name}: expected a list of events")
    events = []
    for number, entry in enumerate(value):
        where = f"{name}[{number}]"
        if not isinstance(entry, dict) or entry.get("direction") not in tuple(Direction):
            raise DataError(f'{path}: {where}: expected {{"t": seconds since 1970, "direction": "entered" or "left"}}')
        events.append(Event(_seconds(path, f"{where}.t", entry.get("t")), Direction(entry["direction"])))
    return tuple(events)


def _heads(path: Path, name: str, value: Any) -> tuple[Heads, ...]:
    if not isinstance(value, list):
        raise DataError(f"{path}: {name}: expected a list of counts")
    counts = []
    for number, entry in enumerate(value):
        where = f"{name}[{number}]"
        people = entry.get("people") if isinstance(entry, dict) else None
        if isinstance(people, bool) or not isinstance(people, int) or not 0 <= people <= MAX_PEOPLE:
            raise DataError(f'{path}: {where}: expected {{"t": seconds since 1970, "people": 0 to {MAX_PEOPLE}}}')
        counts.append(Heads(_seconds(path, f"{where}.t", entry.get("t")), people))
    return tuple(counts)


def _seconds(path: Path, name: str, value: Any) -> float:
    good = isinstance(value, int | float) and not isinstance(value, bool)
    if not good or not 0 <= value <= MAX_START.timestamp():
        raise DataError(f"{path}: {name} = {value!r}: expected seconds since 1970")
    return float(value)
