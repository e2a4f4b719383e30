"""Doors under attack: guessing, unknown people, planted and stolen sessions, links that work once, forged requests."""

from __future__ import annotations

import json
import re
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyotp
import pytest
from fastapi.testclient import TestClient

from analytics.accounts import secrets as passwords
from analytics.accounts.audit import AuditLog
from analytics.accounts.errors import AccountError, LoginError, TooManyAttemptsError
from analytics.accounts.people import People
from analytics.accounts.rights import Membership, Role
from analytics.accounts.sessions import IDLE, LONGEST
from analytics.accounts.throttle import Throttle
from analytics.domain.model import Organisation
from analytics.service_keys import ServiceKeys
from analytics.settings import ServiceSettings
from analytics.store.kept import SealedKeep
from analytics.store.sqlite import SqliteStore
from analytics.web.app import Services, create_app
from analytics.web.portal.mount import all_pages
from tests.analytics.portal_world import ORG, PASSWORD, World, world

MASTER = bytes(range(32))
WRONG = "not the password at all"
POSTS = sorted({path for method, path, _ in all_pages().rules if method == "POST"})


@pytest.fixture(scope="module")
def campus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("login"), rooms=1, weeks=1) as made:
        yield made


class Clock:
    """Time that tests move."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 2, 8, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def seconds(self) -> float:
        return self.now.timestamp()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def people(tmp_path: Path, clock: Clock) -> Iterator[People]:
    """Accounts with the limits that the service has, and one controller."""
    with SqliteStore.open(tmp_path / "store.db", MASTER) as store:
        store.put_organisation(Organisation("campus", "Campus"))
        keep = SealedKeep(store, MASTER)
        made = People(
            keep, AuditLog(keep), MASTER, clock=clock, by_account=Throttle(5, 10, clock=clock.seconds),
            by_address=Throttle(30, 60, clock=clock.seconds),
        )  # fmt: skip
        made.accept(made.first_link("campus").secret, PASSWORD, email="chief@campus.example", name="Chief")
        yield made


# --- guessing ---------------------------------------------------------------------------------------------------------


def guesses_in(people: People, clock: Clock, hours: float, guess: Callable[[int], None]) -> int:
    """How many guesses get through in a time, for somebody who tries again at each moment they may."""
    end = clock.now + timedelta(hours=hours)
    through = 0
    while clock.now < end:
        try:
            guess(through)
        except TooManyAttemptsError as error:
            clock.now += timedelta(seconds=error.retry_after + 1)
        except LoginError:
            through += 1
    return through


def test_one_account_cannot_be_guessed_at_from_many_addresses(
    people: People, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analytics.accounts.people.verify_password", lambda *_: (False, None))
    tried = guesses_in(
        people, clock, 24, lambda n: people.login("chief@campus.example", WRONG, address=f"203.0.113.{n % 250}")
    )
    assert tried <= 5 + 24 * 10 + 1


def test_one_address_cannot_guess_at_many_accounts(
    people: People, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analytics.accounts.people.verify_password", lambda *_: (False, None))
    tried = guesses_in(people, clock, 4, lambda n: people.login(f"a{n}@campus.example", WRONG, address="203.0.113.7"))
    assert tried <= 30 + 4 * 60 + 1


def test_guessing_delays_the_owner_but_never_locks_them_out(people: People, clock: Clock) -> None:
    for _ in range(5):
        with pytest.raises(LoginError, match="not right"):
            people.login("chief@campus.example", WRONG)
    with pytest.raises(TooManyAttemptsError) as refused:
        people.login("chief@campus.example", PASSWORD)
    assert refused.value.retry_after <= 3600 / 10
    clock.now += timedelta(seconds=refused.value.retry_after + 1)
    people.login("chief@campus.example", PASSWORD)


def test_failures_are_in_the_audit_log(campus: World) -> None:
    campus.client().post("/login", data={"email": "viewer@campus.example", "password": WRONG})
    newest = campus.services.portal.audit.entries(ORG, limit=5)
    assert "login.failed" in {entry.action for entry in newest}


def test_verification_codes_die_after_a_few_tries(people: People) -> None:
    chief = people.by_email("chief@campus.example")
    assert chief is not None
    handout = people.invite(chief, "b@campus.example", Membership("campus", Role.VIEWER), with_code=True)
    for _ in range(6):
        with pytest.raises(AccountError):
            people.accept(handout.secret, PASSWORD, code="AAAAAAAA")
    with pytest.raises(AccountError, match="used already"):
        people.accept(handout.secret, PASSWORD, code=handout.code or "")


# --- unknown people ---------------------------------------------------------------------------------------------------


def test_unknown_and_disabled_people_cost_the_same_work(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exactly one argon2 verification, whoever it is: the reason why time tells nothing."""
    calls: list[str] = []
    real = passwords._HASHER.verify
    hasher = type("Spy", (), {
        "verify": staticmethod(lambda known, given: (calls.append(known), real(known, given))[1]),
        "check_needs_rehash": staticmethod(passwords._HASHER.check_needs_rehash),
        "hash": staticmethod(passwords._HASHER.hash),
    })  # fmt: skip
    monkeypatch.setattr(passwords, "_HASHER", hasher)
    for email in ("chief@campus.example", "nobody@campus.example", "", "no address"):
        before = len(calls)
        with pytest.raises(LoginError):
            people.login(email, WRONG)
        assert len(calls) == before + 1, email
    parameters = {known.rpartition("$")[0].rpartition("$")[0] for known in calls}
    assert len(parameters) == 1, f"work differs: {parameters}"


