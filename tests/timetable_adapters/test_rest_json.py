"""A mapped REST interface, in the shape of the contract that door-sign vendors ask of booking systems."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from tests.timetable_adapters.conformance import AdapterConformance
from tests.timetable_adapters.fake import CANARY, ROOMS, SECRET, FakeServer, FakeSystem, Reply, Request
from timetable_adapters.base import ConfigurationError, ProtocolError
from timetable_adapters.rest_json import RestAdapter


class Rest(FakeSystem):
    style = "next_link"

    def settings(self) -> dict[str, object]:
        paging = {
            "next_link": {"style": "next_link", "path": "paging.next"},
            "cursor": {"style": "cursor", "path": "paging.cursor", "parameter": "after"},
            "page": {"style": "page", "parameter": "page", "size": 1},
            "offset": {"style": "offset", "parameter": "skip", "size": 1},
        }
        return {
            "base_url": f"{self.url}/api",
            "token": SECRET,
            "rooms_path": "rooms",
            "rooms_items": "data",
            "bookings_path": "rooms/{room}/meetings",
            "bookings_items": "data",
            "parameters": {"from": "{start}", "to": "{end}"},
            "paging": paging[self.style],
            "fields": {
                "id": "id", "room": "room.code", "start": "when.start", "end": "when.end", "title": "subject",
                "status": "state", "booked_by": "owner.name", "expected_size": "people", "version": "rev",
            },
            "status_words": {"off": "cancelled", "on": "planned"},
        }  # fmt: skip

    def respond(self, request: Request) -> Reply:
        if request.headers.get("Authorization") != f"Bearer {SECRET}":
            return Reply(401)
        parts = request.path.split("/")
        items: list[Any]
        if parts[-1] == "rooms":
            items = [{"id": ref, "name": name} for ref, name in ROOMS.items()]
        else:
            start, end = (datetime.fromisoformat(request.query[name]) for name in ("from", "to"))
            items = [
                {
                    "id": e.id, "rev": 1, "room": {"code": e.room}, "subject": f"{e.title}, {CANARY}",
                    "when": {"start": e.start.isoformat(), "end": e.end.isoformat()},
                    "state": "off" if e.cancelled else "on", "owner": {"name": CANARY}, "people": "12",
                }
                for e in self.events
                if e.room == parts[3] and e.start <= end and e.end >= start
            ]  # fmt: skip
        position = int(request.query.get("p") or request.query.get("after") or request.query.get("skip") or 0)
        if self.style == "page":
            position = int(request.query["page"]) - 1
        rest: dict[str, Any] = {}
        if position + 1 < len(items):
            query = "&".join(f"{k}={v.replace('+', '%2B')}" for k, v in request.query.items() if k != "p")
            rest = {"next": f"{self.url}{request.path}?{query}&p={position + 1}", "cursor": position + 1}
        return Reply.json({"data": items[position : position + 1], "paging": rest})


class TestRest(AdapterConformance):
    kind = "rest"
    system = Rest

    def test_a_page_that_names_itself_is_noticed(self, server: FakeServer) -> None:
        loop = {"data": [], "paging": {"next": f"{server.system.url}/api/rooms?p=1"}}
        server.fail(lambda *_: Reply.json(loop))
        with pytest.raises(ProtocolError, match="twice"):
            self.pull(self.make(server))

    def test_an_answer_without_its_list_is_no_empty_timetable(self, server: FakeServer) -> None:
        server.fail(lambda *_: Reply.json({"data": None}))
        with pytest.raises(ProtocolError, match="no list 'data'"):
            self.pull(self.make(server))

    @pytest.mark.parametrize("style", ["cursor", "page", "offset"])
    def test_every_style_of_paging(self, server: FakeServer, style: str) -> None:
        server.system.style = style  # type: ignore[attr-defined]
        assert len(self.pull(self.make(server))) == 4


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://timetable.example.edu", "in the clear"),
        ("ftp://timetable.example.edu", "https"),
        ("https://user:pass@timetable.example.edu", "user name or password"),
    ],
)
def test_addresses_that_give_the_token_away_are_refused(url: str, message: str) -> None:
    system = Rest()
    system.url = "http://127.0.0.1:1"
    with pytest.raises(ConfigurationError, match=message) as caught:
        RestAdapter.from_mapping("x", {**system.settings(), "base_url": url})
    assert "pass@" not in str(caught.value)
