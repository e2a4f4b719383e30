"""CSV and TSV. Shape: what spreadsheets and scheduling systems export; RFC 4180."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.timetable_adapters.conformance import AdapterConformance
from tests.timetable_adapters.fake import CANARY, SECRET, WINDOW, FakeSystem, Reply, Request, at
from timetable_adapters.base import BookingStatus, ConfigurationError, ProtocolError
from timetable_adapters.tabular import TabularAdapter

ZONE = ZoneInfo("Europe/Amsterdam")


class Table(FakeSystem):
    pages = False

    def settings(self) -> dict[str, object]:
        return {
            "location": f"{self.url}/export.csv",
            "token": SECRET,
            "id": "nr",
            "title": "event",
            "status": "status",
            "booked_by": "who",
            "expected_size": "size",
        }

    def respond(self, request: Request) -> Reply:
        if request.headers.get("Authorization") != f"Bearer {SECRET}":
            return Reply(401)
        out = io.StringIO()
        writer = csv.writer(out, delimiter=";")
        writer.writerow(["nr", "room", "start", "end", "event", "status", "who", "size"])
        for event in self.events:
            local = [moment.astimezone(ZONE).strftime("%Y-%m-%d %H:%M") for moment in (event.start, event.end)]
            word = "Geannuleerd" if event.cancelled else ""
            writer.writerow([event.id, event.room, *local, f"{event.title} by {CANARY}", word, CANARY, event.size])
        return Reply.text("\ufeff" + out.getvalue(), "text/csv; charset=utf-8")


class TestTabular(AdapterConformance):
    kind = "csv"
    system = Table


def write(path: Path, text: str, encoding: str = "utf-8") -> str:
    path.write_bytes(text.encode(encoding))
    return str(path)


def adapter(location: str, **settings: Any) -> TabularAdapter:
    return TabularAdapter.from_mapping("file", {"location": location, **settings})


def test_dates_and_times_in_columns_of_their_own_and_a_night_past_midnight(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "room\tday\tstart\tend\nA\t27-03-2026\t22:00\t01:30\n")
    (booking,) = adapter(path, day="day", date_format="%d-%m-%Y").fetch(
        [], at("2026-03-27 00:00"), at("2026-03-29 00:00")
    )
    assert (booking.start, booking.end) == (at("2026-03-27 21:00"), at("2026-03-28 00:30"))


def test_the_hour_that_summer_time_skips_keeps_its_length(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "room,start,end\nA,2026-03-29 01:00,2026-03-29 04:00\n")
    (booking,) = adapter(path).fetch([], at("2026-03-28 00:00"), at("2026-03-30 00:00"))
    assert (booking.end - booking.start).total_seconds() == 2 * 3600


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("room,start,end\n,2026-03-02 08:00,2026-03-02 09:00\n", "line 2.*'room' is empty"),
        ("room,start,end\nA,2026-03-02 08:00,2026-03-02 09:00\nA,soon,2026-03-02 09:00\n", "line 3.*'start'.*ISO 8601"),
        ("room,start,end\nA,2026-03-02 10:00,2026-03-02 09:00\n", "line 2"),
        ("room,start,end\nA,2026-03-02 08:00,2026-03-02 09:00,extra\n", "line 2: more cells"),
        ("room,start,end\nA,2026-03-02 08:00\n", "line 2: fewer cells"),
    ],
)
def test_a_wrong_row_is_named_and_nothing_is_returned(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        adapter(write(tmp_path / "t.csv", text)).fetch([], *WINDOW)


def test_a_missing_column_and_file_are_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"room: there is no column 'room'; the columns are: zaal, start, end"):
        adapter(write(tmp_path / "t.csv", "zaal;start;end\n")).fetch([], *WINDOW)
    with pytest.raises(ConfigurationError, match=r"no file 'gone\.csv'"):
        adapter(str(tmp_path / "gone.csv")).fetch([], *WINDOW)


def test_windows_encoding_and_unknown_status(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "room,start,end,what\nCafé,2026-03-02 08:00,2026-03-02 09:00,optie\n", "cp1252")
    (booking,) = adapter(path, status="what").fetch([], *WINDOW)
    assert (booking.room_ref, booking.status) == ("Café", BookingStatus.TENTATIVE)
    path = write(tmp_path / "u.csv", "room,start,end,what\nA,2026-03-02 08:00,2026-03-02 09:00,perhaps\n")
    with pytest.raises(ProtocolError, match="unknown status in column 'what'"):
        adapter(path, status="what").fetch([], *WINDOW)


def test_an_empty_table_is_a_legitimate_empty_plan(tmp_path: Path) -> None:
    assert adapter(write(tmp_path / "t.csv", "room,start,end\n")).fetch([], *WINDOW) == []
