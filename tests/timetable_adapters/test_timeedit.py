"""TimeEdit. Shapes: the vendor's public pages (getting started, reservations and cancellations find, objects)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from tests.timetable_adapters.conformance import AdapterConformance
from tests.timetable_adapters.fake import CANARY, ROOMS, SECRET, FakeServer, FakeSystem, Reply, Request
from timetable_adapters import timeedit
from timetable_adapters.base import ProtocolError


class TimeEdit(FakeSystem):
    def settings(self) -> dict[str, object]:
        return {"base_url": f"{self.url}/v1", "organization": "campus", "api_key": SECRET}

    def is_login(self, request: Request) -> bool:
        return request.path.endswith("/authenticate")

    def respond(self, request: Request) -> Reply:
        if request.headers.get("X-Region") != "EU_EES":
            return Reply(400)
        if self.is_login(request):
            ok = request.headers.get("Authorization") == f"Api-Key {SECRET}"
            return Reply.json({"token": f"t-{SECRET}"}) if ok else Reply(401)
        if request.headers.get("Authorization") != f"Bearer t-{SECRET}":
            return Reply(401)
        query = request.json()
        if request.path == "/v1/objects/find":
            return self._page([self._room(ref) for ref in ROOMS], query)
        begin, end = (datetime.strptime(query[name] + "+0000", "%Y%m%dT%H%M%SZ%z") for name in ("beginTime", "endTime"))
        cancelled = request.path == "/v1/cancellations/find"
        found = [
            {
                "id": event.id,
                "beginTime": event.start.strftime("%Y%m%dT%H%M%SZ"),
                "endTime": event.end.strftime("%Y%m%dT%H%M%SZ"),
                "status": "C_CONFIRMED",
                "modified": "20260101T000000Z",
                "objects": [
                    self._room(event.room),
                    {"id": "c", "type": "course", "fields": [{"extId": "general.title", "values": [event.title]}]},
                    {"id": "p", "type": "person", "fields": [{"extId": "person.name", "values": [CANARY]}]},
                ],
            }
            for event in self.events
            if event.cancelled == cancelled and event.start <= end and event.end >= begin
            and event.room in query.get("objects", ROOMS)
        ]  # fmt: skip
        return self._page(found, query)

    def _room(self, ref: str) -> dict[str, Any]:
        fields = [{"extId": "room.name", "values": [ROOMS[ref]]}, {"extId": "room.seats", "values": ["60"]}]
        return {"id": ref, "extId": ref, "type": "room", "fields": fields}

    def _page(self, items: list[Any], query: dict[str, Any]) -> Reply:
        begin = query["beginIndex"]
        return Reply.json({"totalResults": len(items), "results": items[begin : begin + query["numberOfResults"]]})


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeedit, "PAGE", 2)


class TestTimeEdit(AdapterConformance):
    kind = "timeedit"
    system = TimeEdit

    def test_results_that_did_not_come_are_missed(self, server: FakeServer) -> None:
        server.fail(lambda *_: Reply.json({"totalResults": 9, "results": []}))
        with pytest.raises(ProtocolError, match="0 of 9"):
            self.pull(self.make(server))
