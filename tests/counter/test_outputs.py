"""Record files: whole or not at all, unknown is empty, and they read back as they were."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from counter.outputs import COLUMNS, CsvSink, OutputError, Sinks, StagedFile, open_sink
from uplink.messages import CountRecord, Health

SEEN = CountRecord(
    sensor_id="hall", start=datetime(2026, 3, 2, 9, tzinfo=UTC), seconds=60, present=12, present_max=14, entered=3,
    left=1, coverage=0.98765,
)  # fmt: skip
UNSEEN = CountRecord(
    sensor_id="hall", start=datetime(2026, 3, 2, 9, 1, tzinfo=UTC), coverage=0,
    health=frozenset({Health.NO_SIGNAL, Health.DARK}),
)  # fmt: skip


def write(path: Path) -> Path:
    sink = open_sink(path)
    sink.write(SEEN)
    sink.write(UNSEEN)
    assert not path.exists(), "nothing under the real name before the end"
    sink.commit()
    return path


def test_csv_leaves_the_unknown_empty(tmp_path: Path) -> None:
    with write(tmp_path / "c.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert rows[0]["present"] == "12"
    assert rows[0]["coverage"] == "0.9877"
    assert (rows[1]["present"], rows[1]["present_max"], rows[1]["entered"]) == ("", "", "0")
    assert rows[1]["health"] == "dark no_signal"


def test_json_lines_are_the_wire_contract(tmp_path: Path) -> None:
    lines = write(tmp_path / "c.jsonl").read_text().splitlines()
    assert [CountRecord.model_validate(json.loads(line)).start for line in lines] == [SEEN.start, UNSEEN.start]
    assert json.loads(lines[1])["present"] is None


def test_parquet_has_typed_columns(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(write(tmp_path / "c.parquet"))
    assert table.column("present").to_pylist() == [12, None]
    assert table.column("start").to_pylist() == [SEEN.start, UNSEEN.start]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_an_aborted_file_leaves_nothing_and_harms_no_older_one(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"c.{suffix}"
    path.write_text("older")
    sink = open_sink(path)
    sink.write(SEEN)
    sink.abort()
    sink.abort()
    assert path.read_text() == "older"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_when_one_sink_fails_the_others_are_aborted(tmp_path: Path) -> None:
    class Failing:
        def write(self, record: CountRecord) -> None: ...
        def commit(self) -> None:
            raise OutputError("--out", "x", "no")

        def abort(self) -> None: ...

    sinks = Sinks([Failing(), CsvSink(tmp_path / "c.csv")])
    sinks.write(SEEN)
    with pytest.raises(OutputError):
        sinks.commit()
    sinks.abort()
    assert list(tmp_path.iterdir()) == []


def test_unwritable_places_are_found_at_once(tmp_path: Path) -> None:
    for path, reason in (
        (tmp_path / "no" / "c.csv", "no folder"),
        (Path("/dev/null/c.csv"), "cannot be written"),
        (tmp_path, "is a folder"),
    ):
        with pytest.raises(OutputError, match=reason) as caught:
            StagedFile(path)
        assert str(path) in str(caught.value)
    with pytest.raises(OutputError, match=r"\.csv, \.jsonl, \.parquet"):
        open_sink(tmp_path / "c.xls")
