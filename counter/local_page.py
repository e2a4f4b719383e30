"""The HTTP side that the small local pages share: a token in the path, no foreign Host or Origin, nothing cached.

Both the page that draws a scene and the one that tallies by hand are served by it; each adds what it answers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any, ClassVar, Protocol

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE_FILES: Mapping[str, tuple[str, str]] = {
    "": ("page.html", "text/html; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
}


class LocalPage(Protocol):
    """What a page tells its handler."""

    @property
    def authority(self) -> str:
        """Host and port, as a browser names them."""
        ...

    def admits(self, token: str) -> bool:
        """Whether the path's first part is the page's token."""
        ...


class PageServer(ThreadingHTTPServer):
    """Serves one page; ``page`` is set right after it was made."""

    daemon_threads = True
    page: Any


class PageHandler(BaseHTTPRequestHandler):
    """Answers only behind the token. ``package`` holds the files; subclasses answer the other names."""

    server: PageServer
    server_version = "headroom"
    sys_version = ""
    timeout = 30
    package: ClassVar[str]
    files: ClassVar[Mapping[str, tuple[str, str]]] = PAGE_FILES
    max_body: ClassVar[int] = 256 * 1024

    def do_GET(self) -> None:
        name = self._admitted()
        if name is None:
            return
        if name in self.files:
            file, kind = self.files[name]
            self.send(HTTPStatus.OK, kind, (resources.files(self.package) / file).read_bytes())
        else:
            self.get(name)

    def do_POST(self) -> None:
        name = self._admitted()
        if name is None:
            return
        if self.headers.get("Origin") != f"http://{self.server.page.authority}":
            self.refuse(HTTPStatus.FORBIDDEN)
        else:
            self.post(name)

    def get(self, name: str) -> None:
        """Answer a GET of anything but the page's own files."""
        self.refuse(HTTPStatus.NOT_FOUND)

    def post(self, name: str) -> None:
        """Answer a POST of the page itself."""
        self.refuse(HTTPStatus.NOT_FOUND)

    def body(self) -> dict[str, Any] | None:
        """The JSON object that was sent, or None after the request was refused."""
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > self.max_body:
            self.refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return None
        try:
            data = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            data = None
        if not isinstance(data, dict):
            self.refuse(HTTPStatus.BAD_REQUEST)
            return None
        return data

    def json(self, data: Mapping[str, Any]) -> None:
        """Answer with an object."""
        self.send(HTTPStatus.OK, "application/json", json.dumps(data).encode())

    def refuse(self, status: HTTPStatus) -> None:
        """Answer with the status alone and hang up."""
        self.close_connection = True
        self.send(status, "text/plain; charset=utf-8", status.phrase.encode())

    def send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        """Answer with bytes that no browser keeps."""
        self.send_response(status)
        for name, value in (
            ("Content-Type", kind),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("Content-Security-Policy", CSP),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        """Nothing: the request line holds the token."""

    def _admitted(self) -> str | None:
        """The name behind the token, or None after the request was refused. Foreign Host headers: DNS rebinding."""
        page: LocalPage = self.server.page
        token, _, name = self.path.split("?")[0].removeprefix("/").partition("/")
        if self.headers.get("Host") != page.authority or not page.admits(token):
            self.refuse(HTTPStatus.NOT_FOUND)
            return None
        return name
