"""Who asks for a page, and whether they may: every route says which right it needs, or it cannot be registered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse

from analytics.accounts.model import Session, User
from analytics.accounts.rights import Membership, Right
from analytics.domain.model import Building, Organisation
from analytics.store.errors import NotFoundError
from analytics.web.portal.core import Portal
from analytics.web.portal.language import LANGUAGES, Language
from analytics.web.portal.security import cookie_name
from analytics.web.problems import ProblemError

DEFAULT_ZONE = ZoneInfo("Europe/Amsterdam")


class LoginNeededError(Exception):
    """Nobody is logged in: the browser is sent to the login page and comes back to ``path``."""

    def __init__(self, path: str) -> None:
        super().__init__("log in first")
        self.path = path


@dataclass(frozen=True, slots=True)
class Guest:
    """A person who is logged in, before it is known in which organisation they look."""

    user: User
    session: Session
    secret: str
    t: Language


@dataclass(frozen=True, slots=True)
class Visit:
    """A person in an organisation, with the right that the route asked for.

    Attributes:
        buildings: those they may see, by name.
    """

    user: User
    session: Session
    organisation: Organisation
    membership: Membership
    buildings: tuple[Building, ...]
    t: Language

    @property
    def org_id(self) -> str:
        return self.organisation.id

    @property
    def zone(self) -> ZoneInfo:
        return self.t.zone

    def may(self, right: Right, building_id: str | None = None) -> bool:
        """Whether the person holds a right here; templates hide what is refused."""
        return self.user.allows(right, self.org_id, building_id)

    def demand(self, right: Right, building_id: str | None = None) -> None:
        """Raises ProblemError 403."""
        if not self.may(right, building_id):
            raise forbidden()


def portal_of(request: Request) -> Portal:
    """The portal that serves a request."""
    portal = request.app.state.portal
    assert isinstance(portal, Portal)
    return portal


def language_of(request: Request, user: User | None, zone: ZoneInfo = DEFAULT_ZONE) -> Language:
    """The person's own language, else the browser's first that we speak."""
    if user is not None:
        return Language(user.language, zone)
    asked = (part.strip()[:2].lower() for part in request.headers.get("accept-language", "").split(","))
    return Language(next((code for code in asked if code in LANGUAGES), "nl"), zone)


def find_guest(request: Request) -> Guest | None:
    """Who is logged in, if anybody."""
    portal = portal_of(request)
    secret = request.cookies.get(cookie_name(portal.https), "")
    found = portal.people.authenticate(secret)
    if found is None:
        return None
    user, session = found
    return Guest(user, session, secret, language_of(request, user))


def guest(request: Request) -> Guest:
    """Dependency of pages for anybody who is logged in."""
    found = find_guest(request)
    if found is None:
        query = f"?{request.url.query}" if request.url.query else ""
        raise LoginNeededError(request.url.path + query if request.method == "GET" else "/")
    return found


@cache  # one callable a right: the framework then finds out once a request, however many ask
def visitor(right: Right) -> Callable[[Request, str], Visit]:
    """Dependency of pages in an organisation (``org_id`` in the path) that need a right.

    An organisation that does not exist and one where the person has no rights look the same: 404.
    """

    def depend(request: Request, org_id: str) -> Visit:
        who = guest(request)
        membership = who.user.membership(org_id)
        if membership is None:
            raise ProblemError(404, "not-found", who.t("There is no such page."))
        if not membership.allows(right):
            raise forbidden()
        store = portal_of(request).store
        try:
            organisation = store.organisation(org_id)
        except NotFoundError:
            raise ProblemError(404, "not-found", who.t("There is no such page.")) from None
        buildings = {building.id: building for building in store.buildings(org_id)}
        seen = sorted((buildings[b] for b in membership.visible(buildings)), key=lambda b: b.name.casefold())
        t = Language(who.user.language, ZoneInfo(organisation.time_zone))
        return Visit(who.user, who.session, organisation, membership, tuple(seen), t)

    return depend


def forbidden() -> ProblemError:
    """What everybody gets who may not."""
    return ProblemError(403, "forbidden", "you have no right to do this; ask your controller")


PUBLIC = "public"
LOGGED_IN = "logged in"


class Pages:
    """A router whose routes all say who may use them: a right, ``LOGGED_IN`` or ``PUBLIC``.

    ``rules`` lists (method, path, rule), which the access test walks through.
    """

    def __init__(self) -> None:
        self.router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
        self.rules: list[tuple[str, str, Right | str]] = []

    def get(self, path: str, rule: Right | str, **options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        return self._route("GET", path, rule, options)

    def post(self, path: str, rule: Right | str, **options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        return self._route("POST", path, rule, options)

    def _route(
        self, method: str, path: str, rule: Right | str, options: dict[str, Any]
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        if isinstance(rule, Right):
            if "{org_id}" not in path:
                raise ValueError(f"{path}: a right is held in an organisation, so the path must name one")
            options["dependencies"] = [*options.get("dependencies", ()), Depends(visitor(rule))]
        elif rule == LOGGED_IN:
            options["dependencies"] = [*options.get("dependencies", ()), Depends(guest)]
        elif rule != PUBLIC:
            raise ValueError(f"{path}: unknown rule {rule!r}")
        self.rules.append((method, path, rule))
        return self.router.api_route(path, methods=[method], **options)
