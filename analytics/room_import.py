"""Rooms from a CSV file: everything is checked before anything is written.

Columns (any order, ``;`` or ``,``): ``building`` and ``number`` are needed; ``name``, ``capacity``,
``capacity_from`` (a date; default: today for a changed capacity, always for a new room), ``class``, ``floor``, ``id``,
``aliases`` and ``parts`` (several separated by ``|``; parts are ids or numbers in the same building). A building that
is not known yet is made. An absent column leaves what is stored as it is; an empty cell of ``capacity`` is unknown.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

from analytics.domain.model import Building, Capacity, Room

COLUMNS = ("building", "number", "name", "capacity", "capacity_from", "class", "floor", "id", "aliases", "parts")
MAX_ROWS = 100_000
MAX_SEATS = 100_000
_MAX_TEXT = 200
_ALWAYS = date(1970, 1, 1)


@dataclass(frozen=True)
class Fault:
    """Something wrong with a line of the file: what, where, and what to do."""

    line: int
    column: str
    value: str
    message: str

    def __str__(self) -> str:
        return f"line {self.line}, {self.column} {self.value!r}: {self.message}"


@dataclass(frozen=True)
class ImportPlan:
    """What an import would do; nothing is written while there are faults.

    Attributes:
        new, changed, same: room ids; ``changes`` says of each changed room what changes.
    """

    buildings: tuple[Building, ...] = ()
    rooms: tuple[Room, ...] = ()
    new: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    same: tuple[str, ...] = ()
    changes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()


def decode(data: bytes) -> str:
    """Text of a file as spreadsheets save it.

    Raises:
        ValueError: neither UTF-8 nor UTF-16 with a mark.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8; save the file as 'CSV UTF-8'") from None


def plan_import(
    text: str, org_id: str, buildings: Collection[Building], rooms: Collection[Room], today: date, time_zone: str
) -> ImportPlan:
    """Read a file and say what it would change, or everything that is wrong with it."""
    reader = csv.reader(io.StringIO(text.replace("\0", "")), delimiter=_delimiter(text), strict=True)
    try:
        lines = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        return ImportPlan(faults=(Fault(reader.line_num, "line", "", f"{error}; close the quotes"),))
    if not lines:
        return ImportPlan(faults=(Fault(1, "file", "", f"it is empty; begin with a line of {', '.join(COLUMNS)}"),))
    header = [cell.strip().lower() for cell in lines[0][1]]
    faults = _header_faults(header, lines[0][0])
    if len(lines) > MAX_ROWS:
        faults.append(Fault(lines[MAX_ROWS][0], "file", "", f"more than {MAX_ROWS} rooms; split it"))
    if faults:
        return ImportPlan(faults=tuple(faults))
    return _Import(org_id, buildings, rooms, today, time_zone).run(header, lines[1:])


def _delimiter(text: str) -> str:
    first = text.split("\n", 1)[0]
    return max(";,\t", key=first.count)


def _header_faults(header: Sequence[str], line: int) -> list[Fault]:
    faults = [
        Fault(line, "header", name, f"no such column; there are {', '.join(COLUMNS)}")
        for name in header
        if name not in COLUMNS
    ]
    faults += [Fault(line, "header", n, "the column is there twice") for n in set(header) if header.count(n) > 1]
    faults += [Fault(line, "header", n, "the column is needed") for n in ("building", "number") if n not in header]
    return faults


