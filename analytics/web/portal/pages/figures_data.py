"""Day sums of all rooms of an organisation, month by month, and the figures that pages make of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
from fastapi import Request

from analytics.assemble import RulesOf, Site, default_rules
from analytics.domain import metrics
from analytics.domain.matching import Outcome
from analytics.domain.model import Room
from analytics.domain.plan import MatchRules
from analytics.domain.time import Calendar
from analytics.figures import Scope, day_sums, months
from analytics.web.portal.core import PortalStore
from analytics.web.portal.pages.figures_cache import FreshCache
from analytics.web.portal.pages.figures_filter import Filter, usual_period
from analytics.web.portal.visit import Visit, portal_of

Array = npt.NDArray[np.float64]

NAMES = (
    "coverage", "planned_frequency", "frequency", "planned_fill", "fill", "planned_utilisation", "utilisation",
    "expected_known", "unused_booked", "unscheduled", "no_show_rate", "unknown_rate", "hours_lost", "release_hours",
    "booked_hours", "in_use_hours", "open_hours", "measured_hours", "planned_frequency_measured",
)  # fmt: skip
BY_START = (
    "bookings", *(f"bookings_{outcome.word}" for outcome in Outcome), "attendance", "attended_bookings",
)  # fmt: skip
"""Kept by the local hour in which bookings start: from these single bookings can be told."""
MEASURES = tuple(dict.fromkeys((*metrics.needed_measures(NAMES), *metrics.OUTCOMES, "bookings_withdrawn")))
ENOUGH = 0.6
"""Coverage below which a figure is shown with a warning and left out of rankings."""
_FRESH, _KEEP = 30.0, 900.0
_FRESH_PAST, _KEEP_PAST = 300.0, 6 * 3600.0
_ROOMS_AT_ONCE = 200


@dataclass(frozen=True)
class Month:
    """Sums of every room over a month (or the part of it up to today).

    Attributes:
        days: without gaps.
        by_day: measure to shape (rooms, days).
        starts: room, day and hour of every hour in which a booking starts, shape (n, 3).
        at_start: measure of ``BY_START`` at those, shape (n,).
        booked: booked minutes by room, day and hour, shape (rooms, days, 24).
    """

    room_ids: tuple[str, ...]
    days: tuple[date, ...]
    by_day: Mapping[str, Array]
    starts: npt.NDArray[np.int64]
    at_start: Mapping[str, npt.NDArray[np.float32]]
    booked: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Sums:
    """Sums of chosen rooms over chosen days; arrays of shape (rooms, days)."""

    rooms: tuple[Room, ...]
    days: tuple[date, ...]
    measures: Mapping[str, Array]

    def total(self, names: Iterable[str] = NAMES) -> dict[str, float]:
        """Figures over everything."""
        found = metrics.figures({name: values.sum() for name, values in self.measures.items()}, names)
        return {name: float(value) for name, value in found.items()}

    def by_room(self, names: Iterable[str] = NAMES) -> dict[str, Array]:
        """Figures a room, shape (rooms,)."""
        return metrics.figures({name: values.sum(axis=1) for name, values in self.measures.items()}, names)

    def by_day(self, key: Callable[[date], str], names: Iterable[str] = NAMES) -> tuple[list[str], dict[str, Array]]:
        """Figures of groups of days in order of first appearance."""
        labels = list(dict.fromkeys(map(key, self.days)))
        place = {label: i for i, label in enumerate(labels)}
        index = np.array([place[key(day)] for day in self.days], dtype=np.int64)
        sums = {}
        for name, values in self.measures.items():
            sums[name] = np.zeros(len(labels))
            np.add.at(sums[name], index, values.sum(axis=0))
        return labels, metrics.figures(sums, names)

    def where(self, keep: Callable[[Room], bool]) -> Sums:
        """The same days of fewer rooms."""
        mask = np.array([keep(room) for room in self.rooms], dtype=np.bool_)
        kept = tuple(room for room, yes in zip(self.rooms, mask.tolist(), strict=True) if yes)
        return Sums(kept, self.days, {name: values[mask] for name, values in self.measures.items()})

    def weeks(self, choice: Filter) -> float:
        """How many weeks the days are, where only some weekdays count too: for figures a week."""
        return len(self.days) / (len(choice.weekdays) or 7)

    def sum(self, name: str) -> float:
        """One measure over everything."""
        return float(self.measures[name].sum())


@dataclass(frozen=True)
class QuickSite(Site):
    """Master data whose rooms share the calendars that are the same: most have their building's."""

    calendars: dict[object, Calendar] = field(default_factory=dict, compare=False, repr=False)

    def calendar(self, room: Room) -> Calendar:
        key = (room.building_id, room.measuring_hours, room.closures)
        if key not in self.calendars:
            self.calendars[key] = super().calendar(room)
        return self.calendars[key]


