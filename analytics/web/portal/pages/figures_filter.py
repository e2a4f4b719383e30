"""Which rooms and days a page is about: read from the address, written back into links, so that views can be shared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from analytics.assemble import Site
from analytics.domain.model import Period, Room
from analytics.web.portal.visit import Visit
from analytics.web.problems import ProblemError

LONGEST = 731
"""Days that one page adds up at most."""
USUAL_WEEKS = 4


@dataclass(frozen=True)
class Filter:
    """A choice of rooms and days; ``end`` is exclusive.

    Attributes:
        buildings, room_class, weekdays, periods: empty = no restriction.
        without: days that the reader leaves out (a strike, an open day).
        problems: what in the address could not be read, as texts for people; the usual choice took its place.
    """

    start: date
    end: date
    buildings: tuple[str, ...] = ()
    room_class: str = ""
    weekdays: tuple[int, ...] = ()
    periods: tuple[str, ...] = ()
    without: tuple[date, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def last(self) -> date:
        """Last day, inclusive: what people read."""
        return self.end - timedelta(days=1)

    @property
    def days(self) -> int:
        return (self.end - self.start).days

    def rooms(self, site: Site, visible: Iterable[str]) -> list[Room]:
        """Rooms of the choice in buildings that the reader may see, by building and number."""
        seen = set(visible) & set(self.buildings or site.buildings)
        found = [
            room
            for room in site.rooms.values()
            if room.building_id in seen
            and (not self.room_class or room.room_class == self.room_class)
            and (room.retired_on is None or room.retired_on > self.start)
        ]
        return sorted(
            found, key=lambda r: (site.buildings[r.building_id].name.casefold(), number_order(r.number), r.id)
        )

    def keeps(self, day: date, periods: Sequence[Period]) -> bool:
        """Whether a day is part of the choice."""
        if not self.start <= day < self.end or day in self.without:
            return False
        if self.weekdays and day.weekday() not in self.weekdays:
            return False
        return not self.periods or any(p.start <= day < p.end for p in periods if p.name in self.periods)

    def query(self, prefix: str = "", **changes: object) -> str:
        """The choice as the query of a link, with changes to it; ``None`` drops a field."""
        pairs: list[tuple[str, str]] = [
            (f"{prefix}from", self.start.isoformat()),
            (f"{prefix}to", self.last.isoformat()),
            *((f"{prefix}building", b) for b in self.buildings),
            *([(f"{prefix}class", self.room_class)] if self.room_class else []),
            *((f"{prefix}weekday", str(d)) for d in self.weekdays),
            *((f"{prefix}period", p) for p in self.periods),
            *([(f"{prefix}without", ",".join(d.isoformat() for d in self.without))] if self.without else []),
        ]
        pairs = [(name, value) for name, value in pairs if name.removeprefix(prefix) not in changes]
        pairs += [(prefix + name, str(value)) for name, value in changes.items() if value is not None]
        return urlencode(pairs)

    def between(self, start: date, end: date) -> Filter:
        """The same rooms over other days."""
        return replace(self, start=start, end=end)


def usual_period(today: date, measured: tuple[date, date] | None) -> tuple[date, date]:
    """The last four whole weeks, Monday to Sunday, ``[start, end)``; of a newcomer what there is, today too.

    Args:
        measured: first and last day with any measurement.
    """
    until = today if measured is None else min(today, measured[1] + timedelta(days=1))
    end = until - timedelta(days=until.weekday())
    if measured is not None and measured[0] >= end:
        first = measured[0] - timedelta(days=measured[0].weekday())
        return first, max(until, measured[0] + timedelta(days=1))
    return end - timedelta(weeks=USUAL_WEEKS), end


def read_filter(params: QueryParams, visit: Visit, site: Site, usual: tuple[date, date], *, prefix: str = "") -> Filter:
    """The choice in an address.

    What is malformed is named and replaced by the usual choice; a building that the reader may not see does not exist.

    Raises:
        ProblemError: 404 for an unknown building.
    """
    t, problems = visit.t, []

    def day(name: str, otherwise: date) -> date:
        text = params.get(prefix + name, "").strip()
        if not text:
            return otherwise
        found = date_in(text)
        if found is None:
            problems.append(t("{text} is no date; write it as 2026-03-31.", text=text[:40]))
        return found or otherwise

    start, last = day("from", usual[0]), day("to", usual[1] - timedelta(days=1))
    if last < start:
        problems.append(t("The period ends before it begins; the usual one is shown."))
        start, last = usual[0], usual[1] - timedelta(days=1)
    if (last - start).days >= LONGEST:
        problems.append(t("A page shows two years at most; the last two are shown."))
        start = last - timedelta(days=LONGEST - 1)
    buildings = tuple(dict.fromkeys(b for b in params.getlist(prefix + "building") if b))
    if set(buildings) - {b.id for b in visit.buildings}:
        raise ProblemError(404, "not-found", t("There is no such page."))
    room_class = params.get(prefix + "class", "")
    if room_class and room_class not in classes_of(site, visit):
        problems.append(t("There is no room class {name}; all are shown.", name=room_class[:40]))
        room_class = ""
    weekdays = tuple(sorted({int(d) for d in params.getlist(prefix + "weekday") if d in {*"0123456"}}))
    known = [p.name for p in site.organisation.periods]
    periods = tuple(dict.fromkeys(p for p in params.getlist(prefix + "period") if p in known))
    without = []
    for text in params.get(prefix + "without", "").replace(";", ",").split(","):
        if text.strip():
            left_out = date_in(text.strip())
            if left_out is None:
                problems.append(t("{text} is no date; write it as 2026-03-31.", text=text.strip()[:40]))
            else:
                without.append(left_out)
    return Filter(
        start, last + timedelta(days=1), buildings, room_class, weekdays if len(weekdays) < 7 else (), periods,
        tuple(sorted(set(without))), tuple(problems),
    )  # fmt: skip


def date_in(text: str) -> date | None:
    """A date as people and forms write it, in the years that a calendar of rooms can hold."""
    try:
        found = date.fromisoformat(text)
    except ValueError:
        return None
    return found if 1980 <= found.year <= 2200 else None


def classes_of(site: Site, visit: Visit) -> list[str]:
    """Room classes in the buildings that the reader may see."""
    seen = {b.id for b in visit.buildings}
    return sorted({r.room_class for r in site.rooms.values() if r.room_class and r.building_id in seen})


def number_order(number: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key of room numbers: ``2.10`` after ``2.9``."""
    parts: list[tuple[int, int, str]] = []
    digits = ""
    for character in f"{number} ":
        if character in "0123456789":
            digits += character
            continue
        if digits:
            parts.append((0, int(digits), ""))
            digits = ""
        parts.append((1, 0, character.casefold()))
    return tuple(parts)