class _Import:
    def __init__(
        self, org_id: str, buildings: Collection[Building], rooms: Collection[Room], today: date, time_zone: str
    ) -> None:
        self._org_id, self._today, self._zone = org_id, today, time_zone
        self._buildings = {b.id: b for b in buildings}
        self._by_name = {_fold(n): b.id for b in buildings for n in (b.name, b.id)}
        self._stored = {r.id: r for r in rooms}
        self._numbers = {(r.building_id, _fold(r.number)): r.id for r in rooms}
        self._made: dict[str, Building] = {}
        self._faults: list[Fault] = []

    def run(self, header: Sequence[str], lines: Sequence[tuple[int, list[str]]]) -> ImportPlan:
        found: dict[str, Room] = {}
        at_line: dict[str, int] = {}
        waiting: list[tuple[int, str, str]] = []  # line, room id, parts as written
        for line, cells in lines:
            if len(cells) > len(header) and any(c.strip() for c in cells[len(header) :]):
                self._wrong(line, "line", cells[-1], f"{len(cells)} cells under {len(header)} columns; quote the text")
                continue
            row = {name: cell.strip() for name, cell in zip(header, cells, strict=False)}
            room = self._room(line, row)
            if room is None:
                continue
            if room.id in found:
                self._wrong(line, "number", row["number"], f"the same room is on line {at_line[room.id]}")
                continue
            found[room.id], at_line[room.id] = room, line
            if "parts" in row:
                waiting.append((line, room.id, row["parts"]))
        for line, room_id, parts in waiting:
            found[room_id] = replace(found[room_id], parts=self._parts(line, found[room_id], parts, found))
        if self._faults:
            return ImportPlan(faults=tuple(sorted(self._faults, key=lambda f: f.line)))
        return self._compare(found)

    def _wrong(self, line: int, column: str, value: str, message: str) -> None:
        self._faults.append(Fault(line, column, value[:80], message))

    def _room(self, line: int, row: Mapping[str, str]) -> Room | None:
        before = len(self._faults)
        for name in ("building", "number"):
            if not row.get(name):
                self._wrong(line, name, "", "is empty")
        for name, value in row.items():
            if len(value) > _MAX_TEXT and name not in ("aliases", "parts"):
                self._wrong(line, name, value, f"is longer than {_MAX_TEXT} characters")
            elif any(unicodedata.category(c) == "Cc" for c in value):
                self._wrong(line, name, value, "holds control characters")
        seats = self._seats(line, row.get("capacity"))
        since = self._date(line, row.get("capacity_from"))
        if len(self._faults) > before:
            return None
        building = self._building(row["building"])
        given = row.get("id", "")
        room_id = given or self._numbers.get((building, _fold(row["number"]))) or f"{building}-{_slug(row['number'])}"
        old = self._stored.get(room_id)
        if old is not None and old.building_id != building:
            self._wrong(line, "id", room_id, f"is a room of building {old.building_id}; choose another id")
            return None
        room = old or Room(self._org_id, room_id, building, row["number"])
        room = replace(room, number=row["number"])
        room = replace(
            room,
            name=row.get("name", room.name),
            room_class=row.get("class", room.room_class),
            floor=row.get("floor", room.floor),
        )
        if "aliases" in row:
            room = replace(room, aliases=_list(row["aliases"]))
        if "capacity" in row:
            room = replace(room, capacities=_capacities(old, seats, since, self._today))
        return room

    def _seats(self, line: int, text: str | None) -> int | None:
        if not text:
            return None
        if not re.fullmatch(r"[0-9]{1,6}", text) or int(text) > MAX_SEATS:
            self._wrong(
                line, "capacity", text, f"is not a whole number from 0 to {MAX_SEATS}; leave it empty if unknown"
            )
            return None
        return int(text)

    def _date(self, line: int, text: str | None) -> date | None:
        if not text:
            return None
        try:
            return date.fromisoformat(text)
        except ValueError:
            self._wrong(line, "capacity_from", text, "is not a date such as 2026-09-01")
            return None

    def _building(self, name: str) -> str:
        known = self._by_name.get(_fold(name))
        if known is None:
            known = _slug(name)
            while known in self._buildings:  # another building whose name differs only in its signs
                known += "-2"
            self._buildings[known] = self._made[known] = Building(self._org_id, known, name, self._zone)
            self._by_name[_fold(name)] = known
        return known

    def _parts(self, line: int, room: Room, text: str, found: Mapping[str, Room]) -> tuple[str, ...]:
        numbers = {(r.building_id, _fold(r.number)): r.id for r in found.values()}
        parts = []
        for name in _list(text):
            place = (room.building_id, _fold(name))
            known = name if name in found or name in self._stored else numbers.get(place) or self._numbers.get(place)
            if known is None or known == room.id:
                self._wrong(line, "parts", name, "is no other room of this building, in the file or stored")
            else:
                parts.append(known)
        return tuple(parts)

    def _compare(self, found: Mapping[str, Room]) -> ImportPlan:
        changes = {
            room.id: _differences(self._stored[room.id], room)
            for room in found.values()
            if room.id in self._stored and self._stored[room.id] != room
        }
        return ImportPlan(
            tuple(self._made.values()),
            tuple(r for r in found.values() if r.id not in self._stored or r.id in changes),
            tuple(r for r in found if r not in self._stored),
            tuple(changes),
            tuple(r for r in found if r in self._stored and r not in changes),
            changes,
        )


def _capacities(old: Room | None, seats: int | None, since: date | None, today: date) -> tuple[Capacity, ...]:
    """The history with a new entry where the capacity changes; the past keeps its own seats."""
    if old is None or not old.capacities:
        return (Capacity(since or _ALWAYS, seats),)
    begins = since or today
    if old.capacity_on(begins) == seats:
        return old.capacities
    kept = [c for c in old.capacities if c.valid_from != begins]
    return tuple(sorted((*kept, Capacity(begins, seats)), key=lambda c: c.valid_from))


def _differences(old: Room, new: Room) -> tuple[str, ...]:
    texts = [
        f"{name}: {getattr(old, name) or '-'} -> {getattr(new, name) or '-'}"
        for name in ("number", "name", "room_class", "floor", "aliases", "parts")
        if getattr(old, name) != getattr(new, name)
    ]
    seats = [
        f"capacity: {'unknown' if capacity.seats is None else capacity.seats} from {capacity.valid_from}"
        for capacity in new.capacities
        if capacity not in old.capacities
    ]
    return (*texts, *seats)


def _list(text: str) -> tuple[str, ...]:
    return tuple(part for part in (p.strip() for p in text.split("|")) if part)


def _fold(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _slug(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-") or "x"
