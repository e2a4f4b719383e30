"""No request fills the memory: bodies of forms and files are bounded before anybody reads them.

Counts and enrolment have bounds of their own (`analytics.ingest.door`).
"""

from __future__ import annotations

from typing import Any

from fastapi import Response

from analytics.web.portal.security import Message, Receive, Send
from analytics.web.problems import PROBLEM_TYPE, ProblemError, problem_body
from analytics.web.proxy import SENSOR_PATHS

MAX_BODY = 12 << 20
"""Larger than the largest file that a page takes (`analytics.web.portal.pages.settings.MAX_FILE`)."""
_TOO_LARGE = "the request is larger than 12 MB"


class BoundedBodies:
    """ASGI middleware: 413 for a body that says that it is too large, and an end to one that does not say so."""

    def __init__(self, app: Any, *, most: int = MAX_BODY) -> None:
        self._app = app
        self._most = most

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(SENSOR_PATHS):
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or len(declared) > 18 or int(declared) > self._most:
            refusal = Response(problem_body(413, _TOO_LARGE, "too-large"), 413, {"Connection": "close"}, PROBLEM_TYPE)
            await refusal(scope, receive, send)
            return
        taken = 0

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._most:
                raise ProblemError(413, "too-large", _TOO_LARGE)
            return message

        await self._app(scope, bounded, send)
