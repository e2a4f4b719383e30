"""The tally page: two large buttons on a phone, for the person who counts beside the sensor.

It serves nothing but the page, the sensor's time and the taps: no picture, no count of the sensor's (who knows what the
sensor said counts differently). By default it listens on this machine alone; the network must be named. Its address
holds a token that works once: the first phone to open the page keeps it, a second one is refused. The page goes on
without a connection and sends what it holds when the connection is back.
"""

from __future__ import annotations

import hmac
import secrets
import threading
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from counter.local_page import PageHandler, PageServer
from counter.validation.tally import Tally, TallyError

_MAX_WRONG = 200
_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"  # nothing that is misread when typed from a screen
_TOKEN_LETTERS = 12  # 59 bits; after 200 wrong ones nobody gets in any more


class TallyPage:
    """Serves the page until it is closed.

    Args:
        host: address to listen on; anything but loopback is the caller's explicit wish.
        port: 0 lets the system choose.
        name: of the sensor, for the heading.
        clock: the sensor's wall clock, seconds since 1970.

    Raises:
        OSError: the address cannot be listened on.
    """

    def __init__(self, host: str, port: int, *, name: str, clock: Callable[[], float]) -> None:
        self.name = name
        self.clock = clock
        self.tally = Tally()
        self.token = "".join(secrets.choice(_ALPHABET) for _ in range(_TOKEN_LETTERS))
        self.window: tuple[float, float] | None = None
        """Begin and end, by the sensor's clock; None until the person has begun."""
        self.begun = threading.Event()
        self.done = threading.Event()
        self.seconds = 0.0
        self._phone: str | None = None
        self._wrong = 0
        self._mutex = threading.Lock()
        self._server = PageServer((host, port), _Handler)
        self._server.page = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="tally page", daemon=True)
        self._thread.start()

    @property
    def authority(self) -> str:
        """Host and port, as a browser names them."""
        host, port = self._server.server_address[:2]
        return str(host) if port == 80 else f"{host!s}:{port}"

    @property
    def url(self) -> str:
        return f"http://{self.authority}/{self.token}/"

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)

    def admits(self, token: str) -> bool:
        """Whether this is the token. After too many wrong ones nothing is admitted any more."""
        with self._mutex:
            if self._wrong >= _MAX_WRONG:
                return False
            if hmac.compare_digest(token.encode(), self.token.encode()):
                return True
            self._wrong += 1
            return False

    def is_phone(self, secret: str) -> bool:
        """Whether this is the phone that opened the page first. The first one to ask is."""
        if not 16 <= len(secret) <= 100:
            return False
        with self._mutex:
            if self._phone is None:
                self._phone = secret
            return hmac.compare_digest(secret.encode(), self._phone.encode())

    def sync(self, data: dict[str, Any]) -> dict[str, Any]:
        """Take the phone's taps; gives the sensor's time and the window.

        Raises:
            TallyError: the taps are no taps.
        """
        known = self.tally.merge(data.get("taps", []))
        if data.get("begin") is True and self.window is None:
            now = self.clock()
            self.window = (now, now + self.seconds)
            self.begun.set()
        if data.get("done") is True and self.window is not None:
            self.window = (self.window[0], max(self.window[0], min(self.window[1], self.clock())))
            self.done.set()
        return {"name": self.name, "now": self.clock(), "window": self.window, "known": known}


class _Handler(PageHandler):
    package = "counter.validation.tally_page"
    max_body = 8 * 1024 * 1024

    def post(self, name: str) -> None:
        if name != "sync":
            super().post(name)
        elif not self.server.page.is_phone(self.headers.get("X-Tally", "")):
            self.refuse(HTTPStatus.CONFLICT)
        else:
            data = self.body()
            if data is not None:
                self._sync(data)

    def _sync(self, data: dict[str, Any]) -> None:
        try:
            answer = self.server.page.sync(data)
        except TallyError as error:
            self.send(HTTPStatus.BAD_REQUEST, "text/plain; charset=utf-8", str(error).encode())
        else:
            self.json(answer)
