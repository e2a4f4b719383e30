"""WebUntis. Shapes: the public client python-webuntis (2025) and its fixtures; error codes from public reports."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.timetable_adapters.conformance import AdapterConformance
from tests.timetable_adapters.fake import CANARY, ROOMS, SECRET, FakeServer, FakeSystem, Reply, Request
from timetable_adapters.base import ConfigurationError, ProtocolError

ZONE = ZoneInfo("Europe/Amsterdam")


class WebUntis(FakeSystem):
    pages = False

    def __init__(self) -> None:
        super().__init__()
        self.session = ""
        self.open = 0
        self.end_session_after: int | None = None

    def settings(self) -> dict[str, object]:
        return {"base_url": self.url, "school": "campus", "user": "reader", "password": SECRET}

    def is_login(self, request: Request) -> bool:
        return b'"authenticate"' in request.body or b'"logout"' in request.body

    def respond(self, request: Request) -> Reply:
        body = request.json()
        method, params = body["method"], body["params"]

        def error(code: int) -> Reply:
            return Reply.json({"jsonrpc": "2.0", "id": body["id"], "error": {"code": code, "message": CANARY}})

        def result(value: Any, **headers: str) -> Reply:
            return Reply.json({"jsonrpc": "2.0", "id": body["id"], "result": value}, **headers)

        if method == "authenticate":
            if params["password"] != SECRET:
                return error(-8504)
            self.open += 1
            self.session = f"S{self.open}"
            return result({"sessionId": self.session}, **{"Set-Cookie": f"JSESSIONID={self.session}; Path=/WebUntis"})
        if f"JSESSIONID={self.session}" not in request.headers.get("Cookie", "") or not self.session:
            return error(-8520)
        if self.end_session_after is not None:
            self.end_session_after -= 1
            if self.end_session_after < 0:
                self.session, self.end_session_after = "", None
                return error(-8520)
        match method:
            case "logout":
                self.session = ""
                return result(None)
            case "getRooms":
                return result([{"id": int(ref), "name": ref, "longName": name} for ref, name in ROOMS.items()])
            case "getSchoolyears":
                return result([{"id": 1, "startDate": 20250901, "endDate": 20260303},
                               {"id": 2, "startDate": 20260304, "endDate": 20260820}])  # fmt: skip
            case "getTimetable":
                options = params["options"]
                first, last = int(options["startDate"]), int(options["endDate"])
                if first <= 20260303 < last:
                    return error(-7004)  # a window across two school years
                return result([p for e in self.events if (p := self._period(e, options, first, last))])
        return error(-32601)

    def _period(self, event: Any, options: dict[str, Any], first: int, last: int) -> dict[str, Any] | None:
        start, end = event.start.astimezone(ZONE), event.end.astimezone(ZONE)
        day = int(start.strftime("%Y%m%d"))
        # A period lies within one day; those of the truth that do not are not in WebUntis.
        if str(options["element"]["id"]) != event.room or not first <= day <= last or start.date() != end.date():
            return None
        return {
            "id": int.from_bytes(event.id.encode()[-2:]),
            "date": day,
            "startTime": int(start.strftime("%H%M")),
            "endTime": int(end.strftime("%H%M")),
            "su": [{"id": 1, "name": event.title}],
            "te": [{"id": 2, "name": "qzo", "longname": CANARY}],
            "ro": [{"id": int(event.room)}],
            "info": CANARY,
            **({"code": "cancelled"} if event.cancelled else {}),
        }


class TestWebUntis(AdapterConformance):
    kind = "webuntis"
    system = WebUntis

    def test_a_session_that_ends_midway_is_opened_again(self, server: FakeServer) -> None:
        adapter = self.make(server)
        server.system.end_session_after = 3  # type: ignore[attr-defined]
        assert len(self.pull(adapter)) == 4

    def test_the_session_is_closed_also_after_an_error(self, server: FakeServer) -> None:
        server.fail(lambda *_: Reply.json({"nonsense": 1}), after=1)
        with pytest.raises(ProtocolError):
            self.pull(self.make(server))
        assert server.system.session == ""  # type: ignore[attr-defined]

    @pytest.mark.parametrize("code", [-8504, -8509])
    def test_errors_with_status_200_are_configuration(self, server: FakeServer, code: int) -> None:
        def fault(request: Request, _reply: Reply) -> Reply:
            return Reply.json({"id": request.json()["id"], "error": {"code": code, "message": CANARY}})

        server.fail(fault)
        with pytest.raises(ConfigurationError) as caught:
            self.pull(self.make(server))
        assert CANARY not in str(caught.value)

    def test_the_answer_of_another_request_is_refused(self, server: FakeServer) -> None:
        server.fail(lambda *_: Reply.json({"id": "999", "result": []}))
        with pytest.raises(ProtocolError, match="another request"):
            self.pull(self.make(server))
