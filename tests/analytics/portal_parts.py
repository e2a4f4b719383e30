"""A simulated organisation behind the portal, and people who may see different things of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path

from fastapi import FastAPI
from fastapi.testclient import TestClient

from analytics.accounts.model import User, user_value
from analytics.accounts.rights import Membership, Right, Role
from analytics.domain.model import Building, Organisation, Room
from analytics.rollups import refresh
from analytics.simulate.campus import Campus
from analytics.simulate.store import populate
from analytics.store.kept import INSTALLATION
from analytics.store.sqlite import SqliteStore
from analytics.web.portal.core import Portal
from analytics.web.portal.mount import mount_portal
from analytics.web.portal.pages.figures_cache import FreshCache
from analytics.web.portal.security import cookie_name
from analytics.web.problems import add_problem_handlers

MASTER = bytes(range(32))
PASSWORD = "a bicycle on the canal"
ORG = "simulated-campus"
FIRST = date(2026, 9, 7)
NOW = datetime(2026, 9, 30, 8, 20, tzinfo=UTC)
"""A Wednesday in the fourth week, 10:20 in Amsterdam."""


@dataclass
class Site:
    """A portal over a simulated organisation; ``now`` is its clock."""

    store: SqliteStore
    portal: Portal
    app: FastAPI
    now: datetime = NOW
    known: dict[object, TestClient] = field(default_factory=dict)

    def person(
        self, role: Role = Role.CONTROLLER, *, buildings: frozenset[str] = frozenset(),
        extra: frozenset[Right] = frozenset(), without: frozenset[Right] = frozenset(), language: str = "en",
        org: str = ORG,
    ) -> TestClient:  # fmt: skip
        """Somebody who is logged in; the same person for the same rights."""
        key = (role, buildings, extra, without, language, org)
        if key not in self.known:
            self.known[key] = self._new(role, buildings, extra, without, language, org)
        return self.known[key]

    def _new(
        self, role: Role, buildings: frozenset[str], extra: frozenset[Right], without: frozenset[Right], language: str,
        org: str,
    ) -> TestClient:  # fmt: skip
        people = self.portal.people
        email = f"u{len(people.members(org))}.{org}@campus.example"
        handout = people.invite(self.chief(org), email, Membership(org, role, buildings, extra, without))
        user = people.accept(handout.secret, PASSWORD, name=f"{role.value} person")
        people.own.set_language(user, language)
        secret, _ = people.login(email, PASSWORD)
        client = TestClient(self.app, follow_redirects=False, headers={"accept": "text/html"})
        client.cookies.set(cookie_name(False), secret)
        return client

    def chief(self, org: str) -> User:
        return next(
            user
            for user in self.portal.people.members(org)
            if (m := user.membership(org)) and m.role is Role.CONTROLLER and not m.buildings
        )


@contextmanager
def simulated_site(folder: Path, rooms: int = 6, weeks: int = 4, *, background: bool = False) -> Iterator[Site]:
    """Rooms with four weeks of counts and bookings, judged up to date; and an organisation with nothing at all."""
    with SqliteStore.open(folder / "portal.db", MASTER) as store:
        populate(store, Campus(rooms=rooms, weeks=weeks, first=FIRST), ORG)
        while refresh(store, ORG).behind:
            pass
        store.put_organisation(Organisation("empty", "Empty"))
        store.put_organisation(Organisation("other", "Other"))
        store.put_buildings("other", [Building("other", "elsewhere", "Elsewhere")])
        store.put_rooms("other", [Room("other", "far", "elsewhere", "1")])
        app = FastAPI(docs_url=None, redoc_url=None)
        site = Site(store, None, app)  # type: ignore[arg-type]
        portal = site.portal = Portal.build(store, MASTER, clock=lambda: site.now)
        handout = portal.people.first_link(ORG)
        portal.people.accept(handout.secret, PASSWORD, email="chief@campus.example", name="Chief")
        chief = portal.people.members(ORG)[0]
        for org in ("empty", "other"):
            chief = chief.with_membership(Membership(org, Role.CONTROLLER))
        portal.keep.put("user", INSTALLATION, chief.id, user_value(chief), replaces=chief.version)
        add_problem_handlers(app)
        mount_portal(app, portal)
        app.state.figure_cache = FreshCache(background=background)
        yield site