def test_time_does_not_tell_whether_somebody_is_known(tmp_path: Path) -> None:
    """The fastest of many interleaved tries: what a patient attacker would look at, and robust on a busy machine."""
    with SqliteStore.open(tmp_path / "store.db", MASTER) as store:
        store.put_organisation(Organisation("campus", "Campus"))
        keep = SealedKeep(store, MASTER)
        free = Throttle(10_000, 10_000)
        people = People(keep, AuditLog(keep), MASTER, by_account=free, by_address=free)
        people.accept(people.first_link("campus").secret, PASSWORD, email="chief@campus.example", name="Chief")
        spent: dict[str, list[float]] = {"known": [], "unknown": []}
        for number in range(25):
            for kind, email in (("known", "chief@campus.example"), ("unknown", f"n{number}@campus.example")):
                began = time.perf_counter()
                with pytest.raises(LoginError):
                    people.login(email, WRONG)
                spent[kind].append(time.perf_counter() - began)
        fastest = {kind: statistics.fmean(sorted(times)[:5]) for kind, times in spent.items()}
        assert 0.5 < fastest["unknown"] / fastest["known"] < 1.5, fastest


def test_the_login_page_says_the_same_to_both(campus: World) -> None:
    texts = []
    for email in ("operator@campus.example", "nobody.here@campus.example"):
        answer = campus.client().post("/login", data={"email": email, "password": WRONG})
        texts.append((answer.status_code, answer.text.replace(email, ""), sorted(answer.headers)))
    assert texts[0] == texts[1]


# --- sessions ---------------------------------------------------------------------------------------------------------


def test_a_planted_session_is_never_taken_over(campus: World) -> None:
    """Fixation: neither a made-up secret nor the attacker's own live session is what the victim is logged in with."""
    for planted in ("0" * 43, campus.login("stranger")):
        client = campus.client()
        client.cookies.set("headroom", planted)
        answer = client.post("/login", data={"email": "viewer@campus.example", "password": PASSWORD})
        given = re.search(r"headroom=([\w-]+)", answer.headers["set-cookie"])
        assert given is not None
        assert given.group(1) != planted
        assert campus.services.portal.people.authenticate(planted) is None, "the planted session has ended"
    campus.login("stranger")


def test_secrets_are_never_reused_and_hold_enough(campus: World) -> None:
    secrets = {campus.login("viewer") for _ in range(20)}
    assert len(secrets) == 20
    assert all(len(secret) >= 43 for secret in secrets)


def test_the_store_holds_no_secret_of_a_session(campus: World) -> None:
    secret = campus.login("viewer")
    rows = campus.services.store.list_kept("session", "")
    assert rows
    assert all(secret not in row.id and secret.encode() not in row.sealed for row in rows)


@pytest.mark.parametrize("wait", [IDLE + timedelta(seconds=1), LONGEST + timedelta(seconds=1)])
def test_sessions_end_by_themselves(people: People, clock: Clock, wait: timedelta) -> None:
    secret, _ = people.login("chief@campus.example", PASSWORD)
    end = clock.now + wait
    while wait > IDLE + timedelta(minutes=1) and clock.now < end - timedelta(hours=1):  # somebody who goes on working
        clock.now += timedelta(minutes=59)
        people.authenticate(secret)
    clock.now = end
    assert people.authenticate(secret) is None


def test_logging_out_ends_the_session_on_the_server(campus: World) -> None:
    client = campus.client("timetabler")
    assert client.get("/account").status_code == 200
    secret = campus.sessions["timetabler"]
    client.post("/logout")
    stolen = campus.client()
    stolen.cookies.set("headroom", secret)
    assert stolen.get("/account").status_code == 303
    campus.login("timetabler")


