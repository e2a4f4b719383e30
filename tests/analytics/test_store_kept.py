"""Sealed values: once, in order, apart by organisation, and readable by nobody without the key."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from analytics.store.errors import AlreadyExistsError, StaleWriteError, StoreConfigurationError
from analytics.store.kept import RawKept, SealedKeep

NOW = datetime(2026, 3, 2, 8, tzinfo=UTC)
MASTER = bytes(range(32))


@pytest.fixture
def keep(store: Any) -> SealedKeep:
    return SealedKeep(store, MASTER)


def test_a_value_reads_back_and_is_replaced_only_by_who_read_it(keep: SealedKeep) -> None:
    first = keep.put("user", "a", "u1", {"mail": "x@example.org"})
    assert keep.get("user", "a", "u1") == first
    second = keep.put("user", "a", "u1", {"mail": "y@example.org"}, replaces=first.version)
    with pytest.raises(StaleWriteError):
        keep.put("user", "a", "u1", {"mail": "z@example.org"}, replaces=first.version)
    with pytest.raises(AlreadyExistsError):
        keep.put("user", "a", "u1", {})
    assert keep.get("user", "a", "u1") == second


def test_organisations_and_kinds_are_apart(keep: SealedKeep) -> None:
    keep.put("user", "a", "u1", {"n": 1})
    keep.put("user", "b", "u1", {"n": 2})
    keep.put("token", "a", "u1", {"n": 3})
    assert [(kept.id, kept.value["n"]) for kept in keep.every("user", "a")] == [("u1", 1)]
    assert keep.get("user", "c", "u1") is None
    assert keep.remove("user", "b", "u1")
    assert keep.get("user", "a", "u1") is not None


def test_exactly_one_of_many_removes(keep: SealedKeep) -> None:
    keep.put("invitation", "a", "i1", {})
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda _: keep.remove("invitation", "a", "i1"), range(8))) == 1


def test_exactly_one_of_many_adds(keep: SealedKeep) -> None:
    def add(number: int) -> bool:
        try:
            keep.put("audit", "a", "000001", {"n": number})
        except AlreadyExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(add, range(8))) == 1


def test_pages_in_both_directions(keep: SealedKeep) -> None:
    for number in range(7):
        keep.put("audit", "a", f"{number:06d}", {"n": number})
    assert [kept.value["n"] for kept in keep.page("audit", "a", limit=3)] == [0, 1, 2]
    assert [kept.value["n"] for kept in keep.page("audit", "a", after="000002", limit=3)] == [3, 4, 5]
    assert [kept.value["n"] for kept in keep.page("audit", "a", limit=2, newest_first=True)] == [6, 5]
    newest = keep.page("audit", "a", after="000005", limit=9, newest_first=True)
    assert [kept.value["n"] for kept in newest] == [4, 3, 2, 1, 0]


def test_what_expired_is_forgotten(keep: SealedKeep, store: Any) -> None:
    keep.put("session", "", "old", {}, expires_at=NOW)
    keep.put("session", "", "new", {}, expires_at=NOW + timedelta(hours=1))
    keep.put("session", "", "for ever", {})
    assert store.expire_kept(NOW + timedelta(seconds=1)) == 1
    assert {kept.id for kept in keep.every("session", "")} == {"new", "for ever"}


@pytest.mark.privacy
def test_the_store_sees_no_plain_value_and_another_key_opens_none(keep: SealedKeep, store: Any) -> None:
    keep.put("user", "a", "u1", {"mail": "canary@example.org"})
    assert b"canary" not in store.read_kept("user", "a", "u1").sealed
    with pytest.raises(StoreConfigurationError):
        SealedKeep(store, bytes(32)).get("user", "a", "u1")


def test_a_sealed_value_can_be_neither_moved_nor_put_back(keep: SealedKeep, store: Any) -> None:
    keep.put("user", "a", "u1", {"right": "controller"})
    sealed = store.read_kept("user", "a", "u1").sealed
    keep.put("user", "a", "u1", {"right": "viewer"}, replaces=1)
    store.write_kept("user", "a", RawKept("u1", 3, sealed), 2)
    store.write_kept("user", "a", RawKept("u2", 1, sealed), 0)
    for item in ("u1", "u2"):
        with pytest.raises(StoreConfigurationError):
            keep.get("user", "a", item)
