"""Who asks the API, and whether they may: a token or a session, and a right for every route.

Deny by default: a route cannot be registered without a rule, an organisation where the caller has no rights looks like
one that does not exist, and a token that is not right is never helped out by a cookie.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from fastapi import APIRouter, Depends, Request

from analytics.accounts.model import Token, User
from analytics.accounts.rights import Right
from analytics.accounts.throttle import Throttle
from analytics.assemble import Site
from analytics.domain.model import Building, Organisation
from analytics.ingest.limits import RateLimiter
from analytics.store.errors import NotFoundError
from analytics.web.portal.security import cookie_name
from analytics.web.portal.visit import LOGGED_IN, find_guest, portal_of
from analytics.web.problems import ProblemError, problem_responses

RATE, BURST = 10.0, 100
"""Requests of one caller: a second, and at once."""
FAILURES, FAILURES_AN_HOUR = 30, 600
"""Wrong tokens from one address."""
MOST_ITEMS = 1_000
SECURITY_SCHEMES = {
    "token": {"type": "http", "scheme": "bearer", "description": "A key for machines (portal, Users and rights)."},
    "session": {"type": "apiKey", "in": "cookie", "name": "headroom", "description": "A person who is logged in."},
}
_SECURITY: list[dict[str, list[str]]] = [{"token": []}, {"session": []}]
Route = TypeVar("Route", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Caller:
    """A machine with a token or a person with a session."""

    who: User | Token

    @property
    def organisations(self) -> list[str]:
        """Ids of the organisations that the caller may see anything of."""
        if isinstance(self.who, Token):
            return [self.who.org_id]
        return [membership.org_id for membership in self.who.memberships]

    def buildings(self, org_id: str) -> frozenset[str]:
        """Those that the caller is narrowed to; empty: all of the organisation."""
        if isinstance(self.who, Token):
            return self.who.buildings
        membership = self.who.membership(org_id)
        return membership.buildings if membership else frozenset()

    def allows(self, right: Right, org_id: str) -> bool:
        """Whether the caller holds a right somewhere in an organisation."""
        return org_id in self.organisations and self.who.allows(right, org_id)


@dataclass(frozen=True, slots=True)
class Desk:
    """A caller in an organisation, with the right that the route asked for.

    Attributes:
        buildings: those that the caller may see, by id.
    """

    caller: Caller
    organisation: Organisation
    buildings: dict[str, Building]

    @property
    def org_id(self) -> str:
        return self.organisation.id

    def may(self, right: Right) -> bool:
        return self.caller.allows(right, self.org_id)

    def site(self, request: Request) -> Site:
        """Master data of the whole organisation; what is shown of it must be narrowed to ``buildings``."""
        return Site.load(portal_of(request).store, self.org_id)


class Guard:
    """What slows callers down. One for each application."""

    def __init__(self) -> None:
        self.callers = RateLimiter(RATE, BURST)
        self.failures = Throttle(FAILURES, FAILURES_AN_HOUR)


async def slow_down(request: Request) -> None:
    """Dependency: at most so many requests of one caller, known or not. Runs on the event loop."""
    proof = request.headers.get("authorization") or request.cookies.get(cookie_name(portal_of(request).https)) or ""
    key = hashlib.sha256(proof.encode()).hexdigest() if proof else _address(request)
    if wait := guard_of(request).callers.take(key):
        raise ProblemError(429, "too-many-requests", "too many requests; wait", retry_after=wait)


def caller(request: Request) -> Caller:
    """Dependency: who asks. Raises ProblemError 401 or 429."""
    header = request.headers.get("authorization")
    if header is None:
        found = find_guest(request)
        if found is None:
            raise _unproven("give a token as Authorization: Bearer, or log in")
        return Caller(found.user)
    guard, address = guard_of(request), _address(request)
    if wait := guard.failures.wait(address):
        raise ProblemError(429, "too-many-failures", "too many wrong tokens from this address", retry_after=wait)
    scheme, _, secret = header.partition(" ")
    token = portal_of(request).tokens.authenticate(secret.strip()) if scheme.lower() == "bearer" else None
    if token is None:
        guard.failures.failed(address)
        raise _unproven("this token is unknown, withdrawn or expired")
    return Caller(token)


@cache  # one callable a right, as `analytics.web.portal.visit.visitor`
def desk(right: Right) -> Callable[[Request, str], Desk]:
    """Dependency of routes in an organisation (``org_id`` in the path) that need a right."""

    def depend(request: Request, org_id: str) -> Desk:
        who = caller(request)
        nothing = ProblemError(404, "not-found", "there is no such organisation, or you may not see it")
        if org_id not in who.organisations:
            raise nothing
        if not who.allows(right, org_id):
            raise ProblemError(403, "forbidden", f"this needs the right {right.value!r}")
        store = portal_of(request).store
        try:
            organisation = store.organisation(org_id)
        except NotFoundError:
            raise nothing from None
        only = who.buildings(org_id)
        buildings = {b.id: b for b in store.buildings(org_id) if not only or b.id in only}
        return Desk(who, organisation, buildings)

    return depend


class Api:
    """A router whose routes all say who may use them; ``rules`` lists (method, path, rule) for the access test."""

    def __init__(self) -> None:
        self.router = APIRouter()
        self.rules: list[tuple[str, str, Right | str]] = []

    def get(self, path: str, rule: Right | str, **options: Any) -> Callable[[Route], Route]:
        """Register a GET route. ``rule``: a right (then the path names ``org_id``) or ``LOGGED_IN``."""
        if isinstance(rule, Right):
            if "{org_id}" not in path:
                raise ValueError(f"{path}: a right is held in an organisation, so the path must name one")
            dependencies = [Depends(slow_down), Depends(desk(rule))]
            note = f"Needs the right `{rule.value}`."
        elif rule == LOGGED_IN:
            dependencies = [Depends(slow_down), Depends(caller)]
            note = "For every caller."
        else:
            raise ValueError(f"{path}: unknown rule {rule!r}")
        self.rules.append(("GET", path, rule))
        statuses = (401, 403, 404, 422, 429, 503) if isinstance(rule, Right) else (401, 422, 429, 503)
        return self.router.get(
            path,
            dependencies=dependencies,
            responses={**problem_responses(*statuses), **options.pop("responses", {})},
            openapi_extra={"security": _SECURITY, "x-right": getattr(rule, "value", rule)},
            response_description=note,
            **options,
        )


def guard_of(request: Request) -> Guard:
    """What slows the callers of this application down."""
    guard = request.app.state.api_guard
    assert isinstance(guard, Guard)
    return guard


def to_cursor(*key: str) -> str:
    """The key of the last item as an opaque text."""
    return base64.urlsafe_b64encode(json.dumps(key, ensure_ascii=False).encode()).decode().rstrip("=")


def from_cursor(text: str, parts: int) -> tuple[str, ...]:
    """The key again. Raises ProblemError 422: it is none of ours."""
    try:
        key = json.loads(base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True))
    except (binascii.Error, ValueError):
        key = None
    if not isinstance(key, list) or len(key) != parts or not all(isinstance(part, str) for part in key):
        raise ProblemError(422, "not-valid", "query.cursor: not one that this service gave; begin without it")
    return tuple(key)


def _unproven(detail: str) -> ProblemError:
    return ProblemError(401, "not-proven", detail, headers={"WWW-Authenticate": "Bearer"})


def _address(request: Request) -> str:
    return request.client.host if request.client else "local"
