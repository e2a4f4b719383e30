"""Local stand-ins for scheduling systems: they answer in the recorded shapes and refuse what the real ones refuse."""

from __future__ import annotations

import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

CANARY = "Quirina Zonnevanck"
"""A name that stands in every personal field of every system, and must be nowhere when names are not allowed."""
CANARY_MAIL = "quirina.zonnevanck@campus.example"
SECRET = "s3cr3t-t0ken-4711"
LOGIN_PAGE = b"<!DOCTYPE html><html><body><form>Log in</form></body></html>"


@dataclass(frozen=True)
class Event:
    """One booking as the truth behind a fake system has it, times UTC."""

    id: str
    room: str
    start: datetime
    end: datetime
    title: str = "Linear algebra"
    cancelled: bool = False
    size: int | None = 40


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


EVENTS = (
    Event("e-touching", "101", at("2026-03-01 21:00"), at("2026-03-02 00:00")),  # ends where the window begins
    Event("e1", "101", at("2026-03-02 08:00"), at("2026-03-02 09:45")),
    Event("e2", "101", at("2026-03-02 10:00"), at("2026-03-02 11:45"), title="Statistics"),
    Event("e3", "102", at("2026-03-03 08:00"), at("2026-03-03 09:45"), title="Dutch law"),
    Event("e4", "102", at("2026-03-03 12:00"), at("2026-03-03 13:00"), title="Chess club", cancelled=True),
    Event("e-later", "101", at("2026-03-09 00:00"), at("2026-03-09 01:00")),  # begins where the window ends
)
WINDOW = (at("2026-03-02 00:00"), at("2026-03-09 00:00"))
INSIDE = ("e1", "e2", "e3", "e4")
ROOMS = {"101": "Lecture hall A", "102": "Seminar room 2"}


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def form(self) -> dict[str, str]:
        return {key: values[0] for key, values in parse_qs(self.body.decode()).items()}


@dataclass
class Reply:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    """Send only that many bytes of the body, then hang up."""

    @classmethod
    def json(cls, value: Any, status: int = 200, **headers: str) -> Reply:
        return cls(status, json.dumps(value).encode(), {"Content-Type": "application/json", **headers})

    @classmethod
    def text(cls, value: str, kind: str) -> Reply:
        return cls(200, value.encode(), {"Content-Type": kind})


Fault = Callable[[Request, Reply], Reply]


class FakeSystem(ABC):
    """One scheduling system. ``page_size`` is small so that every answer has several pages where the system pages."""

    page_size = 2
    pages = True
    has_names = True
    inside: tuple[str, ...] = INSIDE
    """Which of the events a pull of the window must return."""

    def __init__(self) -> None:
        self.events: list[Event] = list(EVENTS)
        self.url = ""

    @abstractmethod
    def settings(self) -> dict[str, object]:
        """Settings for the adapter, with the address of the running server."""

    @abstractmethod
    def respond(self, request: Request) -> Reply:
        """The answer of the healthy system, refusals of a wrong token included."""

    def is_login(self, request: Request) -> bool:
        """Requests for a token; faults are aimed at the others."""
        return False


class FakeServer:
    """Serves a ``FakeSystem`` on loopback, keeps what was asked and can be told to fail."""

    def __init__(self, system: FakeSystem) -> None:
        self.system = system
        self.requests: list[Request] = []
        self._fault: Fault | None = None
        self._skip = 0
        self._left = 0
        self._lock = threading.Lock()

    def fail(self, fault: Fault, *, times: int = 1_000_000, after: int = 0) -> None:
        """Apply ``fault`` to the next ``times`` data requests (logins aside), once ``after`` of them went well."""
        self._fault, self._left, self._skip = fault, times, after

    def answer(self, request: Request) -> Reply:
        with self._lock:
            self.requests.append(request)
            reply = self.system.respond(request)
            if self._fault is None or self._left <= 0 or self.system.is_login(request):
                return reply
            if self._skip > 0:
                self._skip -= 1
                return reply
            self._left -= 1
            return self._fault(request, reply)


@contextmanager
def running(system: FakeSystem) -> Iterator[FakeServer]:
    server = FakeServer(system)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet, else each answer waits for a delayed acknowledgement
        disable_nagle_algorithm = True

        def _serve(self) -> None:
            parts = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            query = {key: values[0] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
            request = Request(self.command, parts.path, query, dict(self.headers), self.rfile.read(length))
            try:
                reply = server.answer(request)
            except Exception as error:  # a bug in the fake must not look like a broken connection
                reply = Reply(418, repr(error).encode())
            body = reply.body if reply.cut is None else reply.body[: reply.cut]
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(body)
            if reply.cut is not None:
                self.close_connection = True

        do_GET = do_POST = _serve  # noqa: N815

        def log_message(self, *_: object) -> None:
            return

    ThreadingHTTPServer.block_on_close = False  # kept-alive connections end with their clients
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    system.url = f"http://127.0.0.1:{http.server_address[1]}"
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def status(code: int, **headers: str) -> Fault:
    return lambda _request, _reply: Reply(
        code, b"{}", {name.replace("_", "-"): value for name, value in headers.items()}
    )


def truncated(_request: Request, reply: Reply) -> Reply:
    """Half the body with a Content-Length that fits: what a broken proxy makes."""
    return Reply(reply.status, reply.body[: len(reply.body) // 2], reply.headers)


def hung_up(_request: Request, reply: Reply) -> Reply:
    return Reply(reply.status, reply.body, reply.headers, cut=len(reply.body) // 2)


def login_page(_request: Request, _reply: Reply) -> Reply:
    return Reply(200, LOGIN_PAGE, {"Content-Type": "text/html; charset=utf-8"})
