"""MyTimetable. Shapes: the vendor's wiki (API token, timetable types) and its public API client of 2021."""

from __future__ import annotations

from tests.timetable_adapters.conformance import AdapterConformance
from tests.timetable_adapters.fake import CANARY, ROOMS, SECRET, FakeServer, FakeSystem, Reply, Request


class MyTimetable(FakeSystem):
    pages = False
    inside = ("e1", "e2", "e3")  # cancelled events are not shown; the pull makes tombstones of them

    def settings(self) -> dict[str, object]:
        return {"base_url": self.url, "token": SECRET}

    def respond(self, request: Request) -> Reply:
        if request.headers.get("apiToken") != SECRET:
            return Reply(401, b"<html>401</html>", {"Content-Type": "text/html"})
        if request.path == "/api/v0/timetables" and request.query == {"type": "location"}:
            return Reply.json([{"description": name, "value": f"2026!location!{ref}"} for ref, name in ROOMS.items()])
        room = request.query["key"].rpartition("!")[2]
        start, end = (int(request.query[name]) / 1000 for name in ("startDate", "endDate"))
        return Reply.json(
            [
                {
                    "activityDescription": event.title if event.id != "e3" else f"Tutorial {CANARY}",
                    "moduleCode": f"M-{event.id}",
                    "eventType": {"name": "Lecture"},
                    "startDate": int(event.start.timestamp() * 1000),
                    "endDate": int(event.end.timestamp() * 1000),
                    "studentSets": [{"size": 20}, {"size": 20}],
                    "staffMembers": [{"name": CANARY}],
                    "notes": f"Ask {CANARY}",
                    "locations": [{"key": room, "capacity": 60}],
                    "a_field_of_tomorrow": 1,
                }
                for event in self.events
                if event.room == room and event.start.timestamp() <= end and event.end.timestamp() >= start
                and not event.cancelled
            ]
        )  # fmt: skip


class TestMyTimetable(AdapterConformance):
    kind = "mytimetable"
    system = MyTimetable

    def test_cancelled_is_said(self, server: FakeServer) -> None:
        """They vanish instead."""
        assert len(self.pull(self.make(server))) == 3

    def test_sizes_of_student_sets_add_up(self, server: FakeServer) -> None:
        assert {booking.expected_size for booking in self.pull(self.make(server))} == {40}