def test_a_new_password_ends_every_other_session(campus: World) -> None:
    first, second = campus.login("facility-manager"), campus.login("facility-manager")
    client = campus.client("facility-manager")
    new = "another bicycle, another canal"
    answer = client.post("/account/password", data={"present": PASSWORD, "new": new})
    assert answer.status_code == 303
    people = campus.services.portal.people
    assert people.authenticate(first) is None
    assert people.authenticate(second) is None, "the session in use got a new secret"
    assert client.get("/account").status_code == 200
    client.post("/account/password", data={"present": new, "new": PASSWORD})


def test_over_https_the_cookie_is_bound_to_the_host_and_to_tls(tmp_path: Path) -> None:
    settings = ServiceSettings(data=tmp_path, public_url="https://rooms.example.org")
    keys = ServiceKeys.create()
    with SqliteStore.open(tmp_path / "headroom.db", keys.store) as store:
        store.put_organisation(Organisation("campus", "Campus"))
        services = Services.build(settings, store, keys)
        people = services.portal.people
        people.accept(people.first_link("campus").secret, PASSWORD, email="a@campus.example", name="A")
        client = TestClient(create_app(settings, store, services), follow_redirects=False)
        answer = client.post("/login", data={"email": "a@campus.example", "password": PASSWORD})
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Host-headroom=")
        assert {"Secure", "HttpOnly", "Path=/", "SameSite=lax"} <= {part.strip() for part in cookie.split(";")}
        assert "Domain" not in cookie
        assert "max-age=" in answer.headers["strict-transport-security"]
        services.close()


# --- things that work once --------------------------------------------------------------------------------------------


def test_of_many_who_use_a_link_at_once_one_gets_in(people: People) -> None:
    chief = people.by_email("chief@campus.example")
    assert chief is not None
    secret = people.invite(chief, "", Membership("campus", Role.CONTROLLER)).secret

    def use(number: int) -> bool:
        try:
            people.accept(secret, PASSWORD, email=f"m{number}@campus.example", name=str(number))
        except AccountError:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(use, range(6))) == 1
    assert len(people.members("campus")) == 2


def test_a_code_of_the_authenticator_works_once(people: People, clock: Clock) -> None:
    chief = people.by_email("chief@campus.example")
    assert chief is not None
    secret = people.own.new_totp()
    people.own.enable_totp(chief, secret, pyotp.TOTP(secret).at(int(clock.now.timestamp())))
    clock.now += timedelta(minutes=2)
    code = pyotp.TOTP(secret).at(int(clock.now.timestamp()))
    people.login("chief@campus.example", PASSWORD, totp=code)
    with pytest.raises(LoginError, match="used already"):
        people.login("chief@campus.example", PASSWORD, totp=code)


def test_an_invitation_never_replaces_the_password_of_an_account_that_exists(people: People) -> None:
    chief = people.by_email("chief@campus.example")
    assert chief is not None
    secret = people.invite(chief, "chief@campus.example", Membership("campus", Role.CONTROLLER)).secret
    with pytest.raises(LoginError):
        people.accept(secret, "the attacker's own sentence")
    people.login("chief@campus.example", PASSWORD)


# --- requests that another site made the browser send -----------------------------------------------------------------


@pytest.mark.parametrize("path", POSTS)
def test_no_form_can_be_sent_from_another_site(campus: World, path: str) -> None:
    """Every route that changes anything, with the controller's own cookie."""
    target = re.sub(r"\{org_id\}", ORG, path)
    target = re.sub(r"\{\w+\}", "x", target)
    before = campus.services.portal.audit.entries(ORG, limit=1)
    for headers in (
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
    ):
        answer = campus.client("controller").post(target, data={"a": "b"}, headers=headers)
        assert answer.status_code == 403, headers
        assert "another site" in answer.text
    assert campus.services.portal.audit.entries(ORG, limit=1) == before


def test_nothing_that_changes_anything_answers_to_get(campus: World) -> None:
    """A link or a picture on another page makes GET requests with the cookie: they must be harmless."""
    gets = {path for method, path, _ in all_pages().rules if method == "GET"}
    client = campus.client("controller")
    for path in POSTS:
        if path not in gets:
            target = re.sub(r"\{\w+\}", "x", path.replace("{org_id}", ORG))
            assert client.get(target).status_code in (404, 405), path


def test_a_cookie_opens_no_door_of_programs_for_writing(campus: World) -> None:
    """/v1 is exempt from the check of origins: so nothing there may change anything by cookie alone."""
    document = campus.client("controller", page=False).get("/openapi.json").json()
    for path, operations in document["paths"].items():
        for method in set(operations) & {"post", "put", "patch", "delete"}:
            target = re.sub(r"\{\w+\}", "x", path)
            answer = campus.client("controller", page=False).request(
                method, target, content=json.dumps({}), headers={"content-type": "application/json"}
            )
            assert answer.status_code in (400, 401, 403, 404, 405, 411, 415, 422), f"{method} {path}"
