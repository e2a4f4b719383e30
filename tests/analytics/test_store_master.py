"""The contract of master data, sensors, enrolment, roll-ups, leases and retention; on every store."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from analytics.domain.model import (
    Building,
    Capacity,
    Closure,
    ClosureKind,
    DayRollup,
    EnrolmentCode,
    MeasuringHours,
    Organisation,
    Period,
    Room,
    Sensor,
    Span,
    Watch,
    WatchKind,
)
from analytics.store.base import Store
from analytics.store.errors import AlreadyExistsError, NotFoundError, StaleWriteError
from tests.analytics.conftest import OpenStore

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
ROOM = Room(
    "org",
    "r1",
    "b1",
    "1.23",
    name="Aula",
    capacities=(Capacity(date(2025, 1, 1), 40), Capacity(date(2026, 1, 1), None), Capacity(date(2026, 2, 1), 36)),
    room_class="lecture",
    floor="1",
    measuring_hours=MeasuringHours(((Span(480, 720), Span(780, 1440)),) * 6 + ((),)),
    closures=(Closure(date(2026, 2, 3), date(2026, 2, 5), "paint"),),
    parts=("r2", "r3"),
    aliases=("AULA", "A-1.23"),
    retired_on=date(2030, 1, 1),
)


def test_master_data_reads_back_and_is_replaced(store: Store) -> None:
    organisation = Organisation("org", "School", periods=(Period("week 1", date(2026, 9, 1), date(2026, 9, 8)),))
    building = Building(
        "org", "b1", "Hoofdgebouw", closures=(Closure(date(2026, 4, 27), date(2026, 4, 28), "", ClosureKind.HOLIDAY),)
    )
    store.put_organisation(organisation)
    store.put_buildings("org", [building])
    store.put_rooms("org", [ROOM, Room("org", "r9", "b2", "9")])
    assert store.organisation("org") == organisation
    assert store.organisations() == [organisation]
    assert store.buildings("org") == [building]
    assert store.room("org", "r1") == ROOM
    assert [room.id for room in store.rooms("org")] == ["r1", "r9"]
    assert [room.id for room in store.rooms("org", "b2")] == ["r9"]
    store.put_rooms("org", [replace(ROOM, name="Grote aula")])
    assert store.room("org", "r1").name == "Grote aula"
    assert [ROOM.capacity_on(date(*d)) for d in ((2024, 1, 1), (2025, 6, 1), (2026, 1, 15), (2026, 3, 1))] == [
        None,
        40,
        None,
        36,
    ]


def test_another_organisation_sees_nothing_of_it(store: Store) -> None:
    store.put_rooms("org", [ROOM])
    assert store.rooms("rival") == []
    assert store.buildings("rival") == []
    with pytest.raises(NotFoundError):
        store.room("rival", "r1")
    with pytest.raises(NotFoundError):
        store.organisation("rival")
    with pytest.raises(ValueError, match="rival"):
        store.put_rooms("org", [replace(ROOM, org_id="rival")])


def test_sensors_and_what_is_unique_about_them(store: Store) -> None:
    door = Watch("r1", WatchKind.DOOR, reversed=True, label="north", valid_from=NOW, valid_until=NOW + HOUR)
    sensor = Sensor("org", "s1", watches=(door,), tunnel_ip="10.8.0.2", wireguard_public_key="k1", created_at=NOW)
    store.add_sensor(sensor)
    store.add_sensor(Sensor("rival", "s2"))
    store.add_sensor(Sensor("org", "s3"))
    assert store.find_sensor("s1") == sensor
    assert store.find_sensor("nobody") is None
    assert [s.id for s in store.sensors("org")] == ["s1", "s3"]
    assert [s.id for s in store.all_sensors()] == ["s1", "s2", "s3"]
    for clash in (
        Sensor("rival", "s1"),
        Sensor("rival", "s4", tunnel_ip="10.8.0.2"),
        Sensor("rival", "s4", wireguard_public_key="k1"),
    ):
        with pytest.raises(AlreadyExistsError):
            store.add_sensor(clash)
    assert store.find_sensor("s4") is None
    store.add_sensor(Sensor("rival", "s4", tunnel_ip="10.8.0.9"))


def test_a_sensor_is_changed_in_one_step(store: Store) -> None:
    store.add_sensor(Sensor("org", "s1", tunnel_ip="10.8.0.2"))
    store.add_sensor(Sensor("org", "s2"))
    changed = store.update_sensor("org", "s1", lambda s: replace(s, revoked_at=NOW, tunnel_ip=None))
    assert changed.revoked_at == NOW
    assert store.find_sensor("s1") == changed
    store.update_sensor("org", "s2", lambda s: replace(s, tunnel_ip="10.8.0.2"))  # free again
    with pytest.raises(AlreadyExistsError):
        store.update_sensor("org", "s1", lambda s: replace(s, tunnel_ip="10.8.0.2"))
    assert store.find_sensor("s1") == changed
    for org, sensor in (("rival", "s1"), ("org", "nobody")):
        with pytest.raises(NotFoundError):
            store.update_sensor(org, sensor, lambda s: s)
    with pytest.raises(ValueError, match="keeps"):
        store.update_sensor("org", "s1", lambda s: replace(s, org_id="rival"))


def test_no_change_of_a_sensor_is_lost_among_threads(store: Store) -> None:
    store.add_sensor(Sensor("org", "s1", key_generation=0))

    def rotate() -> None:
        for _ in range(5):
            store.update_sensor("org", "s1", lambda s: replace(s, key_generation=s.key_generation + 1))

    threads = [threading.Thread(target=rotate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = store.find_sensor("s1")
    assert found is not None
    assert found.key_generation == 20


CODE = EnrolmentCode("c1", "org", "s1", "hash", NOW + HOUR, 3, NOW, verification_hash="second")


def test_an_enrolment_code_works_once_and_its_attempts_are_bound(store: Store) -> None:
    store.add_enrolment(CODE)
    with pytest.raises(AlreadyExistsError):
        store.add_enrolment(replace(CODE, org_id="rival"))
    assert store.enrolments("org") == [CODE]
    assert store.enrolments("rival") == []
    assert store.spend_enrolment_attempt("nobody", NOW) is None
    assert store.spend_enrolment_attempt("c1", NOW + HOUR) is None  # expired
    for left in (2, 1, 0):
        assert store.spend_enrolment_attempt("c1", NOW) == replace(CODE, attempts_left=left)
    assert store.spend_enrolment_attempt("c1", NOW) is None
    assert not store.activate_enrolment("c1", NOW + HOUR)
    assert store.activate_enrolment("c1", NOW)
    assert not store.activate_enrolment("c1", NOW)
    assert store.enrolments("org")[0].activated_at == NOW
    assert store.remove_enrolments("rival", "s1") == 0
    assert store.remove_enrolments("org", "s1") == 1


def test_of_many_at_once_one_activates(store: Store) -> None:
    store.add_enrolment(CODE)
    won: list[bool] = []
    barrier = threading.Barrier(6)

    def activate() -> None:
        barrier.wait()
        won.append(store.activate_enrolment("c1", NOW))

    threads = [threading.Thread(target=activate) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False] * 5 + [True]


def rollup(day: date, room: str = "r1", **measures: list[float]) -> DayRollup:
    return DayRollup(room, day, "v1", {name: np.array(values) for name, values in measures.items()})


def test_rollups_are_arrays_by_room_day_and_hour_with_nan_for_missing(store: Store) -> None:
    hours = [float(h) for h in range(24)]
    store.put_rollups(
        "org",
        [
            rollup(date(2026, 2, 28), minutes=hours, people=[0.25] * 23 + [float("nan")]),
            rollup(date(2026, 3, 1), minutes=[60.0] * 24),
            rollup(date(2026, 3, 1), "r2", minutes=[float("nan")] * 24, total=[7.0]),
        ],
    )
    table = store.rollups(
        "org", ["r2", "r1", "r3"], date(2026, 2, 27), date(2026, 3, 3), "v1", ["minutes", "people", "total", "never"]
    )
    assert table.room_ids == ("r2", "r1", "r3")
    assert [d.isoformat() for d in table.days] == ["2026-02-27", "2026-02-28", "2026-03-01", "2026-03-02"]
    minutes = table.measures["minutes"]
    assert minutes.shape == (3, 4, 24)
    assert minutes[1, 1].tolist() == hours
    assert minutes[1, 2].tolist() == [60.0] * 24
    assert np.isnan(minutes[0]).all()
    assert np.isnan(minutes[2]).all()
    assert np.isnan(minutes[1, [0, 3]]).all()
    assert table.measures["people"][1, 1, :23].tolist() == [0.25] * 23
    assert np.isnan(table.measures["people"][1, 1, 23])
    assert table.measures["total"][0, 2].tolist() == [7.0]
    assert np.isnan(table.measures["never"]).all()


def test_a_rollup_is_replaced_by_day_and_measure_and_versions_are_apart(store: Store) -> None:
    store.put_rollups(
        "org", [rollup(date(2026, 3, 1), a=[1.0] * 24, b=[2.0] * 24), rollup(date(2026, 3, 2), a=[3.0] * 24)]
    )
    store.put_rollups("org", [rollup(date(2026, 3, 1), a=[9.0] * 24)])
    store.put_rollups("rival", [rollup(date(2026, 3, 2), a=[5.0] * 24)])
    table = store.rollups("org", ["r1"], date(2026, 3, 1), date(2026, 3, 3), "v1", ["a", "b"])
    assert table.measures["a"][0, :, 0].tolist() == [9.0, 3.0]
    assert table.measures["b"][0, 0, 0] == 2.0
    other = store.rollups("org", ["r1"], date(2026, 3, 1), date(2026, 3, 3), "v2", ["a"])
    assert np.isnan(other.measures["a"]).all()
    empty = store.rollups("org", ["r1"], date(2026, 3, 1), date(2026, 3, 1), "v1", ["a"])
    assert empty.measures["a"].shape[:2] == (1, 0)


def test_a_lease_has_one_holder_expires_and_its_token_grows(store: Store) -> None:
    first = store.acquire_lease("pull", "a", HOUR, NOW)
    assert first is not None
    assert first.expires_at == NOW + HOUR
    assert store.acquire_lease("pull", "b", HOUR, NOW) is None
    assert store.acquire_lease("other", "b", HOUR, NOW) is not None
    again = store.acquire_lease("pull", "a", HOUR, NOW + HOUR / 2)
    assert again is not None
    assert again.token == first.token
    renewed = store.renew_lease(again, HOUR, NOW + HOUR)
    assert renewed.expires_at == NOW + 2 * HOUR
    assert store.acquire_lease("pull", "b", HOUR, NOW + HOUR) is None
    second = store.acquire_lease("pull", "b", HOUR, NOW + 2 * HOUR)
    assert second is not None
    assert second.token > first.token
    with pytest.raises(StaleWriteError):
        store.renew_lease(renewed, HOUR, NOW + 2 * HOUR)
    store.release_lease(renewed)  # no longer ours: nothing happens
    assert store.acquire_lease("pull", "a", HOUR, NOW + 2 * HOUR) is None
    store.release_lease(second)
    third = store.acquire_lease("pull", "a", HOUR, NOW + 2 * HOUR)
    assert third is not None
    assert third.token > second.token


def test_of_many_at_once_one_gets_the_lease(store: Store) -> None:
    won: list[str] = []
    barrier = threading.Barrier(6)

    def try_it(name: str) -> None:
        barrier.wait()
        if store.acquire_lease("rollups", name, HOUR, NOW) is not None:
            won.append(name)

    threads = [threading.Thread(target=try_it, args=(f"p{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


def test_what_was_stored_is_there_after_opening_again(open_store: OpenStore) -> None:
    first = open_store()
    first.put_rooms("org", [ROOM])
    first.close()
    second = open_store()
    assert second.room("org", "r1") == ROOM
    second.ping()
