"""``headroom service user link``: back in for whoever has the service's folder, once, and on the record."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyotp
import pytest
from click.testing import CliRunner

from analytics.accounts.errors import LinkError, LoginError, SecondFactorNeededError
from analytics.accounts.model import User
from analytics.accounts.rights import Membership, Role
from analytics.cli.service import service
from analytics.domain.model import Organisation
from analytics.enrolment import AdministrationError
from analytics.login_desk import ACTOR, DirectLogins, LinkOrder
from analytics.runtime import open_store
from analytics.service_keys import ServiceKeys, load_or_create
from analytics.settings import load_settings
from analytics.store.sqlite import SqliteStore
from analytics.web.portal.core import Portal
from tests.analytics.service_parts import bench
from tests.bench._service import start

OLD, NEW = "the old set of words", "a new set of other words"
MAIL = "chief@campus.example"


class World:
    """A portal's accounts on a real store, with a clock by hand and one controller."""

    def __init__(self, store: SqliteStore) -> None:
        self.now = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
        store.put_organisation(Organisation("campus", "Campus"))
        self.portal = Portal.build(store, b"\x01" * 32, clock=lambda: self.now)
        self.people = self.portal.people
        self.chief = self.people.accept(self.people.first_link("campus").secret, OLD, name="Chief", email=MAIL)
        self.desk = DirectLogins(self.people, "https://rooms.example.org/")

    def link(self, email: str = MAIL, *, second_factor_off: bool = False) -> str:
        """The secret of a new link."""
        made = self.desk.link(LinkOrder(email=email, second_factor_off=second_factor_off))
        assert made.expires_at - self.now == timedelta(hours=1)
        address, _, secret = made.link.rpartition("/")
        assert address == "https://rooms.example.org/invitation"
        assert secret not in repr(made)
        return secret

    def with_second_factor(self) -> str:
        secret = self.people.own.new_totp()
        self.people.own.enable_totp(self.chief, secret, pyotp.TOTP(secret).at(self.now))
        self.now += timedelta(minutes=1)
        return secret


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with SqliteStore.open(tmp_path / "headroom.db", b"\x01" * 32) as store:
        yield World(store)


def test_the_only_controller_is_back_and_it_is_on_the_record(world: World) -> None:
    session, _ = world.people.login(MAIL, OLD)
    secret = world.link("Chief@Campus.example")
    world.people.login(MAIL, OLD)  # a link that nobody uses changes nothing
    back: User = world.people.accept(secret, NEW)
    assert (back.id, back.memberships) == (world.chief.id, (Membership("campus", Role.CONTROLLER),))
    assert world.people.authenticate(session) is None
    world.people.login(MAIL, NEW)
    with pytest.raises(LoginError):
        world.people.login(MAIL, OLD)
    with pytest.raises(LinkError):
        world.people.accept(secret, "yet another set of words")
    ordered = next(e for e in world.portal.audit.entries("campus") if e.action == "user.reset-link")
    assert (ordered.actor, ordered.detail) == (ACTOR, {"user": world.chief.id, "second_factor_off": False})
    assert "user.reset-password" in {entry.action for entry in world.portal.audit.entries("campus")}
    assert world.portal.audit.verify("campus") is None


def test_the_second_factor_stays_unless_the_order_says_otherwise(world: World) -> None:
    totp = world.with_second_factor()
    world.people.accept(world.link(), NEW)
    with pytest.raises(SecondFactorNeededError):
        world.people.login(MAIL, NEW)
    secret = world.link(second_factor_off=True)
    world.people.login(MAIL, NEW, totp=pyotp.TOTP(totp).at(world.now))  # it holds until the link is used
    world.people.accept(secret, OLD)
    world.people.login(MAIL, OLD)
    assert "user.totp-off" in {entry.action for entry in world.portal.audit.entries("campus")}


def test_a_link_lives_an_hour_and_a_newer_one_ends_it(world: World) -> None:
    first = world.link()
    second = world.link()
    with pytest.raises(LinkError):
        world.people.look(first)
    world.now += timedelta(minutes=61)
    with pytest.raises(LinkError):
        world.people.accept(second, NEW)
    invited = world.people.invite(world.chief, "new@campus.example", Membership("campus", Role.VIEWER))
    world.link()
    assert world.people.look(invited.secret).email == "new@campus.example"  # others' links are left alone


@pytest.mark.parametrize("email", ["nobody@campus.example", "", "campus"])
def test_there_must_be_an_account(world: World, email: str) -> None:
    before = world.portal.audit.entries("campus")
    with pytest.raises(AdministrationError, match="no open account"):
        world.link(email)
    assert world.portal.audit.entries("campus") == before


def invoke(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(service, ["user", "link", *arguments])
    assert done.exit_code == code, done.output
    return done.stdout if code == 0 else done.output


def test_the_command_without_a_running_service_and_beside_one(tmp_path: Path) -> None:
    where = ["--data", str(tmp_path / "service")]
    assert "headroom serve" in invoke(MAIL, *where, code=1)
    assert not (tmp_path / "service").exists()  # a mistyped folder stays away
    load_or_create(tmp_path / "service", tmp_path / "service" / "keys")
    (tmp_path / "service" / "service.toml").write_text('public_url = "https://rooms.example.org"\n')
    settings = load_settings(tmp_path / "service")
    keys = ServiceKeys.load(settings.keys)
    with open_store(settings, keys) as store:
        store.put_organisation(Organisation("default", "default"))
        people = Portal.build(store, keys.store).people
        people.accept(people.first_link("default").secret, OLD, name="Chief", email=MAIL)
    assert "no open account" in invoke("x@campus.example", *where, code=1)
    shown = invoke(MAIL, "--second-factor-off", *where)
    assert "https://rooms.example.org/invitation/" in shown
    assert "second factor off" in shown

    (tmp_path / "service" / "service.toml").write_text("")
    port, process = start(settings.model_copy(update={"public_url": None}))
    try:
        assert stat.S_IMODE((tmp_path / "service" / "admin.sock").stat().st_mode) == 0o600
        assert "no open account" in invoke("x@campus.example", *where, code=1)
        document = json.loads(invoke(MAIL, *where, "--json"))
        assert document["link"].startswith(f"http://127.0.0.1:{port}/invitation/")
        assert document["second_factor_off"] is False
    finally:
        process.terminate()
        assert process.wait(20) == 0
    with open_store(settings, keys) as store:
        people = Portal.build(store, keys.store).people
        people.accept(document["link"].rpartition("/")[2], NEW)
        people.login(MAIL, NEW)


def test_the_order_is_not_to_be_had_over_the_network(tmp_path: Path) -> None:
    with bench(tmp_path) as parts:
        assert parts.client.post("/logins/link", json={"email": MAIL}).status_code == 404
