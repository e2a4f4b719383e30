"""Rooms from a file: all of it, or nothing and every fault with its line."""

from __future__ import annotations

from datetime import date

import pytest

from analytics.domain.model import Building, Capacity, Room
from analytics.room_import import ImportPlan, decode, plan_import

TODAY = date(2026, 9, 1)


def plan(text: str, rooms: list[Room] | None = None, buildings: list[Building] | None = None) -> ImportPlan:
    return plan_import(text, "org", buildings or [], rooms or [], TODAY, "Europe/Amsterdam")


def test_new_rooms_and_buildings() -> None:
    found = plan("building;number;name;capacity;class\nÉcole A;1.05;Aula;250;large\nÉcole A;1.06;;;\n")
    assert not found.faults
    assert [b.id for b in found.buildings] == ["ecole-a"]
    assert found.new == ("ecole-a-1-05", "ecole-a-1-06")
    aula, unknown = found.rooms
    assert (aula.name, aula.room_class, aula.capacity_on(date(2000, 1, 1))) == ("Aula", "large", 250)
    assert unknown.capacity_on(TODAY) is None


def test_a_second_import_changes_nothing_and_a_changed_capacity_keeps_the_past() -> None:
    first = plan("building,number,capacity\nA,1,30\n")
    again = plan("building,number,capacity\na,1,30\n", list(first.rooms), list(first.buildings))
    assert (again.new, again.changed, again.same) == ((), (), ("a-1",))
    changed = plan("building,number,capacity\nA,1,40\n", list(first.rooms), list(first.buildings))
    assert changed.changes["a-1"] == ("capacity: 40 from 2026-09-01",)
    assert changed.rooms[0].capacity_on(date(2026, 8, 31)) == 30
    assert changed.rooms[0].capacity_on(TODAY) == 40
    dated = plan(
        "building,number,capacity,capacity_from\nA,1,40,2026-02-01\n", list(first.rooms), list(first.buildings)
    )
    assert dated.rooms[0].capacities[-1] == Capacity(date(2026, 2, 1), 40)


def test_an_absent_column_leaves_what_is_stored() -> None:
    stored = Room("org", "a-1", "a", "1", "Aula", (Capacity(TODAY, 30),), room_class="large", floor="2")
    found = plan("building,number,floor\na,1,3\n", [stored], [Building("org", "a", "A")])
    assert found.rooms[0].name == "Aula"
    assert found.rooms[0].capacities == stored.capacities
    assert found.changes["a-1"] == ("floor: 2 -> 3",)


def test_parts_of_a_combined_room_may_be_further_down() -> None:
    found = plan("building,number,parts\nA,1+2,1|2\nA,1,\nA,2,\n")
    assert found.rooms[0].parts == ("a-1", "a-2")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "line 1, file"),
        ("building,nummer\nA,1\n", "line 1, header 'nummer'"),
        ("building\nA\n", "line 1, header 'number': the column is needed"),
        ("building,number,number\nA,1,1\n", "there twice"),
        ("building,number\nA,\n", "line 2, number '': is empty"),
        ("building,number,capacity\nA,1,many\n", "line 2, capacity 'many'"),
        ("building,number,capacity\nA,1,-3\n", "line 2, capacity '-3'"),
        ("building,number,capacity_from\nA,1,1-9-2026\n", "line 2, capacity_from"),
        ("building,number\nA,1\n\nA,1\n", "line 4, number '1': the same room is on line 2"),
        ("building,number,parts\nA,1,9\n", "line 2, parts '9'"),
        ("building,number,parts\nA,1,1\n", "line 2, parts '1'"),
        ('building,number\nA,"1\n', "close the quotes"),
        ("building,number\nA,1,x,y\n", "quote the text"),
        (f"building,number,name\nA,1,{'x' * 201}\n", "line 2, name"),
    ],
)
def test_every_fault_names_line_column_value_and_what_to_do(text: str, fault: str) -> None:
    found = plan(text)
    assert fault in " / ".join(map(str, found.faults))
    assert not found.rooms


def test_all_faults_are_told_at_once_in_order() -> None:
    found = plan("building,number,capacity\nA,1,x\n,2,3\nA,3,y\n")
    assert [f.line for f in found.faults] == [2, 3, 4]


def test_files_as_spreadsheets_save_them() -> None:
    assert decode(b"\xef\xbb\xbfbuilding") == "building"
    assert decode("building".encode("utf-16")) == "building"
    with pytest.raises(ValueError, match="CSV UTF-8"):
        decode(b"caf\xe9")
