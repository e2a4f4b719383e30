"""Microsoft Graph. Shapes: Graph documentation, calendar-list-calendarview, place-list and throttling pages."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from tests.timetable_adapters.conformance import AdapterConformance
from tests.timetable_adapters.fake import (
    CANARY,
    CANARY_MAIL,
    ROOMS,
    SECRET,
    WINDOW,
    FakeServer,
    FakeSystem,
    Reply,
    Request,
    running,
    status,
)
from timetable_adapters.base import ProtocolError
from timetable_adapters.graph import GraphAdapter


class Graph(FakeSystem):
    def __init__(self) -> None:
        super().__init__()
        self.logins = 0

    def settings(self) -> dict[str, object]:
        return {
            "tenant": "campus.example",
            "client_id": "app",
            "client_secret": SECRET,
            "base_url": f"{self.url}/v1.0",
            "login_url": self.url,
        }

    def is_login(self, request: Request) -> bool:
        return request.path.endswith("/token")

    def respond(self, request: Request) -> Reply:
        if self.is_login(request):
            if request.form().get("client_secret") != SECRET:
                return Reply.json({"error": "invalid_client"}, 401)
            self.logins += 1
            return Reply.json({"access_token": f"{SECRET}-{self.logins}", "expires_in": 3599})
        if request.headers.get("Authorization") != f"Bearer {SECRET}-{self.logins}":
            return Reply.json({"error": {"code": "InvalidAuthenticationToken", "message": CANARY}}, 401)
        if request.path == "/v1.0/places/microsoft.graph.room":
            return Reply.json(
                {"value": [{"emailAddress": f"{ref}@campus.example", "displayName": name, "capacity": "50"}
                           for ref, name in ROOMS.items()]}
            )  # fmt: skip
        room = request.path.split("/")[3].split("@")[0]
        start, end = (datetime.fromisoformat(request.query[key]) for key in ("startDateTime", "endDateTime"))
        # The real one returns what touches the window, its edges included.
        events = [self._event(e) for e in self.events if e.room == room and e.start <= end and e.end >= start]
        skip = int(request.query.get("$skip", 0))
        page: dict[str, Any] = {"value": events[skip : skip + 1]}
        if skip + 1 < len(events):
            rest = "&".join(
                f"{k}={v.replace('+', '%2B')}" for k, v in {**request.query, "$skip": str(skip + 1)}.items()
            )
            page["@odata.nextLink"] = f"{self.url}{request.path}?{rest}"
        return Reply.json(page)

    def _event(self, event: Any) -> dict[str, Any]:
        person = {"emailAddress": {"name": CANARY, "address": CANARY_MAIL}}
        return {
            "id": event.id,
            # Exchange writes the organiser's name in front of the subject, or instead of it.
            "subject": f"{CANARY} {event.title}" if event.id == "e1" else event.title,
            "start": {"dateTime": event.start.strftime("%Y-%m-%dT%H:%M:%S.0000000"), "timeZone": "UTC"},
            "end": {"dateTime": event.end.strftime("%Y-%m-%dT%H:%M:%S.0000000"), "timeZone": "UTC"},
            "isCancelled": event.cancelled,
            "showAs": "busy",
            "organizer": person,
            "attendees": [person, {"emailAddress": {"name": "Hall", "address": f"{event.room}@campus.example"}}],
            "categories": ["Lecture"],
            "changeKey": "ck1",
        }


class TestGraph(AdapterConformance):
    kind = "microsoft-graph"
    system = Graph

    def test_a_token_that_ran_out_is_renewed_once(self, server: FakeServer) -> None:
        adapter = self.make(server)
        refs = [room.ref for room in adapter.rooms()]
        server.fail(status(401), times=1, after=2)
        assert len(adapter.fetch(refs, *WINDOW)) == 4
        assert server.system.logins == 2  # type: ignore[attr-defined]

    def test_a_next_link_to_another_host_is_refused(self, server: FakeServer) -> None:
        link = {"value": [], "@odata.nextLink": "https://elsewhere.example/v1.0/next"}
        server.fail(lambda *_: Reply.json(link))
        with pytest.raises(ProtocolError, match="another host"):
            self.pull(self.make(server))


def test_free_time_is_no_use_and_capacity_may_be_text() -> None:
    system = Graph()
    original = system._event
    system._event = lambda event: {**original(event), "showAs": "free"}  # type: ignore[method-assign]
    with running(system):
        adapter = GraphAdapter.from_mapping("x", system.settings())
        assert adapter.rooms()[0].capacity == 50
        assert adapter.fetch([], *WINDOW) == []
