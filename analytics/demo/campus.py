"""A simulated term that ends this week, in a store, and the part of today that has not happened yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from analytics import rollups
from analytics.domain.model import (
    Building,
    Capacity,
    MeasuringHours,
    PlannedBooking,
    Room,
    SlotArray,
    Span,
    Watch,
    WatchKind,
)
from analytics.simulate import Campus, populate
from analytics.store.base import Store

ORGANISATION = "simulated-campus"
"""Every page of an organisation whose id begins with ``simulated`` says so."""
BUILDING = "footage"
ROOM = "footage-entrance"
SENSOR = "demo-entrance"
_ROUND_THE_CLOCK = MeasuringHours(((Span(0, 1440),),) * 7)


@dataclass
class SimulatedTerm:
    """What was written, and what comes later today.

    Attributes:
        campus: what was simulated.
        later: slots that lie in the future, by sensor; `due` hands them out as time goes by.
    """

    campus: Campus
    later: dict[str, SlotArray] = field(default_factory=dict)

    def due(self, now: datetime) -> dict[str, SlotArray]:
        """Slots that ended by now, each once."""
        found = {}
        for sensor, slots in self.later.items():
            past = _ended(slots, now)
            if past.any():
                found[sensor] = slots[past]
                self.later[sensor] = slots[~past]
        return found


class _UntilNow:
    """A store that takes the counts of the past and puts those of the future aside."""

    def __init__(self, store: Store, term: SimulatedTerm, now: datetime, on_room: Callable[[], None]) -> None:
        self._store = store
        self._term = term
        self._now = now
        self._on_room = on_room

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def ingest_slots(
        self, org_id: str, slots: Mapping[str, SlotArray], received_at: datetime
    ) -> dict[str, npt.NDArray[np.uint8]]:
        past = {sensor: _ended(each, self._now) for sensor, each in slots.items()}
        self._term.later.update({sensor: each[~past[sensor]] for sensor, each in slots.items()})
        self._on_room()
        return self._store.ingest_slots(org_id, {s: each[past[s]] for s, each in slots.items()}, self._now)


def _ended(slots: SlotArray, now: datetime) -> npt.NDArray[np.bool_]:
    ends = slots["start"].astype(np.int64) + slots["seconds"].astype(np.int64)
    return ends <= int(now.timestamp())


def build(
    store: Store, now: datetime, rooms: int, weeks: int, on_room: Callable[[], None] = lambda: None
) -> SimulatedTerm:
    """Fill an empty store: a campus whose last simulated week is this one, roll-ups included.

    Args:
        now: counts up to here are stored.
        on_room: called after each room, for a progress bar.
    """
    zone = Campus().zone
    today = now.astimezone(zone).date()
    campus = Campus(rooms, weeks, first=today - timedelta(days=today.weekday(), weeks=weeks - 1))
    term = SimulatedTerm(campus)
    populate(cast(Store, _UntilNow(store, term, now, on_room)), campus, ORGANISATION)
    _add_footage_room(store, campus, now)
    while rollups.refresh(store, ORGANISATION).behind:
        pass
    return term


def _add_footage_room(store: Store, campus: Campus, now: datetime) -> None:
    """The one room of this campus that is really counted, with a booking around now."""
    zone = campus.zone.key
    store.put_buildings(ORGANISATION, [Building(ORGANISATION, BUILDING, "Real footage", zone, _ROUND_THE_CLOCK)])
    room = Room(ORGANISATION, ROOM, BUILDING, "0.01", "Entrance", (Capacity(campus.first, 8),), room_class="small")
    store.put_rooms(ORGANISATION, [room])
    begin = now.replace(minute=0, second=0, microsecond=0)
    booking = PlannedBooking(
        source="demo", source_id="footage-1", start=begin, end=begin + timedelta(hours=2), room_id=ROOM, room_ref=ROOM,
        title="Recorded walk-through", expected_size=2,
    )  # fmt: skip
    window = (begin - timedelta(days=1), begin + timedelta(days=1))
    store.replace_bookings(ORGANISATION, "demo", window, [booking], now - timedelta(days=7))


def watch() -> Watch:
    """What the demo's sensor looks at: everybody in view."""
    return Watch(ROOM, WatchKind.ROOM)
