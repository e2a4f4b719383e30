"""Files that people open in spreadsheets and researchers publish."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics import rollups
from analytics.domain.disclosure import small, total_withheld, withheld
from analytics.exports import (
    Column,
    Export,
    Format,
    Language,
    Row,
    Unit,
    booking_export,
    csv_cell,
    csv_stream,
    json_stream,
    room_export,
    safe_text,
    write_file,
    write_parquet,
)
from analytics.figures import Scope
from analytics.research import ALL, COLUMNS, _moment, data_dictionary, research_export
from analytics.simulate import Campus, populate
from analytics.store.base import Store
from analytics.store.sqlite import SqliteStore

CAMPUS = Campus(rooms=12, weeks=2, seed=6)
SCOPE = Scope("sim-campus", CAMPUS.first, CAMPUS.last + timedelta(days=1))
SAMPLE = (
    Column("name", "text", "A name."), Column("share", "ratio", "A share."), Column("seats", "whole", "Seats."),
    Column("on", "date", "A day."), Column("late", "flag", "Late."),
)  # fmt: skip


@pytest.fixture(scope="module")
def campus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with SqliteStore.open(tmp_path_factory.mktemp("store") / "headroom.db", bytes(32)) as store:
        populate(store, CAMPUS)
        while rollups.refresh(store, "sim-campus").behind:
            pass
        yield store


def sample() -> list[Row]:
    return [
        ("=SUM(A1:A9)", 0.12345, 10, date(2026, 3, 2), True),
        ('Zaal "B"; links, rechts', float("nan"), None, None, False),
        ("-12", -0.5, -3, date(2028, 2, 29), False),
    ]


def test_dutch_csv_as_spreadsheets_want_it() -> None:
    data = b"".join(csv_stream(Export(SAMPLE, sample()), Language.DUTCH))
    assert data == (
        b"\xef\xbb\xbfname;share;seats;on;late\r\n"
        b"'=SUM(A1:A9);0,1235;10;2026-03-02;1\r\n"
        b'"Zaal ""B""; links, rechts";;;;0\r\n'
        b"'-12;-0,5000;-3;2028-02-29;0\r\n"
    )


def test_english_csv_has_commas_and_points() -> None:
    lines = b"".join(csv_stream(Export(SAMPLE, sample()), Language.ENGLISH)).decode("utf-8-sig").split("\r\n")
    assert lines[1] == "'=SUM(A1:A9),0.1235,10,2026-03-02,1"
    assert lines[2].startswith('"Zaal ""B""; links, rechts",,,,0')


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "\0", "＝", " =", "\u00a0@"])
def test_no_text_runs_as_a_formula_and_numbers_stay_numbers(start: str) -> None:
    assert safe_text(f"{start}cmd|'/c calc'!A1").startswith("'")
    assert csv_cell(-1.5, "hours", comma=False) == "-1.50"


@given(
    st.lists(st.tuples(st.text(max_size=20), st.floats(), st.integers(-9, 9)), max_size=8), st.sampled_from(Language)
)
def test_any_text_survives_the_way_through_csv(rows: list[tuple[str, float, int]], language: Language) -> None:
    columns = (SAMPLE[0], SAMPLE[1], SAMPLE[2])
    text = b"".join(csv_stream(Export(columns, rows), language)).decode("utf-8-sig", "surrogatepass")
    delimiter = ";" if language is Language.DUTCH else ","
    read = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))[1:]
    assert len(read) == len(rows)
    for found, (name, share, seats) in zip(read, rows, strict=True):
        assert found[0] == safe_text(name)
        assert not found[0].startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
        assert (found[1] == "") == (not np.isfinite(share))
        assert found[2] == str(seats)


def test_json_has_null_for_no_data_and_says_what_columns_mean() -> None:
    document = json.loads(b"".join(json_stream(Export(SAMPLE, sample()))))
    assert document["rows"][1]["share"] is None
    assert document["columns"][1] == {"name": "share", "unit": "ratio", "meaning": "A share."}
    assert json.loads(b"".join(json_stream(Export(SAMPLE, []))))["rows"] == []


def test_parquet_keeps_types_and_meaning(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    assert write_parquet(Export(SAMPLE, sample()), tmp_path / "x.parquet") == 3
    table = parquet.read_table(tmp_path / "x.parquet")
    assert table["share"].to_pylist() == [0.12345, None, -0.5]
    assert table["on"].to_pylist()[0] == date(2026, 3, 2)
    assert table["name"].to_pylist()[0] == "=SUM(A1:A9)"  # no spreadsheet, no apostrophe
    assert table.schema.field("share").metadata[b"meaning"] == b"A share."
    assert table.schema.metadata[b"definition"] == b"figures-1"


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("before")

    def broken() -> Iterator[Row]:
        yield sample()[0]
        raise RuntimeError("the store is gone")

    for kind in Format:
        with pytest.raises(RuntimeError):
            write_file(Export(SAMPLE, broken()), path, kind, Language.DUTCH)
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["x.csv"]


@pytest.mark.parametrize(("unit", "rows"), [(Unit.HOUR, 12 * 150), (Unit.DAY, 120), (Unit.WEEK, 24), (Unit.MONTH, 12)])
def test_a_row_for_each_room_and_unit_of_time_with_coverage_and_definition(
    campus: Store, unit: Unit, rows: int
) -> None:
    export = room_export(campus, SCOPE, unit, ("frequency", "booked_hours"))
    found = [dict(zip([c.name for c in export.columns], row, strict=True)) for row in export.rows]
    assert len(found) == rows
    assert {row["definition"] for row in found} == {"figures-1"}
    assert all(0 <= row["coverage"] <= 1 for row in found)  # type: ignore[operator]
    booked = sum(row["booked_hours"] for row in found)  # type: ignore[misc]
    assert booked == pytest.approx(sum(r[-2] for r in room_export(campus, SCOPE, Unit.MONTH, ("booked_hours",)).rows))  # type: ignore[misc]


def test_a_row_for_each_booking_and_what_may_be_withheld(campus: Store) -> None:
    export = booking_export(campus, SCOPE)
    names = [c.name for c in export.columns]
    rows = [dict(zip(names, row, strict=True)) for row in export.rows]
    assert len(rows) > 100
    assert all(str(row["title"]).startswith("Simulated") for row in rows)
    assert isinstance(rows[0]["start"], datetime)
    assert rows[0]["start"].tzinfo == ZoneInfo("Europe/Amsterdam")
    careful = booking_export(campus, SCOPE, titles=False, withhold_below=5)
    kept = [dict(zip(names, row, strict=True)) for row in careful.rows]
    assert {row["title"] for row in kept} == {""}
    assert any(row["attendance_withheld"] for row in kept)
    for full, row in zip(rows, kept, strict=True):
        if 0 < full["attendance"] < 5:  # type: ignore[operator]
            assert np.isnan(row["attendance"])  # type: ignore[arg-type]
            assert np.isnan(row["fill"])  # type: ignore[arg-type]


def test_wrong_names_fail_before_the_first_byte(campus: Store) -> None:
    with pytest.raises(KeyError):
        room_export(campus, SCOPE, Unit.DAY, ("occupation",))
    with pytest.raises(KeyError):
        booking_export(campus, Scope("sim-campus", SCOPE.start, SCOPE.end, rooms=("nope",)))


# --- research ------------------------------------------------------------------------------------------------------


def test_a_research_file_holds_no_rooms_names_or_titles(campus: Store) -> None:
    data = b"".join(csv_stream(research_export(campus, SCOPE), Language.ENGLISH)).decode()
    for room in campus.rooms("sim-campus"):
        assert room.id not in data
        assert room.name not in data
    assert "Simulated" not in data
    assert "statistics" not in data.lower()


def test_groups_below_k_are_withheld_and_no_total_gives_one_away(campus: Store) -> None:
    names = [c.name for c in COLUMNS]
    rows = [dict(zip(names, row, strict=True)) for row in research_export(campus, SCOPE, k=5).rows]
    moments: dict[tuple[object, ...], list[dict[str, object]]] = {}
    for row in rows:
        moments.setdefault((row["iso_week"], row["weekday"], row["hour"]), []).append(row)
        if row["withheld"]:
            assert all(row[name] is None for name in names[4:-1] if name not in ("withheld",))
        else:
            assert row["rooms"] >= 5  # type: ignore[operator]
    assert any(not row["withheld"] for row in rows)
    for group in moments.values():
        total = [row for row in group if row["room_class"] == ALL]
        hidden = [row for row in group if row["room_class"] != ALL and row["withheld"]]
        if total and not total[0]["withheld"]:
            assert len(hidden) != 1


@given(st.lists(st.integers(0, 12), min_size=2, max_size=6), st.integers(3, 6), st.integers(0, 2**32 - 1))
def test_what_is_withheld_cannot_be_had_by_subtraction(rooms: list[int], k: int, seed: int) -> None:
    from analytics.domain.metrics import MEASURES

    rng = np.random.default_rng(seed)
    cells = {str(i): {m: float(rng.integers(0, 900)) for m in MEASURES} for i, n in enumerate(rooms) if n}
    if len(cells) < 2:
        return
    counts = {name: float(rooms[int(name)]) for name in cells}
    found = {row[0]: row for row in _moment(("2026-W10", 1, 9), cells, counts, k)}
    hidden = [name for name in cells if found[name][5]]
    for name, count in counts.items():
        if count < k or 0 < cells[name]["person_minutes"] / 60 < k:
            assert name in hidden
    if not found[ALL][5]:
        assert len(hidden) != 1


def test_small_counts() -> None:
    assert small([0, 1, 4, 5, float("nan")]).tolist() == [False, True, True, False, False]
    assert withheld([3, 50, 9], [True, False, False]).tolist() == [True, False, True]
    assert withheld([3, 4, 9], [True, True, False]).tolist() == [True, True, False]
    alone = withheld([3, 0, 0], [True, False, False])
    assert total_withheld([3, 0, 0], alone)
    with pytest.raises(ValueError, match="protect nobody"):
        research_export(None, SCOPE, k=2)  # type: ignore[arg-type]


def test_the_data_dictionary_names_every_column() -> None:
    dictionary = data_dictionary()
    assert [c["name"] for c in dictionary["columns"]] == [c.name for c in COLUMNS]  # type: ignore[attr-defined]
    assert all(c["meaning"] for c in dictionary["columns"])  # type: ignore[attr-defined]