class FigureData:
    """What the pages of one request read: the organisation's master data and, cached, its sums."""

    def __init__(
        self,
        store: PortalStore,
        cache: FreshCache,
        visit: Visit,
        clock: Callable[[], datetime],
        rules_of: RulesOf = default_rules,
    ) -> None:
        self.store, self.cache, self.visit, self.clock = store, cache, visit, clock
        self.site = QuickSite.load(store, visit.org_id)
        self.now = clock()
        self.today = self.now.astimezone(visit.zone).date()
        self.visible = tuple(b.id for b in visit.buildings)
        self.rules_of = rules_of
        self.fingerprint = hash((tuple(self.site.rooms.items()), tuple(self.site.buildings.items())))

    @property
    def rooms(self) -> list[Room]:
        """Rooms that the reader may see and that are in use today."""
        return Filter(self.today, self.today + timedelta(days=1)).rooms(self.site, self.visible)

    @property
    def patience(self) -> str:
        """Minutes after which a booking to which nobody came would be released, where the reader may look."""
        minutes = {self.rules_of(building).grace for building in self.visit.buildings} or {MatchRules().grace}
        return "–".join(str(bound) for bound in sorted({min(minutes), max(minutes)}))

    def usual(self) -> tuple[date, date]:
        """The period that a page shows unasked."""
        return usual_period(self.today, self.measured())

    def measured(self) -> tuple[date, date] | None:
        """The first and last day with any measurement in the past year."""

        def find() -> tuple[date, date] | None:
            for back in (42, 365):  # a year only where nothing was measured of late, or only just now
                found = self._measured_since(self.today - timedelta(days=back))
                if found is not None and found[0] < self.today - timedelta(days=14):
                    return found
            return found

        return self.cache.get((self.visit.org_id, "measured", self.today), find, fresh=_FRESH, keep=_KEEP)

    def _measured_since(self, start: date) -> tuple[date, date] | None:
        loaded = self.store.rollups(
            self.visit.org_id, list(self.site.rooms), start, self.today + timedelta(days=1), metrics.DEFINITION,
            ("measured_minutes",),
        )  # fmt: skip
        some = np.flatnonzero(np.nan_to_num(loaded.measures["measured_minutes"]).sum(axis=(0, 2)) > 0)
        return (loaded.days[int(some[0])], loaded.days[int(some[-1])]) if some.size else None

    def months(self, start: date, end: date) -> list[Month]:
        """The months that hold ``[start, end)``; days after today are left out: nothing can have been measured."""
        end = min(end, self.today + timedelta(days=1))
        first = start.replace(day=1)
        found = []
        for begin, last in months(first, max(end, first)):
            until = _next_month(begin) if last < self.today.replace(day=1) else self.today + timedelta(days=1)
            key = (self.visit.org_id, "month", begin, until, self.fingerprint)
            make = _month_maker(self.store, self.visit.org_id, self.site, begin, min(until, _next_month(begin)))
            past = until <= self.today
            fresh, keep = (_FRESH_PAST, _KEEP_PAST) if past else (_FRESH, _KEEP)
            found.append(self.cache.get(key, make, fresh=fresh, keep=keep))
        return found

    def sums(self, choice: Filter, rooms: Sequence[Room] | None = None) -> Sums:
        """Sums of the rooms and days of a choice. A combined room is left out where its parts are there too."""
        chosen = choice.rooms(self.site, self.visible) if rooms is None else list(rooms)
        ids = {room.id for room in chosen}
        return self._sums(choice, [room for room in chosen if not ids.intersection(room.parts)])

    def room_figures(self, choice: Filter, rooms: Sequence[Room], names: Iterable[str]) -> dict[str, Array]:
        """Figures of each room by itself, shape (rooms,)."""
        return self._sums(choice, rooms).by_room(names)

    def _sums(self, choice: Filter, chosen: Sequence[Room]) -> Sums:
        pieces = self.months(choice.start, choice.end)
        days: list[date] = []
        parts: list[dict[str, Array]] = []
        for month in pieces:
            keep = np.array([choice.keeps(day, self.site.organisation.periods) for day in month.days], dtype=np.bool_)
            place = {room_id: i for i, room_id in enumerate(month.room_ids)}
            rows = np.array([place[room.id] for room in chosen], dtype=np.int64)
            days += [day for day, yes in zip(month.days, keep.tolist(), strict=True) if yes]
            parts.append({name: values[rows][:, keep] for name, values in month.by_day.items()})
        measures = {
            name: np.concatenate([part[name] for part in parts], axis=1) if parts else np.zeros((len(chosen), 0))
            for name in MEASURES
        }
        return Sums(tuple(chosen), tuple(days), measures)

    def room_sums(self, choice: Filter, room: Room) -> Sums:
        """Sums of one room, straight from the store: a page of one room needs no other's."""
        end = min(choice.end, self.today + timedelta(days=1))
        if end <= choice.start:
            return Sums((room,), (), {name: np.zeros((1, 0)) for name in MEASURES})
        loaded = day_sums(self.store, Scope(self.visit.org_id, choice.start, end), [room], MEASURES, self.site)
        keep = np.array([choice.keeps(day, self.site.organisation.periods) for day in loaded.days], dtype=np.bool_)
        days = tuple(day for day, yes in zip(loaded.days, keep.tolist(), strict=True) if yes)
        return Sums((room,), days, {name: values[:, keep].sum(axis=2) for name, values in loaded.measures.items()})

    def warm(self) -> None:
        """Have the usual period's and the past year's sums made ready: the next page will ask for them."""

        def make() -> int:
            start, end = self.usual()
            return len(self.months(start, end)) + len(self.months(self.today - timedelta(days=365), self.today))

        self.cache.warm((self.visit.org_id, "warm", self.today), make, fresh=_FRESH_PAST, keep=_KEEP)

    def zone_of(self, room: Room) -> ZoneInfo:
        return ZoneInfo(self.site.buildings[room.building_id].time_zone)


