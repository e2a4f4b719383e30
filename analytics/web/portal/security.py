"""Headers, cookies, and the refusal of requests that another site made a browser send.

Cross-site requests are told by ``Sec-Fetch-Site`` and, for browsers without it, ``Origin`` (the way Datasette went):
there is no token in any form that could leak or be forgotten. ``SameSite=Lax`` is the second layer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from fastapi import Request, Response

from analytics.accounts.sessions import LONGEST
from analytics.web.problems import problem_body

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
HEADERS = {
    # Everything comes from this service. plotly.js writes style attributes; what it would write as style sheets is kept
    # from it by elements of the same ids (templates/figures_macros.html) and stands in static/charts.css.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; style-src-attr 'unsafe-inline'; "
        "img-src 'self' data:; font-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; "
        "base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class SecurityHeaders:
    """ASGI middleware: the headers on every answer, and no cross-site request that changes anything.

    ``exempt`` names paths whose callers are no browsers and prove themselves in another way (sensors, tokens).
    """

    def __init__(self, app: Any, *, https: bool, exempt: tuple[str, ...] = ()) -> None:
        self._app = app
        self._https = https
        self._exempt = exempt

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                headers = {**HEADERS, **({"Strict-Transport-Security": "max-age=31536000"} if self._https else {})}
                message["headers"] = [
                    *message["headers"],
                    *((k.encode(), v.encode()) for k, v in headers.items() if k.lower().encode() not in present),
                ]
            await send(message)

        request = Request(scope)
        if request.method not in SAFE_METHODS and not scope["path"].startswith(self._exempt) and cross_site(request):
            body = problem_body(403, "this request came from another site; open the portal itself and try again")
            refusal = Response(body, 403, media_type="application/problem+json")
            await refusal(scope, receive, with_headers)
            return
        await self._app(scope, receive, with_headers)


def cross_site(request: Request) -> bool:
    """Whether a browser sent this on behalf of another site. Callers that are no browsers send neither header."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = request.headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != request.headers.get("host", "")


def cookie_name(https: bool) -> str:
    """``__Host-`` binds the cookie to this host and to TLS; browsers refuse it without."""
    return "__Host-headroom" if https else "headroom"


def set_session(response: Response, secret: str, *, https: bool) -> None:
    """Hand the session to the browser."""
    response.set_cookie(
        cookie_name(https), secret, max_age=int(LONGEST.total_seconds()), path="/", secure=https, httponly=True,
        samesite="lax",
    )  # fmt: skip


def clear_session(response: Response, *, https: bool) -> None:
    """Take it back."""
    response.delete_cookie(cookie_name(https), path="/", secure=https, httponly=True, samesite="lax")
