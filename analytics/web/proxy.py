"""Behind a TLS proxy on this machine: who asked, and by which address, as the proxy says.

Believed from loopback alone, where only a program of this machine can be the sender. Of several addresses in
``X-Forwarded-For`` the last one counts: the proxy wrote it, those before it came with the request. Sensors' paths are
left alone: their way in is judged by the real address (`analytics.ingest.door`).
"""

from __future__ import annotations

import ipaddress
from typing import Any
from urllib.parse import urlsplit

from analytics.web.portal.security import Message, Receive, Send

SENSOR_PATHS = ("/v1/counts", "/v1/enrolment")


class BehindProxy:
    """ASGI middleware. With ``public_url`` links and origins are that address, whatever ``Host`` a request names."""

    def __init__(self, app: Any, *, public_url: str | None) -> None:
        self._app = app
        self._public = urlsplit(public_url) if public_url else None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not scope["path"].startswith(SENSOR_PATHS):
            scope = self._corrected(scope)
        await self._app(scope, receive, send)

    def _corrected(self, scope: Message) -> Message:
        headers = dict(scope["headers"])
        client = scope.get("client")
        changed: Message = {}
        if client is not None and is_loopback(client[0]):
            asked = _address(headers.get(b"x-forwarded-for", b"").decode("latin-1").rpartition(",")[2].strip())
            if asked:
                changed["client"] = (asked, 0)
            if headers.get(b"x-forwarded-proto") in (b"http", b"https"):
                changed["scheme"] = headers[b"x-forwarded-proto"].decode()
        if self._public is not None:
            changed["scheme"] = self._public.scheme
            others = [(name, value) for name, value in scope["headers"] if name != b"host"]
            changed["headers"] = [(b"host", self._public.netloc.encode("ascii", "ignore")), *others]
        return {**scope, **changed}


def is_loopback(host: str) -> bool:
    """Whether an address, or ``localhost``, is this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _address(text: str) -> str | None:
    try:
        return str(ipaddress.ip_address(text.strip("[]")))
    except ValueError:
        return None