def figure_data(request: Request, visit: Visit) -> FigureData:
    """What a page of the request reads; the cache lives as long as the application."""
    portal = portal_of(request)
    return FigureData(portal.store, cache_of(request), visit, portal.clock, portal.rules_of)


def cache_of(request: Request) -> FreshCache:
    """The application's one cache."""
    found = getattr(request.app.state, "figure_cache", None)
    if found is None:
        found = request.app.state.figure_cache = FreshCache()
    assert isinstance(found, FreshCache)
    return found


def _month_maker(store: PortalStore, org_id: str, site: Site, start: date, end: date) -> Callable[[], Month]:
    def make() -> Month:
        rooms = list(site.rooms.values())
        days = tuple(start + timedelta(days=i) for i in range((end - start).days))
        by_day = {name: np.zeros((len(rooms), len(days))) for name in MEASURES}
        booked = np.zeros((len(rooms), len(days), 24), dtype=np.uint8)
        starts = [np.zeros((0, 3), dtype=np.int64)]
        at_start: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in BY_START}
        for at in range(0, len(rooms), _ROOMS_AT_ONCE):  # memory for some rooms' hours at a time
            some = rooms[at : at + _ROOMS_AT_ONCE]
            loaded = day_sums(store, Scope(org_id, start, end), some, tuple({*MEASURES, *BY_START}), site).measures
            for name in MEASURES:
                by_day[name][at : at + len(some)] = loaded[name].sum(axis=2)
            booked[at : at + len(some)] = np.minimum(loaded["booked_minutes"], 60)
            found = np.argwhere(loaded["bookings"] > 0)
            for name in BY_START:
                at_start[name].append(loaded[name][tuple(found.T)].astype(np.float32))
            starts.append(found + np.array((at, 0, 0)))
        none = np.zeros(0, dtype=np.float32)
        return Month(
            tuple(room.id for room in rooms), days, by_day, np.concatenate(starts),
            {name: np.concatenate(parts) if parts else none for name, parts in at_start.items()}, booked,
        )  # fmt: skip

    return make


def _next_month(day: date) -> date:
    return date(day.year + day.month // 12, day.month % 12 + 1, 1)


def week_of(day: date) -> str:
    """ISO week, ``2026-W41``."""
    year, week, _ = day.isocalendar()
    return f"{year}-W{week:02d}"


def known(value: float) -> float | None:
    """For JSON: NaN is null."""
    return None if np.isnan(value) else float(value)
