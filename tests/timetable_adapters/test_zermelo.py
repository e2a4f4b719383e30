"""Zermelo. Shapes: the vendor's public page on appointments, its public app and public clients."""

from __future__ import annotations

from typing import Any

import pytest

from tests.timetable_adapters.conformance import AdapterConformance
from tests.timetable_adapters.fake import CANARY, ROOMS, SECRET, FakeServer, FakeSystem, Reply, Request
from timetable_adapters.base import ConfigurationError, ProtocolError


def envelope(data: list[Any], status: int = 200) -> Reply:
    return Reply.json({"response": {"status": status, "message": "", "data": data, "totalRows": len(data)}})


class Zermelo(FakeSystem):
    pages = False

    def settings(self) -> dict[str, object]:
        return {"base_url": f"{self.url}/api/v3", "token": SECRET, "school_in_school_year": 7}

    def respond(self, request: Request) -> Reply:
        assert "access_token" not in request.query
        if request.headers.get("Authorization") != f"Bearer {SECRET}":
            return Reply.json({"response": {"status": 401, "message": "Unauthorized", "data": []}}, 401)
        if request.path.endswith("/locationofbranches"):
            return envelope([{"id": int(ref), "name": name, "courseCapacity": 30} for ref, name in ROOMS.items()])
        low, high = int(request.query["start"]), int(request.query["end"])
        rooms = request.query["locationsOfBranch"].split(",")
        data = []
        for number, event in enumerate(self.events):
            # Only what starts inside the window is returned.
            if event.room in rooms and low <= event.start.timestamp() < high:
                item = {
                    "id": 1000 + number,
                    "appointmentInstance": number,
                    "start": int(event.start.timestamp()),
                    "end": int(event.end.timestamp()),
                    "valid": True,
                    "cancelled": event.cancelled,
                    "subjects": [event.title],
                    "groups": ["v4a"],
                    "teachers": [CANARY],
                    "locationsOfBranch": [int(event.room)],
                    "schedulerRemark": f"for {CANARY}",
                    "expectedStudentCount": 28,
                    "lastModified": 5,
                }
                data += [{**item, "id": 900 + number, "valid": False, "subjects": ["old"], "lastModified": 1}, item]
        return envelope(data)


class TestZermelo(AdapterConformance):
    kind = "zermelo"
    system = Zermelo

    def test_only_the_valid_version_of_an_appointment_counts(self, server: FakeServer) -> None:
        assert "old v4a" not in {booking.title for booking in self.pull(self.make(server))}

    def test_the_status_inside_the_envelope_counts(self, server: FakeServer) -> None:
        server.fail(lambda *_: envelope([], 403))
        with pytest.raises(ConfigurationError):
            self.pull(self.make(server))

    def test_rows_that_did_not_come_are_missed(self, server: FakeServer) -> None:
        short = {"response": {"status": 200, "data": [], "totalRows": 12}}
        server.fail(lambda *_: Reply.json(short))
        with pytest.raises(ProtocolError, match="0 of 12"):
            self.pull(self.make(server))
