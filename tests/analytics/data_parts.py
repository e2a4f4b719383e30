"""A small simulated organisation behind the whole application, and people of every role who are logged in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient

from analytics import rollups
from analytics.accounts.rights import Membership, Role
from analytics.domain.model import Building, Organisation, Room
from analytics.service_keys import ServiceKeys
from analytics.settings import ServiceSettings
from analytics.simulate import Campus, populate
from analytics.store.sqlite import SqliteStore
from analytics.web.app import Services, create_app
from analytics.web.portal.core import Portal

ORG = "sim-campus"
PASSWORD = "a bicycle on the canal"
CAMPUS = Campus(rooms=6, weeks=1, seed=6)
NOW = datetime(2026, 9, 11, 13, 0, tzinfo=UTC)  # the Friday of the simulated week
ORIGIN = "http://testserver"


@dataclass
class World:
    """The application and who is logged in."""

    app: FastAPI
    portal: Portal
    services: Services
    people: dict[str, TestClient] = field(default_factory=dict)

    @property
    def store(self) -> SqliteStore:
        assert isinstance(self.portal.store, SqliteStore)
        return self.portal.store

    def stranger(self, **headers: str) -> TestClient:
        return TestClient(self.app, base_url=ORIGIN, follow_redirects=False, headers=headers)

    def as_(self, role: str, **membership: Any) -> TestClient:
        """A browser of somebody with this role; ``membership`` narrows or widens it."""
        key = f"{role} {sorted(membership.items())!r}"
        if key not in self.people:
            chief = self.portal.people.by_email("chief@campus.example")
            assert chief is not None
            mail = f"{len(self.people)}@campus.example"
            handout = self.portal.people.invite(chief, mail, Membership(ORG, Role(role), **membership))
            self.portal.people.accept(handout.secret, PASSWORD, email=mail, name=role.title())
            client = self.stranger(accept="text/html")
            assert client.post("/login", data={"email": mail, "password": PASSWORD}).status_code == 303
            self.people[key] = client
        return self.people[key]

    def actions(self) -> list[str]:
        return [entry.action for entry in self.portal.audit.entries(ORG)]


@contextmanager
def world(folder: Path, campus: Campus | None = CAMPUS, now: datetime = NOW) -> Iterator[World]:
    """The application on an embedded store in `folder`; ``campus`` None: an organisation without anything."""
    keys = ServiceKeys.create()
    settings = ServiceSettings(data=folder)
    with SqliteStore.open(folder / "headroom.db", keys.store) as store:
        store.put_organisation(Organisation("default", "default"))
        store.put_organisation(Organisation(ORG, "Campus", language="en"))
        if campus is not None:
            populate(store, campus, ORG)
            while rollups.refresh(store, ORG).behind:
                pass
        store.put_buildings("default", [Building("default", "else", "Elsewhere")])
        store.put_rooms("default", [Room("default", "else-1", "else", "1")])
        services = Services.build(settings, store, keys)
        portal = Portal.build(store, keys.store, clock=lambda: now)
        portal.people.accept(portal.people.first_link(ORG).secret, PASSWORD, email="chief@campus.example", name="Chief")
        services = replace(services, portal=portal)
        made = World(create_app(settings, store, services), portal, services)
        chief = made.stranger(accept="text/html")
        assert chief.post("/login", data={"email": "chief@campus.example", "password": PASSWORD}).status_code == 303
        chief.post("/account/language", data={"language": "en"})
        made.people["controller []"] = chief
        yield made
        services.close()
