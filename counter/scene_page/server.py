"""A page on this machine only, to draw lines and zones on one still picture.

The still is encoded in memory and served with ``no-store``, so that no browser keeps it either. The server listens on
127.0.0.1, answers only under a path with a random token, refuses foreign Host and Origin headers (DNS rebinding, other
pages), and can write one file alone: the scene file named on the command line.
"""

from __future__ import annotations

import hmac
import json
import logging
import secrets
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from typing import Any

import cv2

from counter.scene import Scene, SceneError, dump_scene, parse_scene, save_scene, scene_faults
from counter.types import Frame

log = logging.getLogger(__name__)

_MAX_BODY = 256 * 1024
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_ASSETS = {
    "": ("page.html", "text/html; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
}


class ScenePage:
    """Serves the page until it is closed.

    Args:
        still: the picture to draw on, ``[height, width, 3]`` BGR; kept as JPEG in memory only.
        target: the scene file to write.
        scene: what to begin with.
        source: name of the source, for the heading.
        port: 0 lets the system choose.

    Raises:
        OSError: the port is taken.
    """

    def __init__(self, still: Frame, target: Path, scene: Scene, *, source: str, port: int = 0) -> None:
        ok, jpeg = cv2.imencode(".jpg", still, [cv2.IMWRITE_JPEG_QUALITY, 90])
        if not ok:
            raise ValueError("the still picture could not be encoded")
        self.still = jpeg.tobytes()
        self.size = (int(still.shape[1]), int(still.shape[0]))
        self.target = target
        self.scene = scene
        self.source = source
        self.token = secrets.token_urlsafe(24)
        self.saved = threading.Event()
        self.done = threading.Event()
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.page = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="scene page", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{self.token}/"

    def close(self) -> None:
        """Stop serving and forget the picture."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)
        self.still = b""

    def state(self) -> dict[str, Any]:
        """What the page begins with."""
        return {
            "scene": self.scene.model_dump(mode="json"),
            "width": self.size[0],
            "height": self.size[1],
            "source": self.source,
            "target": str(self.target),
        }

    def check(self, data: dict[str, Any]) -> dict[str, Any]:
        """Faults of a drawing, or its text as a file and as options of ``headroom count``."""
        faults = [{"field": field, "reason": reason} for field, reason in scene_faults(data)]
        if faults:
            return {"faults": faults, "toml": None}
        return {"faults": [], "toml": dump_scene(parse_scene(data))}

    def save(self, data: dict[str, Any]) -> dict[str, Any]:
        """Check and write the scene file."""
        faults = self.check(data)["faults"]
        if faults:
            return {"faults": faults, "saved": None}
        try:
            scene = parse_scene(data)
            save_scene(scene, self.target)
        except SceneError as error:
            return {"faults": [{"field": error.field, "reason": error.reason}], "saved": None}
        self.scene = scene
        self.saved.set()
        return {"faults": [], "saved": str(self.target)}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    page: ScenePage


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "headroom"
    sys_version = ""
    timeout = 30

    def do_GET(self) -> None:
        name = self._admitted()
        if name is None:
            return
        page = self.server.page
        if name in _ASSETS:
            file, kind = _ASSETS[name]
            self._send(HTTPStatus.OK, kind, (resources.files("counter.scene_page") / file).read_bytes())
        elif name == "still.jpg":
            self._send(HTTPStatus.OK, "image/jpeg", page.still)
        elif name == "state.json":
            self._json(page.state())
        else:
            self._refuse(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        name = self._admitted()
        if name is None:
            return
        page = self.server.page
        if self.headers.get("Origin") != f"http://127.0.0.1:{page.port}":
            self._refuse(HTTPStatus.FORBIDDEN)
        elif name == "done":
            self._json({"ok": True})
            page.done.set()
        elif name in {"check", "save"}:
            data = self._body()
            if data is not None:
                self._json(page.check(data) if name == "check" else page.save(data))
        else:
            self._refuse(HTTPStatus.NOT_FOUND)

    def _admitted(self) -> str | None:
        """The name behind the token, or None after the request was refused."""
        page = self.server.page
        token, _, name = self.path.split("?")[0].removeprefix("/").partition("/")
        host_ok = self.headers.get("Host") == f"127.0.0.1:{page.port}"
        if not host_ok or not hmac.compare_digest(token.encode(), page.token.encode()):
            self._refuse(HTTPStatus.NOT_FOUND)
            return None
        return name

    def _body(self) -> dict[str, Any] | None:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > _MAX_BODY:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return None
        try:
            data = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            data = None
        if not isinstance(data, dict):
            self._refuse(HTTPStatus.BAD_REQUEST)
            return None
        return data

    def _json(self, data: dict[str, Any]) -> None:
        self._send(HTTPStatus.OK, "application/json", json.dumps(data).encode())

    def _refuse(self, status: HTTPStatus) -> None:
        self.close_connection = True
        self._send(status, "text/plain; charset=utf-8", status.phrase.encode())

    def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        for name, value in (
            ("Content-Type", kind),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("Content-Security-Policy", _CSP),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        """Nothing: the request line holds the token."""
