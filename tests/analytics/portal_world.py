"""A whole service in the test's own process with two organisations and somebody of each kind, for access and security.

One organisation is a small simulated campus up to this moment, whose rooms, events and people bear hostile names.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient

from analytics.accounts.rights import Membership, Right, Role
from analytics.demo.campus import ORGANISATION, ROOM, build
from analytics.domain.model import Building, Capacity, Organisation, PlannedBooking, Room
from analytics.service_keys import ServiceKeys
from analytics.settings import ServiceSettings
from analytics.store.sqlite import SqliteStore
from analytics.web.app import Services, create_app

ORG = ORGANISATION
OTHER = "elsewhere"
OTHER_ROOM = "elsewhere-1"
PASSWORD = "a bicycle on the canal"
SCRIPT = "<script>alert(1)</script>"
IMAGE = '"><img src=x onerror=alert(2)>'
FORMULA = '=HYPERLINK("http://evil.example","click")'
BOOKER = "Quirina Zonnevanck"
PAGE = {"accept": "text/html"}

# Who there is: somebody of each role, somebody of one building alone, and the chief of another organisation.
ROLES = tuple(role.value for role in Role)
NARROW = "viewer-of-one-building"
STRANGER = "stranger"
NOBODY = "nobody"
MEMBERS = (*ROLES, NARROW)


@dataclass
class World:
    """The service and its people. ``sessions`` holds the cookie's secret of each actor."""

    services: Services
    app: FastAPI
    sessions: dict[str, str]
    user_ids: dict[str, str]
    memberships: dict[str, Membership]
    now: datetime

    def client(self, actor: str = NOBODY, *, page: bool = True) -> TestClient:
        """A browser (``page``) or program in which an actor is logged in."""
        client = TestClient(
            self.app,
            base_url="http://127.0.0.1:8400",
            follow_redirects=False,
            headers=PAGE if page else {"accept": "application/json"},
            raise_server_exceptions=False,
        )
        if actor != NOBODY:
            client.cookies.set("headroom", self.sessions[actor])
        return client

    def login(self, actor: str) -> str:
        """A new session's secret."""
        secret, _ = self.services.portal.people.login(f"{actor}@campus.example", PASSWORD)
        self.sessions[actor] = secret
        return secret


@contextmanager
def world(folder: Path, *, rooms: int = 4, weeks: int = 2, **more: Any) -> Iterator[World]:
    """Build it in ``folder``; ``more`` are settings of the service."""
    settings = ServiceSettings(data=folder, organisation=ORG, **more)
    keys = ServiceKeys.create()
    now = datetime.now(UTC)
    with SqliteStore.open(folder / "headroom.db", keys.store) as store:
        build(store, now, rooms, weeks)
        _hostile_names(store, now)
        store.put_organisation(Organisation(OTHER, "Elsewhere"))
        store.put_buildings(OTHER, [Building(OTHER, "house", "House")])
        capacity = (Capacity(now.date() - timedelta(days=99), 10),)
        store.put_rooms(OTHER, [Room(OTHER, OTHER_ROOM, "house", "1", "Room of the others", capacity)])
        services = Services.build(settings, store, keys)
        app = create_app(settings, store, services)
        made = World(services, app, {}, {}, _memberships(store), now)
        _people(made)
        yield made
        services.close()


def _memberships(store: SqliteStore) -> dict[str, Membership]:
    found = {role.value: Membership(ORG, role) for role in Role}
    found[NARROW] = Membership(ORG, Role.VIEWER, frozenset({store.room(ORG, ROOM).building_id}))
    found[STRANGER] = Membership(OTHER, Role.CONTROLLER)
    return found


def _people(made: World) -> None:
    """Accounts straight into the accounts' service; their names are markup."""
    people = made.services.portal.people
    chief = people.accept(
        people.first_link(ORG).secret, PASSWORD, email="controller@campus.example", name=f"Chief {SCRIPT}"
    )
    everything = replace(chief, memberships=tuple(_all_rights(org) for org in (ORG, OTHER)))
    made.user_ids["controller"] = chief.id
    for actor, membership in made.memberships.items():
        if actor not in made.user_ids:
            secret = people.invite(everything, f"{actor}@campus.example", membership).secret
            made.user_ids[actor] = people.accept(secret, PASSWORD, name=f"{actor} {IMAGE}").id
        made.login(actor)


def _all_rights(org_id: str) -> Membership:
    return Membership(org_id, Role.CONTROLLER, extra=frozenset(Right))


def _hostile_names(store: SqliteStore, now: datetime) -> None:
    """Names as somebody would write them into a scheduling system to reach whoever reads the figures."""
    rooms = store.rooms(ORG)
    store.put_buildings(ORG, [replace(b, name=f"{b.name} {SCRIPT}") for b in store.buildings(ORG)])
    store.put_rooms(
        ORG, [replace(room, name=f"{FORMULA} {IMAGE}", number=f"@SUM(1){room.number}{SCRIPT}") for room in rooms]
    )
    hour = now.replace(minute=0, second=0, microsecond=0)
    begins = [hour - timedelta(days=day, hours=1) for day in (0, 1, 2, 3, 7, 8)]
    bookings = [
        PlannedBooking(
            source="hostile", source_id=f"{room.id}-{number}", start=begin, end=begin + timedelta(hours=3),
            room_id=room.id, room_ref=room.id, title=f"{FORMULA}{SCRIPT}{IMAGE}", expected_size=3,
            booked_by=BOOKER, series=f"{room.id}-hostile",
        )
        for room in rooms
        for number, begin in enumerate(begins)
    ]  # fmt: skip
    window = (hour - timedelta(days=20), hour + timedelta(days=20))
    store.replace_bookings(ORG, "hostile", window, bookings, now - timedelta(days=15))
