"""What every adapter must show. A test module inherits ``AdapterConformance`` and names its fake system."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, ClassVar

import pytest

from tests.timetable_adapters.fake import (
    CANARY,
    CANARY_MAIL,
    EVENTS,
    SECRET,
    WINDOW,
    FakeServer,
    FakeSystem,
    Reply,
    hung_up,
    login_page,
    running,
    status,
    truncated,
)
from timetable_adapters.base import (
    Adapter,
    AdapterError,
    Booking,
    BookingStatus,
    ConfigurationError,
    PrivacyPolicy,
    ProtocolError,
    TemporaryError,
)
from timetable_adapters.discovery import load


def leaks(text: str) -> list[str]:
    """Which of the planted names and secrets stand in a text."""
    planted = (SECRET, CANARY, CANARY_MAIL, *CANARY.split())
    return [word for word in planted if word.casefold() in text.casefold()]


class AdapterConformance:
    kind: ClassVar[str]
    system: ClassVar[type[FakeSystem]]

    @pytest.fixture
    def server(self) -> Iterator[FakeServer]:
        with running(self.system()) as server:
            yield server

    @pytest.fixture
    def waits(self) -> list[float]:
        return []

    def make(self, server: FakeServer, waits: list[float] | None = None, **policy: bool) -> Adapter[Any]:
        sleep = (waits if waits is not None else []).append
        adapter = load(self.kind)
        return adapter.from_mapping("campus", server.system.settings(), PrivacyPolicy(**policy), sleep=sleep)

    def pull(self, adapter: Adapter[Any]) -> list[Booking]:
        refs = [room.ref for room in adapter.rooms()]
        return adapter.fetch(refs, *WINDOW)

    def test_check_counts_the_rooms(self, server: FakeServer) -> None:
        assert self.make(server).check().rooms == 2

    def test_all_bookings_of_the_window_and_no_other(self, server: FakeServer) -> None:
        expected = {(event.start, event.end) for event in EVENTS if event.id in server.system.inside}
        assert {
            (b.start, b.end) for b in self.pull(self.make(server)) if b.status is not BookingStatus.MOVED
        } == expected

    def test_every_booking_has_a_key_of_its_own(self, server: FakeServer) -> None:
        bookings = self.pull(self.make(server))
        assert len({booking.source_id for booking in bookings}) == len(bookings) == len(server.system.inside)

    def test_a_second_pull_is_equal(self, server: FakeServer) -> None:
        adapter = self.make(server)
        assert sorted(self.pull(adapter), key=lambda b: b.source_id) == sorted(
            self.pull(self.make(server)), key=lambda b: b.source_id
        )

    def test_one_room_when_one_is_asked_for(self, server: FakeServer) -> None:
        adapter = self.make(server)
        ref = adapter.rooms()[0].ref
        bookings = adapter.fetch([ref], *WINDOW)
        assert bookings and {booking.room_ref for booking in bookings} == {ref}

    def test_cancelled_is_said(self, server: FakeServer) -> None:
        cancelled = [b for b in self.pull(self.make(server)) if b.status is BookingStatus.CANCELLED]
        assert [booking.start for booking in cancelled] == [event.start for event in EVENTS if event.cancelled]

    def test_no_name_passes_unless_allowed(self, server: FakeServer) -> None:
        bookings = self.pull(self.make(server))
        text = "".join(booking.model_dump_json() + repr(booking) for booking in bookings)
        assert leaks(text) == []

    def test_names_pass_when_allowed_and_never_in_a_repr(self, server: FakeServer) -> None:
        if not server.system.has_names:
            pytest.skip("this system names nobody")
        bookings = self.pull(self.make(server, booker_names=True))
        assert any(CANARY in (booking.booked_by or "") for booking in bookings)

    def test_no_titles_when_not_wanted(self, server: FakeServer) -> None:
        assert {booking.title for booking in self.pull(self.make(server, titles=False))} == {""}

    @pytest.mark.parametrize("code", [401, 403])
    def test_a_refused_token_is_configuration(self, server: FakeServer, code: int) -> None:
        server.fail(status(code))
        with pytest.raises(ConfigurationError):
            self.pull(self.make(server))

    def test_a_token_that_runs_out_midway_never_looks_empty(self, server: FakeServer) -> None:
        self.pull(self.make(server))
        needed = sum(not server.system.is_login(request) for request in server.requests)
        server.fail(status(401), after=needed - 1)
        with pytest.raises(ConfigurationError):
            self.pull(self.make(server))

    def test_busy_waits_the_seconds_it_was_told(self, server: FakeServer, waits: list[float]) -> None:
        server.fail(status(429, Retry_After="7"), times=1)
        assert len(self.pull(self.make(server, waits))) == len(server.system.inside)
        assert 7 in waits

    def test_busy_waits_until_the_date_it_was_told(self, server: FakeServer, waits: list[float]) -> None:
        until = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
        server.fail(status(503, Retry_After=until), times=1)
        assert len(self.pull(self.make(server, waits))) == len(server.system.inside)
        assert any(40 < wait <= 61 for wait in waits)

    def test_a_long_ban_ends_the_pull_as_temporary(self, server: FakeServer, waits: list[float]) -> None:
        server.fail(status(429, Retry_After="86400"))
        with pytest.raises(TemporaryError) as caught:
            self.pull(self.make(server, waits))
        assert caught.value.retry_after == 86400
        assert waits == []

    def test_one_server_error_is_got_over(self, server: FakeServer) -> None:
        server.fail(status(502), times=2)
        assert len(self.pull(self.make(server))) == len(server.system.inside)

    def test_lasting_server_errors_are_temporary(self, server: FakeServer) -> None:
        server.fail(status(500))
        with pytest.raises(TemporaryError):
            self.pull(self.make(server))

    @pytest.mark.parametrize("fault", [truncated, hung_up])
    def test_half_an_answer_is_an_error(self, server: FakeServer, fault: Any) -> None:
        server.fail(fault)
        with pytest.raises((ProtocolError, TemporaryError)):
            self.pull(self.make(server))

    def test_half_an_answer_once_is_got_over(self, server: FakeServer) -> None:
        server.fail(hung_up, times=1)
        assert len(self.pull(self.make(server))) == len(server.system.inside)

    def test_a_login_page_with_status_200_is_configuration(self, server: FakeServer) -> None:
        server.fail(login_page)
        with pytest.raises(ConfigurationError, match="web page"):
            self.pull(self.make(server))

    def test_a_redirect_is_not_followed(self, server: FakeServer) -> None:
        server.fail(lambda *_: Reply(302, b"", {"Location": "http://127.0.0.1:9/elsewhere"}))
        with pytest.raises(ConfigurationError):
            self.pull(self.make(server))

    def test_no_part_of_a_pull_that_died_is_returned(self, server: FakeServer) -> None:
        adapter = self.make(server)
        refs = [room.ref for room in adapter.rooms()]
        for after in range(self._requests_of_a_fetch(server, adapter, refs)):
            server.fail(status(500), after=after)
            with pytest.raises(AdapterError):
                adapter.fetch(refs, *WINDOW)

    def _requests_of_a_fetch(self, server: FakeServer, adapter: Adapter[Any], refs: list[str]) -> int:
        before = len(server.requests)
        adapter.fetch(refs, *WINDOW)
        return sum(not server.system.is_login(request) for request in server.requests[before:])

    def test_secrets_and_names_are_in_no_log_and_no_error(
        self, server: FakeServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        texts = []
        self.pull(self.make(server))
        for fault in (status(401), status(403), status(404), status(429), status(500), truncated, hung_up, login_page):
            server.fail(fault)
            adapter = self.make(server)
            with pytest.raises(AdapterError) as caught:
                self.pull(adapter)
            texts += [str(caught.value), repr(caught.value), repr(adapter.settings)]
        assert leaks("".join(texts)) == []
        assert leaks(caplog.text) == []

    def test_settings_errors_name_the_field_and_not_the_value(self, server: FakeServer) -> None:
        values = {**server.system.settings(), "time_zone": SECRET, "unknown_field": SECRET}
        with pytest.raises(ConfigurationError) as caught:
            load(self.kind).from_mapping("campus", values)
        assert "time_zone" in str(caught.value)
        assert "unknown_field" in str(caught.value)
        assert leaks(str(caught.value)) == []
