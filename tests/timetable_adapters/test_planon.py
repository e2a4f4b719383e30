"""Planon. Shapes: the vendor's public help pages on its REST interface."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.timetable_adapters.conformance import AdapterConformance
from tests.timetable_adapters.fake import CANARY, ROOMS, SECRET, FakeServer, FakeSystem, Reply, Request
from timetable_adapters.base import ProtocolError

ZONE = ZoneInfo("Europe/Amsterdam")


class Planon(FakeSystem):
    pages = False

    def settings(self) -> dict[str, object]:
        return {"base_url": f"{self.url}/rest/v2", "token": SECRET, "states": {"231": "cancelled"}}

    def respond(self, request: Request) -> Reply:
        if request.headers.get("Authorization") != f"PLANONKEY accesskey={SECRET}":
            return Reply(401)
        query = request.json()["filter"]
        if request.path.endswith("/UsrReservationUnitMeetingRoom"):
            rooms = [
                {"Syscode": int(ref), "Name": name, "Capacity": 30, "PropertyRef": 8} for ref, name in ROOMS.items()
            ]
            return Reply.json({"records": rooms})
        before = query["BeginDateTime"]["lt"]
        after = query["EndDateTime"]["gt"]
        unit = query.get("ReservationUnitRef", {}).get("eq")
        records = []
        for event in self.events:
            start, end = event.start.astimezone(ZONE), event.end.astimezone(ZONE)
            if unit not in (None, int(event.room)):
                continue
            if f"{start:%Y-%m-%d%H:%M:%S}" < before["date"] + before["time"] and (
                f"{end:%Y-%m-%d%H:%M:%S}" > after["date"] + after["time"]
            ):
                records.append(self._record(event, start, end))
        return Reply.json({"records": records})

    def _record(self, event: Any, start: Any, end: Any) -> dict[str, Any]:
        return {
            "Syscode": int.from_bytes(event.id.encode()[-2:]),
            "BeginDateTime": {"date": f"{start:%Y-%m-%d}", "time": f"{start:%H:%M:%S}"},
            "BeginDateTimeUser": "2026-03-02T00:00:00Z",
            "EndDateTime": {"date": f"{end:%Y-%m-%d}", "time": f"{end:%H:%M:%S}"},
            "Description": f"{event.title} {CANARY}" if event.id == "e2" else event.title,
            "ReservationUnitRef": int(event.room),
            "PropertyRef": 8,
            "BusinessObjectStateRef": 231 if event.cancelled else 229,
            "PersonRef": {"Name": CANARY},
            "NumberOfAttendees": 25,
        }


class TestPlanon(AdapterConformance):
    kind = "planon"
    system = Planon

    def test_errors_inside_an_answer_count(self, server: FakeServer) -> None:
        server.fail(lambda *_: Reply.json({"errors": [{"code": "PN_X", "description": CANARY}], "records": []}))
        with pytest.raises(ProtocolError, match="PN_X"):
            self.pull(self.make(server))
