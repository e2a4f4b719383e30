"""A page on this machine only, to draw lines and zones on one still picture.

The still is encoded in memory and served with ``no-store``, so that no browser keeps it either. The server listens on
127.0.0.1, answers only under a path with a random token, refuses foreign Host and Origin headers (DNS rebinding, other
pages), and can write one file alone: the scene file named on the command line.
"""

from __future__ import annotations

import hmac
import logging
import secrets
import threading
from http import HTTPStatus
from pathlib import Path
from typing import Any

import cv2

from counter.local_page import PAGE_FILES, PageHandler, PageServer
from counter.scene import Scene, SceneError, dump_scene, parse_scene, save_scene, scene_faults
from counter.types import Frame

log = logging.getLogger(__name__)


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
        self._server = PageServer(("127.0.0.1", port), _Handler)
        self._server.page = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="scene page", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def authority(self) -> str:
        """Host and port, as a browser names them."""
        return f"127.0.0.1:{self.port}"

    def admits(self, token: str) -> bool:
        """Whether this is the page's token."""
        return hmac.compare_digest(token.encode(), self.token.encode())

    @property
    def url(self) -> str:
        return f"http://{self.authority}/{self.token}/"

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


class _Handler(PageHandler):
    package = "counter.scene_page"
    files = {**PAGE_FILES, "icon.svg": ("icon.svg", "image/svg+xml")}  # noqa: RUF012 - declared a ClassVar above

    def get(self, name: str) -> None:
        page: ScenePage = self.server.page
        if name == "still.jpg":
            self.send(HTTPStatus.OK, "image/jpeg", page.still)
        elif name == "state.json":
            self.json(page.state())
        else:
            super().get(name)

    def post(self, name: str) -> None:
        page: ScenePage = self.server.page
        if name == "done":
            self.json({"ok": True})
            page.done.set()
        elif name in {"check", "save"}:
            data = self.body()
            if data is not None:
                self.json(page.check(data) if name == "check" else page.save(data))
        else:
            super().post(name)
