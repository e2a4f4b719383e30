"""Personal logins, rights, links that work once, tokens, shares and the audit log."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyotp
import pytest

from analytics.accounts.audit import AuditLog
from analytics.accounts.errors import (
    AccountError,
    CodeError,
    ForbiddenError,
    LinkError,
    LoginError,
    SecondFactorNeededError,
    TooManyAttemptsError,
    WeakPasswordError,
)
from analytics.accounts.model import User
from analytics.accounts.people import People
from analytics.accounts.rights import ROLES, Membership, Right, Role
from analytics.accounts.secrets import hash_password, verify_password
from analytics.accounts.sessions import IDLE, LONGEST
from analytics.accounts.shares import Shares
from analytics.accounts.throttle import Throttle
from analytics.accounts.tokens import MACHINE_RIGHTS, Tokens
from analytics.store.kept import SealedKeep
from analytics.store.sqlite import SqliteStore

MASTER = bytes(range(32))
PASSWORD = "a bicycle on the canal"
ORG = "campus"


class World:
    """The account services on one store, with a clock that the test moves."""

    def __init__(self, store: Any) -> None:
        self.now = datetime(2026, 3, 2, 8, tzinfo=UTC)
        self.store = store
        self.keep = SealedKeep(store, MASTER)
        self.audit = AuditLog(self.keep)
        seconds = lambda: self.now.timestamp()  # noqa: E731
        self.people = People(
            self.keep,
            self.audit,
            MASTER,
            clock=lambda: self.now,
            by_account=Throttle(5, 10, clock=seconds),
            by_address=Throttle(30, 60, clock=seconds),
        )
        self.tokens = Tokens(self.keep, self.audit, lambda: self.now)
        self.shares = Shares(self.keep, self.audit, self.people, lambda: self.now)
        self._numbers = itertools.count()

    def controller(self, org: str = ORG) -> User:
        if self.people.nobody_yet():
            return self.people.accept(self.people.first_link(org).secret, PASSWORD, email="chief@campus.example")
        handout = self.people._links.hand_out(Membership(org, Role.CONTROLLER), timedelta(hours=1))
        return self.people.accept(handout.secret, PASSWORD, email=f"chief@{org}.example")

    def member(self, actor: User, role: Role, **options: Any) -> User:
        email = f"person{next(self._numbers)}@campus.example"
        handout = self.people.invite(actor, email, Membership(ORG, role, **options))
        return self.people.accept(handout.secret, PASSWORD)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with SqliteStore.open(tmp_path / "store.db", MASTER) as store:
        yield World(store)


def test_the_first_link_works_once_and_only_while_there_is_nobody(world: World) -> None:
    old = world.people.first_link(ORG)
    link = world.people.first_link(ORG)
    with pytest.raises(LinkError):
        world.people.accept(old.secret, PASSWORD, email="x@campus.example")
    chief = world.people.accept(link.secret, PASSWORD, email="chief@campus.example")
    assert chief.allows(Right.MANAGE_USERS, ORG)
    assert not chief.allows(Right.SEE_BOOKERS, ORG)
    with pytest.raises(LinkError):
        world.people.accept(link.secret, PASSWORD, email="other@campus.example")
    with pytest.raises(ForbiddenError):
        world.people.first_link(ORG)


def test_of_many_who_use_one_link_at_once_one_gets_in(world: World) -> None:
    chief = world.controller()
    link = world.people.invite(chief, "", Membership(ORG, Role.VIEWER))

    def take(number: int) -> bool:
        try:
            world.people.accept(link.secret, PASSWORD, email=f"p{number}@campus.example")
        except AccountError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(take, range(8))) == 1
    assert len(world.people.members(ORG)) == 2


def test_a_verification_code_is_demanded_and_its_tries_are_bounded(world: World) -> None:
    chief = world.controller()
    link = world.people.invite(chief, "new@campus.example", Membership(ORG, Role.VIEWER), with_code=True)
    assert link.code is not None
    for left in (4, 3, 2, 1, 0):
        with pytest.raises(CodeError, match=f"{left} tries"):
            world.people.accept(link.secret, PASSWORD, code="AAAA-AAAA")
    with pytest.raises(LinkError):
        world.people.accept(link.secret, PASSWORD, code=link.code)
    link = world.people.invite(chief, "new@campus.example", Membership(ORG, Role.VIEWER), with_code=True)
    assert link.code is not None
    assert (
        world.people.accept(link.secret, PASSWORD, code=link.code.lower().replace("-", " ")).email
        == "new@campus.example"
    )


def test_links_expire_and_can_be_withdrawn(world: World) -> None:
    chief = world.controller()
    link = world.people.invite(chief, "a@campus.example", Membership(ORG, Role.VIEWER))
    world.now += timedelta(days=8)
    with pytest.raises(LinkError):
        world.people.accept(link.secret, PASSWORD)
    link = world.people.invite(chief, "b@campus.example", Membership(ORG, Role.VIEWER))
    (invitation,) = world.people.invitations(ORG)
    world.people.withdraw(chief, ORG, invitation.id)
    with pytest.raises(LinkError):
        world.people.accept(link.secret, PASSWORD)


def test_an_invitation_never_replaces_the_password_of_an_account_that_exists(world: World) -> None:
    chief = world.controller()
    link = world.people.invite(chief, chief.email.upper(), Membership(ORG, Role.VIEWER))
    with pytest.raises(LoginError, match="present password"):
        world.people.accept(link.secret, "somebody else's words")
    assert world.people.login(chief.email, PASSWORD)[1].id == chief.id


@pytest.mark.parametrize(
    ("password", "reason"),
    [("short", "12 to 256"), ("password1234", "tried first"), ("aaaaaaaaaaaa", "different"), ("x" * 300, "12 to 256"),
     ("chief of the campus", "mail address"), ("welkom welkom", "tried first")],
)  # fmt: skip
def test_weak_passwords_are_refused_and_use_up_nothing(world: World, password: str, reason: str) -> None:
    link = world.people.first_link(ORG)
    with pytest.raises(WeakPasswordError, match=reason):
        world.people.accept(link.secret, password, email="chief@campus.example")
    assert world.people.accept(link.secret, PASSWORD, email="chief@campus.example")


def test_passwords_are_argon2id_and_are_hashed_again_when_parameters_change() -> None:
    from argon2 import PasswordHasher

    assert hash_password(PASSWORD).startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    ok, renewed = verify_password(PasswordHasher(time_cost=1, memory_cost=8192).hash(PASSWORD), PASSWORD)
    assert ok and renewed is not None and renewed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")


def test_login_says_the_same_for_unknown_addresses_and_wrong_passwords(world: World) -> None:
    chief = world.controller()
    messages = []
    for email, password in ((chief.email, "not the right words"), ("nobody@campus.example", PASSWORD)):
        with pytest.raises(LoginError) as caught:
            world.people.login(email, password)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_guessing_is_slowed_down_per_account_and_per_address_and_never_locks_for_good(world: World) -> None:
    chief = world.controller()
    for _ in range(5):
        with pytest.raises(LoginError):
            world.people.login(chief.email, "wrong wrong wrong", address="192.0.2.1")
    with pytest.raises(TooManyAttemptsError) as caught:
        world.people.login(chief.email, PASSWORD, address="192.0.2.2")
    assert 0 < caught.value.retry_after <= 360
    world.now += timedelta(seconds=caught.value.retry_after + 1)
    world.people.login(chief.email, PASSWORD, address="192.0.2.2")
    for number in range(30):
        with pytest.raises(LoginError):
            world.people.login(f"n{number}@campus.example", PASSWORD, address="192.0.2.1")
    with pytest.raises(TooManyAttemptsError):
        world.people.login("someone@campus.example", PASSWORD, address="192.0.2.1")


def test_sessions_end_by_idling_by_age_by_logout_and_everywhere(world: World) -> None:
    chief = world.controller()
    secret, _ = world.people.login(chief.email, PASSWORD)
    world.now += IDLE - timedelta(seconds=1)
    assert world.people.authenticate(secret) is not None
    world.now += IDLE
    assert world.people.authenticate(secret) is None
    secret, _ = world.people.login(chief.email, PASSWORD)
    for _ in range(int(LONGEST / IDLE) * 2):
        world.now += IDLE / 2
        last = world.people.authenticate(secret)
    assert last is None
    first, second = (world.people.login(chief.email, PASSWORD)[0] for _ in range(2))
    world.people.logout(first)
    assert world.people.authenticate(first) is None
    assert world.people.end_sessions(chief.id) == 1
    assert world.people.authenticate(second) is None


def test_a_rotated_session_has_another_secret_and_the_old_one_is_dead(world: World) -> None:
    chief = world.controller()
    old, _ = world.people.login(chief.email, PASSWORD)
    new = world.people.rotate(old)
    assert world.people.authenticate(old) is None
    assert world.people.authenticate(new) is not None


def test_the_second_factor_is_asked_for_and_each_code_works_once(world: World) -> None:
    chief = world.controller()
    secret = world.people.own.new_totp()
    world.people.own.enable_totp(chief, secret, pyotp.TOTP(secret).at(world.now))
    with pytest.raises(SecondFactorNeededError):
        world.people.login(chief.email, PASSWORD)
    with pytest.raises(LoginError, match="used already"):
        world.people.login(chief.email, PASSWORD, totp=pyotp.TOTP(secret).at(world.now))
    world.now += timedelta(seconds=30)
    code = pyotp.TOTP(secret).at(world.now)
    world.people.login(chief.email, PASSWORD, totp=f"{code[:3]} {code[3:]}")
    with pytest.raises(LoginError):
        world.people.login(chief.email, PASSWORD, totp=code)


def test_a_reset_link_changes_the_password_and_ends_every_session(world: World) -> None:
    chief = world.controller()
    viewer = world.member(chief, Role.VIEWER)
    session, _ = world.people.login(viewer.email, PASSWORD)
    link = world.people.reset_link(chief, viewer.id, ORG)
    world.people.accept(link.secret, "another set of words")
    assert world.people.authenticate(session) is None
    world.people.login(viewer.email, "another set of words")
    with pytest.raises(LoginError):
        world.people.login(viewer.email, PASSWORD)


@pytest.mark.parametrize("role", [role for role in Role if Right.MANAGE_USERS not in ROLES[role]])
def test_only_who_sets_rights_can_invite_change_reset_or_remove(world: World, role: Role) -> None:
    chief = world.controller()
    member = world.member(chief, role)
    attempts = [
        lambda: world.people.invite(member, "x@campus.example", Membership(ORG, Role.VIEWER)),
        lambda: world.people.set_membership(member, member.id, Membership(ORG, Role.CONTROLLER)),
        lambda: world.people.reset_link(member, chief.id, ORG),
        lambda: world.people.remove_member(member, chief.id, ORG),
        lambda: world.tokens.create(member, ORG, "t", [Right.SEE_FIGURES]),
        lambda: world.shares.offer(member, ORG, ["main"], "x", days=1),
    ]
    for attempt in attempts:
        with pytest.raises(ForbiddenError):
            attempt()


def test_nobody_gives_what_they_do_not_hold_save_the_right_to_see_bookers(world: World) -> None:
    chief = world.controller()
    deputy = world.member(chief, Role.VIEWER, extra=frozenset({Right.MANAGE_USERS}))
    with pytest.raises(ForbiddenError, match="do not have yourself"):
        world.people.invite(deputy, "x@campus.example", Membership(ORG, Role.CONTROLLER))
    viewer = world.member(chief, Role.VIEWER)
    named = Membership(ORG, Role.VIEWER, extra=frozenset({Right.SEE_BOOKERS}))
    assert world.people.set_membership(chief, viewer.id, named).allows(Right.SEE_BOOKERS, ORG)


def test_changed_rights_end_the_sessions_that_had_the_old_ones(world: World) -> None:
    chief = world.controller()
    viewer = world.member(chief, Role.TIMETABLER)
    session, _ = world.people.login(viewer.email, PASSWORD)
    world.people.set_membership(chief, viewer.id, Membership(ORG, Role.VIEWER))
    assert world.people.authenticate(session) is None


def test_the_last_controller_stays(world: World) -> None:
    chief = world.controller()
    with pytest.raises(ForbiddenError, match="somebody has to remain"):
        world.people.set_membership(chief, chief.id, Membership(ORG, Role.VIEWER))
    with pytest.raises(ForbiddenError, match="somebody has to remain"):
        world.people.remove_member(chief, chief.id, ORG)


def test_rights_are_per_building_and_per_organisation(world: World) -> None:
    membership = Membership(ORG, Role.CONTROLLER, buildings=frozenset({"main"}))
    user = User("u", "x@campus.example", "X", None, world.now, (membership,))
    assert user.allows(Right.SEE_FIGURES, ORG, "main")
    assert not user.allows(Right.SEE_FIGURES, ORG, "west")
    assert not user.allows(Right.MANAGE_USERS, ORG)  # reaches over all buildings
    assert not user.allows(Right.SEE_FIGURES, "other", "main")
    assert membership.visible(["west", "main"]) == ["main"]
    assert not replace(user, disabled=True).allows(Right.SEE_FIGURES, ORG, "main")


def test_an_actor_of_one_organisation_reaches_nobody_of_another(world: World) -> None:
    chief = world.controller()
    other = world.controller("other")
    for attempt in (
        lambda: world.people.set_membership(chief, other.id, Membership("other", Role.VIEWER)),
        lambda: world.people.reset_link(chief, other.id, ORG),
        lambda: world.people.reset_link(chief, other.id, "other"),
        lambda: world.people.remove_member(chief, other.id, ORG),
    ):
        with pytest.raises(ForbiddenError):
            attempt()


def test_tokens_read_and_expire_and_are_withdrawn(world: World) -> None:
    chief = world.controller()
    secret = world.tokens.create(chief, ORG, "BI", [Right.SEE_FIGURES], buildings=["main"], days=30)
    token = world.tokens.authenticate(secret)
    assert token is not None
    assert token.allows(Right.SEE_FIGURES, ORG, "main")
    assert not token.allows(Right.SEE_FIGURES, ORG, "west")
    assert not token.allows(Right.EXPORT, ORG)
    for right in set(Right) - MACHINE_RIGHTS:
        with pytest.raises(ForbiddenError):
            world.tokens.create(chief, ORG, "x", [right])
    world.tokens.withdraw(chief, ORG, token.id)
    assert world.tokens.authenticate(secret) is None
    short = world.tokens.create(chief, ORG, "short", [Right.SEE_FIGURES], days=1)
    world.now += timedelta(days=1)
    assert world.tokens.authenticate(short) is None


def test_a_share_is_activated_once_demands_the_pin_and_is_seen_in_both_logs(world: World) -> None:
    chief, other = world.controller(), world.controller("other")
    offer = world.shares.offer(chief, ORG, ["main"], "for the city", days=30, demands_pin=True)
    share = world.shares.activate(other, "other", offer.secret)
    with pytest.raises(LinkError):
        world.shares.activate(other, "other", offer.secret)
    other = world.people.own.set_pin(other, PASSWORD, "4711")
    with pytest.raises(CodeError):
        world.shares.look(other, "other", share.id, pin="0000")
    assert world.shares.look(other, "other", share.id, pin="4711").buildings == {"main"}
    ours = [entry for entry in world.audit.entries(ORG) if entry.action == "share.look"]
    theirs = [entry for entry in world.audit.entries("other") if entry.action == "share.look"]
    assert [entry.actor for entry in ours] == ["organisation other"]
    assert [entry.actor for entry in theirs] == [other.id]
    with pytest.raises(ForbiddenError):
        world.shares.look(chief, ORG, share.id)
    world.shares.withdraw(chief, ORG, share.id)
    with pytest.raises(ForbiddenError):
        world.shares.look(other, "other", share.id, pin="4711")


def test_a_share_ends_by_itself_and_is_not_for_its_giver(world: World) -> None:
    chief, other = world.controller(), world.controller("other")
    offer = world.shares.offer(chief, ORG, ["main"], "x", days=3)
    with pytest.raises(ForbiddenError):
        world.shares.activate(chief, ORG, offer.secret)
    share = world.shares.activate(other, "other", offer.secret)
    assert world.shares.look(other, "other", share.id).from_org == ORG
    world.now += timedelta(days=3)
    with pytest.raises(ForbiddenError):
        world.shares.look(other, "other", share.id)


def test_the_audit_chain_shows_what_was_touched(world: World) -> None:
    for number in range(5):
        world.audit.record(ORG, "somebody", "export", {"rows": number}, at=world.now)
    assert world.audit.verify(ORG) is None
    kept = world.keep.get("audit", ORG, "000000000003")
    assert kept is not None
    world.keep.put("audit", ORG, kept.id, {**kept.value, "detail": {"rows": 0}}, replaces=kept.version)
    assert world.audit.verify(ORG) == 3
    world.keep.remove("audit", ORG, kept.id)
    assert world.audit.verify(ORG) == 3


def test_entries_that_many_write_at_once_form_one_whole_chain(world: World) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: world.audit.record(ORG, f"p{n}", "login", at=world.now), range(40)))
    assert world.audit.verify(ORG) is None
    assert len(world.audit.entries(ORG, limit=100)) == 40


def test_a_person_can_be_exported_and_erased(world: World) -> None:
    chief = world.controller()
    viewer = world.member(chief, Role.VIEWER)
    world.people.login(viewer.email, PASSWORD)
    data = world.people.own.personal_data(viewer.id)
    assert data["email"] == viewer.email and len(data["sessions"]) == 1
    assert "login" in {entry["action"] for entry in data["audit"][ORG]}
    world.people.remove_member(chief, viewer.id, ORG)
    assert world.people.user(viewer.id) is None
    assert world.people.by_email(viewer.email) is None
    assert world.audit.verify(ORG) is None


@pytest.mark.privacy
def test_no_password_mail_address_or_secret_is_in_the_store_or_a_repr(world: World, tmp_path: Path) -> None:
    chief = world.controller()
    secret, _ = world.people.login(chief.email, PASSWORD)
    token = world.tokens.create(chief, ORG, "BI", [Right.SEE_FIGURES])
    with world.store.connections.read() as db:
        rows = repr(db.execute("SELECT * FROM kept").fetchall())
    for plain in (PASSWORD, chief.email, secret, token, "argon2id"):
        assert plain not in rows
    assert "argon2" not in repr(chief)
