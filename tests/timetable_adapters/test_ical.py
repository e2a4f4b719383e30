"""iCalendar. Shapes: RFC 5545 and feeds of Google, Outlook and Nextcloud as public issue threads show them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.timetable_adapters.conformance import AdapterConformance
from tests.timetable_adapters.fake import (
    CANARY,
    CANARY_MAIL,
    SECRET,
    FakeServer,
    FakeSystem,
    Reply,
    Request,
    at,
    running,
)
from timetable_adapters.base import Booking, BookingStatus
from timetable_adapters.ical import ICalAdapter


def calendar(*events: str, head: str = "") -> str:
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//test//EN", *head.split("\n"), *events, "END:VCALENDAR", ""]
    return "\r\n".join(line for text in lines for line in text.split("\n") if line or text == "")


def vevent(text: str) -> str:
    return f"BEGIN:VEVENT\nDTSTAMP:20260101T000000Z\n{text}\nEND:VEVENT"


class Feed(FakeSystem):
    pages = False

    def settings(self) -> dict[str, object]:
        return {"feeds": {room: f"{self.url}/private-{SECRET}/{room}/basic.ics" for room in ("101", "102")}}

    def respond(self, request: Request) -> Reply:
        if SECRET not in request.path:
            return Reply(404)
        room = request.path.split("/")[2]
        events = [
            vevent(
                f"UID:{event.id}@feed\nSUMMARY:{event.title if event.id != 'e1' else CANARY}\n"
                f"DTSTART:{event.start:%Y%m%dT%H%M%SZ}\nDTEND:{event.end:%Y%m%dT%H%M%SZ}\n"
                f'ORGANIZER;CN="{CANARY}":mailto:{CANARY_MAIL}\nATTENDEE:mailto:{CANARY_MAIL}\n'
                f"DESCRIPTION:ask {CANARY}\nSTATUS:{'CANCELLED' if event.cancelled else 'CONFIRMED'}"
            )
            for event in self.events
            if event.room == room
        ]
        return Reply.text(calendar(*events), "text/calendar; charset=utf-8")


class TestICal(AdapterConformance):
    kind = "ical"
    system = Feed

    def test_half_a_calendar_does_not_look_like_a_short_one(self, server: FakeServer) -> None:
        def cut(_request: Request, reply: Reply) -> Reply:
            end = reply.body.index(b"END:VEVENT") + len(b"END:VEVENT\r\n")
            return Reply(200, reply.body[:end], reply.headers)

        server.fail(cut)
        with pytest.raises(Exception, match="not a whole calendar"):
            self.pull(self.make(server))


def read(text: str, start: str = "2026-03-01 00:00", end: str = "2026-04-30 00:00", **settings: Any) -> list[Booking]:
    class One(Feed):
        def respond(self, request: Request) -> Reply:
            return Reply.text(text, "text/calendar")

    with running(One()) as server:
        feeds = {settings.pop("feed", "A"): f"{server.system.url}/x.ics"}
        adapter = ICalAdapter.from_mapping("feed", {"feeds": feeds, **settings})
        return sorted(adapter.fetch([], at(start), at(end)), key=lambda booking: (booking.start, booking.room_ref))


def test_a_weekly_series_keeps_its_wall_clock_over_summer_time() -> None:
    text = calendar(
        vevent(
            "UID:a\nSUMMARY:S\nDTSTART;TZID=Europe/Amsterdam:20260323T090000\n"
            "DTEND;TZID=Europe/Amsterdam:20260323T104500\nRRULE:FREQ=WEEKLY;COUNT=3"
        )
    )
    bookings = read(text)
    assert [booking.start for booking in bookings] == [
        at("2026-03-23 08:00"),
        at("2026-03-30 07:00"),
        at("2026-04-06 07:00"),
    ]
    assert len({booking.source_id for booking in bookings}) == 3


def test_an_exdate_in_another_zone_and_a_moved_occurrence() -> None:
    text = calendar(
        vevent(
            "UID:a\nSUMMARY:S\nDTSTART;TZID=Europe/Amsterdam:20260302T090000\nDURATION:PT1H\n"
            "RRULE:FREQ=WEEKLY;COUNT=3\nEXDATE:20260309T080000Z"
        ),
        vevent(
            "UID:a\nSUMMARY:S\nRECURRENCE-ID;TZID=Europe/Amsterdam:20260316T090000\nSEQUENCE:2\n"
            "DTSTART;TZID=Europe/Amsterdam:20260317T140000\nDTEND;TZID=Europe/Amsterdam:20260317T150000"
        ),
    )
    assert [booking.start for booking in read(text)] == [at("2026-03-02 08:00"), at("2026-03-17 13:00")]


def test_cancelled_occurrences_are_marked_and_transparent_ones_dropped() -> None:
    text = calendar(
        vevent("UID:a\nSUMMARY:S\nDTSTART:20260302T080000Z\nDTEND:20260302T090000Z\nSTATUS:CANCELLED"),
        vevent("UID:b\nSUMMARY:S\nDTSTART:20260302T080000Z\nDTEND:20260302T090000Z\nTRANSP:TRANSPARENT"),
        vevent("UID:c\nSUMMARY:S\nDTSTART:20260303T080000Z\nDTEND:20260303T090000Z\nSTATUS:TENTATIVE"),
    )
    assert [booking.status for booking in read(text)] == [BookingStatus.CANCELLED, BookingStatus.TENTATIVE]


def test_whole_days_count_only_when_wanted() -> None:
    text = calendar(vevent("UID:a\nSUMMARY:S\nDTSTART;VALUE=DATE:20260329\nDTEND;VALUE=DATE:20260330"))
    assert read(text) == []
    (booking,) = read(text, all_day_counts=True)
    assert (booking.end - booking.start).total_seconds() == 23 * 3600  # the night of summer time


def test_floating_times_are_local_and_several_rooms_share_a_feed() -> None:
    text = calendar(
        vevent("UID:a\nSUMMARY:S\nLOCATION:A 1; B 2\nDTSTART:20260302T090000\nDTEND:20260302T100000"),
        head="X-WR-TIMEZONE:Europe/London",
    )
    bookings = read(text, feed="*campus", location_separator=";")
    assert [(booking.room_ref, booking.start) for booking in bookings] == [
        ("A 1", at("2026-03-02 09:00")),
        ("B 2", at("2026-03-02 09:00")),
    ]


def test_a_series_without_end_is_read_only_in_the_window() -> None:
    text = calendar(vevent("UID:a\nSUMMARY:S\nDTSTART:20200101T080000Z\nDURATION:PT1H\nRRULE:FREQ=DAILY"))
    assert len(read(text, "2026-03-01 00:00", "2026-03-08 00:00")) == 7
