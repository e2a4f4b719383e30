"""Several sensors behind one board's tunnel: who may speak from where, whose code is whose, what ends with what."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from analytics.accounts.rights import Right
from analytics.cli.service import service as service_command
from analytics.domain.model import Organisation, Sensor
from analytics.enrolment import AdministrationError, Enrolment
from analytics.service_keys import load_or_create
from analytics.service_tunnel import ServiceTunnel
from analytics.settings import Limits, TunnelSettings
from analytics.store.base import Store
from analytics.store.errors import AlreadyExistsError
from analytics.web.portal.core import PortalStore
from tests.analytics.service_parts import Bench, Blank, bench, bench_on, from_address, record, refused
from uplink.enrolment import EnrolmentGrant
from uplink.keys import SensorKey
from uplink.wgkeys import PrivateKey

NOW = datetime(2026, 3, 2, tzinfo=UTC)
TUNNEL = TunnelSettings.model_validate({"address": "10.77.0.1/24", "endpoint": "192.0.2.1:51820"})
SERVICE = "10.77.0.1"


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path, tunnel=TUNNEL) as found:
        yield found


def enrol(parts: Bench, sensor_id: str, board: SensorKey | None = None) -> SensorKey:
    """Add a sensor and spend its code; a further camera with its board's key."""
    issued = parts.services.enrolment.add(
        sensor_id, org_id="default", verification=False, board=board.sensor_id if board else None
    )
    return Blank(parts.services.enrolment, issued.code, board=board).knock().sensor_key()


def kind(answer: Any) -> str:
    """``taken``, or why not."""
    return "taken" if answer.status_code == 200 else str(answer.json()["type"]).removeprefix("urn:headroom:problem:")


# -- the store


def test_a_further_camera_is_found_by_its_board_and_never_has_a_tunnel(store: Store) -> None:
    store.add_sensor(Sensor("org", "hall", tunnel_ip="10.77.0.2", wireguard_public_key="k1"))
    rear = Sensor("org", "hall-rear", board="hall", created_at=NOW)
    for sensor in (rear, Sensor("org", "hall-side", board="hall"), Sensor("org", "aula", tunnel_ip="10.77.0.3")):
        store.add_sensor(sensor)
    assert store.find_sensor("hall-rear") == rear
    assert [sensor.id for sensor in store.sensors_on_board("org", "hall")] == ["hall-rear", "hall-side"]
    assert store.sensors_on_board("org", "aula") == []
    assert store.sensors_on_board("rival", "hall") == []
    changed = store.update_sensor("org", "hall-rear", lambda sensor: replace(sensor, revoked_at=NOW))
    assert store.sensors_on_board("org", "hall")[0] == changed
    for change in ({"tunnel_ip": "10.77.0.2"}, {"wireguard_public_key": "k2"}, {"board": "hall-rear"}):
        with pytest.raises(ValueError, match="hall-rear"):
            store.update_sensor("org", "hall-rear", lambda sensor: replace(sensor, **change))  # noqa: B023
    store.update_sensor("org", "hall-side", lambda sensor: replace(sensor, board=None, tunnel_ip="10.77.0.4"))
    assert [sensor.id for sensor in store.sensors_on_board("org", "hall")] == ["hall-rear"]
    with pytest.raises(AlreadyExistsError):  # addresses and keys stay unique among those that have one
        store.add_sensor(Sensor("org", "other", tunnel_ip="10.77.0.2"))


# -- the door: address x sensor x who is revoked

SENSORS = {
    "hall": "hall",
    "hall-rear": "hall",
    "hall-side": "hall",
    "aula": "aula",
    "aula-rear": "aula",
    "lobby": "lobby",  # enrolled before there was a tunnel: it has no address in it
    "lobby-rear": "lobby",
}
ADDRESSES = {"10.77.0.2": "hall", "10.77.0.3": "aula", "10.77.0.9": None, "127.0.0.1": "anybody"}


def expected(sensor: str, address: str, ended: frozenset[str]) -> str:
    """The rule, in four lines: a proven sensor, on a board that is in service, from that board's address."""
    if ended & {sensor, SENSORS[sensor]}:
        return "not-proven"
    if ADDRESSES[address] not in ("anybody", SENSORS[sensor]):
        return "wrong-tunnel-address"
    return "taken"


@pytest.mark.parametrize("change", ["revoked", "not enrolled"])
@pytest.mark.parametrize("ended", [(), ("hall-rear",), ("hall",), ("aula", "hall-side")])
def test_an_address_is_open_to_every_sensor_of_its_board_and_to_no_other(
    store: PortalStore, tmp_path: Path, ended: tuple[str, ...], change: str
) -> None:
    with bench_on(store, tmp_path, tunnel=TUNNEL) as parts:
        keys = {
            "hall": parts.sensor("hall", tunnel_ip="10.77.0.2"),
            "aula": parts.sensor("aula", tunnel_ip="10.77.0.3"),
            "lobby": parts.sensor("lobby"),
        }
        keys |= {name: parts.sensor(name, board=board) for name, board in SENSORS.items() if name != board}
        for name in ended:  # in the store alone, the others' records untouched: the door itself must know
            fields = {"revoked_at": NOW} if change == "revoked" else {"enrolled_at": None}
            store.update_sensor("default", name, lambda sensor: replace(sensor, **fields))  # noqa: B023
        found, rule = {}, {}
        for minute, (name, address) in enumerate(itertools.product(SENSORS, ADDRESSES)):
            way = from_address(parts, address, "127.0.0.1" if address == "127.0.0.1" else SERVICE)
            answer = parts.post(keys[name], [record(name, minute)], client=way)
            found[name, address], rule[name, address] = kind(answer), expected(name, address, frozenset(ended))
            assert parts.stored(name)[-1:] == ([(minute, 4)] if rule[name, address] == "taken" else parts.stored(name))
        assert found == rule


def test_a_stolen_key_of_one_camera_writes_for_nobody_else(parts: Bench) -> None:
    hall = enrol(parts, "hall")
    rear, side = enrol(parts, "hall-rear", hall), enrol(parts, "hall-side", hall)
    assert len({key.secret for key in (hall, rear, side)}) == 3
    inside = from_address(parts, "10.77.0.2", SERVICE)
    for other in ("hall", "hall-side"):
        posing = SensorKey(other, 1, rear.secret)
        assert kind(parts.post(posing, [record(other)], client=inside)) == "not-proven"
        smuggled = parts.post(rear, [record(other), record("hall-rear")], client=inside).json()
        assert [entry["index"] for entry in smuggled["rejected"]] == [0]
        assert parts.stored(other) == []
    # Nor does it enrol another camera: that takes the board's own key, bound to this very code.
    issued = parts.services.enrolment.add("hall-door", org_id="default", verification=False, board="hall")
    for thief in (rear, SensorKey("hall", 1, rear.secret), SensorKey("hall", 7, hall.secret)):
        assert refused(Blank(parts.services.enrolment, issued.code, board=thief)) == "board-wrong"
    other = parts.services.enrolment.add("hall-roof", org_id="default", verification=False, board="hall")
    replayed = Blank(parts.services.enrolment, issued.code, board=hall)
    replayed.board = Blank(parts.services.enrolment, other.code, board=hall).board
    assert refused(replayed) == "board-wrong"


def test_a_board_of_another_organisation_opens_nothing(parts: Bench) -> None:
    """Not even where the store says that it is the camera's board."""
    enrol(parts, "hall")
    parts.store.put_organisation(Organisation("rival", "rival"))
    now = datetime.now(UTC)
    parts.store.add_sensor(Sensor("rival", "spy", board="hall", enrolled_at=now))
    parts.store.add_sensor(Sensor("default", "rear", board="hall", enrolled_at=now))
    parts.store.add_sensor(Sensor("default", "behind", board="rear", enrolled_at=now))
    for name in ("spy", "behind"):
        key = parts.services.keys.master.sensor_key(name)
        assert key is not None
        inside = from_address(parts, "10.77.0.2", SERVICE)
        assert kind(parts.post(key, [record(name)], client=inside)) == "not-proven"
    with pytest.raises(AdministrationError, match="no sensor 'hall'"):
        parts.services.enrolment.add("spy-2", org_id="rival", board="hall")


# -- enrolment


def test_the_code_of_a_second_camera_works_once_on_its_board_alone(parts: Bench) -> None:
    enrolment = parts.services.enrolment
    hall, aula = enrol(parts, "hall"), enrol(parts, "aula")
    issued = enrolment.add("hall-rear", org_id="default", name="Rear door", board="hall")
    assert issued.verification is not None
    assert refused(Blank(enrolment, issued.code, board=hall), None) == "verification-missing"
    assert refused(Blank(enrolment, issued.code, board=aula), issued.verification) == "board-wrong"
    assert refused(Blank(enrolment, issued.code), issued.verification) == "board-missing"
    grant = Blank(enrolment, issued.code, board=hall).knock(issued.verification)
    assert grant.tunnel is None
    identity = grant.identity()
    assert (identity.sensor_id, identity.board, identity.tunnel_address) == ("hall-rear", "hall", "")
    assert grant.sensor_key() == parts.services.keys.master.sensor_key("hall-rear")
    assert refused(Blank(enrolment, issued.code, board=hall), issued.verification) == "code-not-valid"
    rear = parts.store.find_sensor("hall-rear")
    assert rear is not None
    assert rear.enrolled_at is not None
    assert (rear.tunnel_ip, rear.wireguard_public_key) == (None, None)
    # A code of a board is not a camera's.
    again = enrolment.issue("aula", verification=False)
    assert refused(Blank(enrolment, again.code, board=hall)) == "not-a-camera"
    assert Blank(enrolment, again.code).knock().tunnel is not None


def test_a_camera_waits_for_its_board(parts: Bench) -> None:
    enrolment = parts.services.enrolment
    board = enrolment.add("hall", org_id="default", verification=False)
    camera = enrolment.add("hall-rear", org_id="default", verification=False, board="hall")
    forged = parts.services.keys.master.sensor_key("hall")
    assert forged is not None
    assert refused(Blank(enrolment, camera.code, board=forged)) == "board-not-enrolled"
    key = Blank(enrolment, board.code).knock().sensor_key()
    assert Blank(enrolment, camera.code, board=key).knock().board == "hall"


@pytest.mark.parametrize(
    ("sensor_id", "board", "words"),
    [
        ("new", "nobody", "no sensor 'nobody'"),
        ("new", "hall-rear", "name that one"),
        ("new", "gone", "revoked for good"),
        ("spool", "hall", "cannot be called 'spool'"),
        ("hall-rear", "hall", "already"),
        ("new", "new", "no sensor 'new'"),
    ],
)
def test_what_is_no_board_is_refused(parts: Bench, sensor_id: str, board: str, words: str) -> None:
    enrolment = parts.services.enrolment
    enrol(parts, "hall-rear", enrol(parts, "hall"))
    enrol(parts, "gone")
    enrolment.revoke("gone")
    before = [sensor.id for sensor in enrolment.sensors()]
    with pytest.raises(AdministrationError, match=words):
        enrolment.add(sensor_id, org_id="default", board=board)
    assert [sensor.id for sensor in enrolment.sensors()] == before


def test_the_keys_of_a_board_rotate_each_by_itself(parts: Bench) -> None:
    """A board that still has its older key enrols a camera; the camera gets a key of the current generation."""
    hall = enrol(parts, "hall")
    keys = parts.services.keys
    newer = Enrolment(parts.store, replace(keys, master=keys.master.rotated()), parts.services.settings)
    issued = newer.add("hall-rear", org_id="default", verification=False, board="hall")
    assert Blank(newer, issued.code, board=hall).knock().key_generation == 2


# -- revocation


def test_a_revoked_camera_leaves_the_others_as_they_are(parts: Bench) -> None:
    hall = enrol(parts, "hall")
    rear, side = enrol(parts, "hall-rear", hall), enrol(parts, "hall-side", hall)
    inside = from_address(parts, "10.77.0.2", SERVICE)
    assert [sensor.id for sensor in parts.services.enrolment.revoke("hall-rear")] == ["hall-rear"]
    answers = {
        key.sensor_id: kind(parts.post(key, [record(key.sensor_id)], client=inside)) for key in (hall, rear, side)
    }
    assert answers == {"hall": "taken", "hall-rear": "not-proven", "hall-side": "taken"}
    board = parts.store.find_sensor("hall")
    assert board is not None
    assert board.tunnel_ip == "10.77.0.2"


def test_revoking_a_board_must_be_meant_and_then_ends_all_its_cameras(parts: Bench) -> None:
    forgotten: list[str] = []
    peers: list[list[str]] = []
    tunnel = ServiceTunnel(TUNNEL, parts.services.keys, run=lambda argv, stdin=None: "")
    enrolment = Enrolment(
        parts.store,
        parts.services.keys,
        parts.services.settings,
        on_change=lambda: peers.append([str(key) for key in tunnel.peers(parts.store.all_sensors())]),
        on_revoke=lambda sensor: forgotten.append(sensor.id),
    )
    hall, aula = enrol(parts, "hall"), enrol(parts, "aula")
    rear = enrol(parts, "hall-rear", hall)
    waiting = enrolment.add("hall-side", org_id="default", verification=False, board="hall")
    with pytest.raises(AdministrationError, match=r"holds the board of hall-rear, hall-side.*--with-cameras"):
        enrolment.revoke("hall")
    inside = from_address(parts, "10.77.0.2", SERVICE)
    assert kind(parts.post(rear, [record("hall-rear")], client=inside)) == "taken"

    assert [s.id for s in enrolment.revoke("hall", with_cameras=True)] == ["hall", "hall-rear", "hall-side"]
    assert forgotten == ["hall", "hall-rear", "hall-side"]
    assert len(peers[-1]) == 1  # the aula's
    for key in (hall, rear):
        for way in (inside, from_address(parts, "127.0.0.1")):
            assert kind(parts.post(key, [record(key.sensor_id, 1)], client=way)) == "not-proven"
    assert refused(Blank(enrolment, waiting.code, board=hall)) == "code-not-valid"
    with pytest.raises(AdministrationError, match="for good"):
        enrolment.issue("hall-rear")
    assert [s.id for s in enrolment.revoke("hall")] == ["hall"]  # again: nothing is left to end
    # The address goes to the next board, and opens nothing for the cameras of the old one.
    enrol(parts, "lab")
    lab = parts.store.find_sensor("lab")
    assert lab is not None
    assert lab.tunnel_ip == "10.77.0.2"
    assert kind(parts.post(rear, [record("hall-rear", 2)], client=inside)) == "not-proven"
    assert kind(parts.post(aula, [record("aula", 2)], client=from_address(parts, "10.77.0.3", SERVICE))) == "taken"


def test_a_crash_in_the_middle_of_a_revocation_leaves_no_camera_behind(
    parts: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    hall = enrol(parts, "hall")
    rear = enrol(parts, "hall-rear", hall)
    enrolment, store = parts.services.enrolment, parts.store
    late = enrolment.add("hall-side", org_id="default", verification=False, board="hall")
    real, done = store.update_sensor, []

    def once(*arguments: Any) -> Sensor:
        if done:
            raise RuntimeError("power cut")
        done.append(1)
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(store, "update_sensor", once)
        with pytest.raises(RuntimeError):
            enrolment.revoke("hall", with_cameras=True)
    found = store.find_sensor("hall-rear")
    assert found is not None
    assert found.revoked_at is None  # not yet written down, and yet nothing of it is taken any more
    inside = from_address(parts, "10.77.0.2", SERVICE)
    assert kind(parts.post(rear, [record("hall-rear")], client=inside)) == "not-proven"
    assert refused(Blank(enrolment, late.code, board=hall)) == "code-not-valid"
    with pytest.raises(AdministrationError, match="for good"):
        enrolment.issue("hall-rear")
    assert len(enrolment.revoke("hall", with_cameras=True)) == 3  # ordered again, it is finished


def test_a_new_card_for_the_board_keeps_its_cameras(parts: Bench) -> None:
    hall = enrol(parts, "hall")
    enrol(parts, "hall-rear", hall)
    again = parts.services.enrolment.issue("hall", verification=False)
    grant: EnrolmentGrant = Blank(parts.services.enrolment, again.code, PrivateKey.generate()).knock()
    assert grant.tunnel is not None
    assert grant.tunnel.address == "10.77.0.2"
    code = parts.services.enrolment.issue("hall-rear", verification=False)
    rear = Blank(parts.services.enrolment, code.code, board=grant.sensor_key()).knock().sensor_key()
    assert kind(parts.post(rear, [record("hall-rear")], client=from_address(parts, "10.77.0.2", SERVICE))) == "taken"


class Model:
    """What ought to hold, kept apart from the service: who has which board, address and key."""

    def __init__(self, parts: Bench) -> None:
        self.parts, self.enrolment = parts, parts.services.enrolment
        self.board: dict[str, str] = {}
        self.address: dict[str, str] = {}
        self.enrolled: set[str] = set()
        self.revoked: set[str] = set()
        self.minute = 0

    def add(self, board: str | None) -> None:
        name = f"s{len(self.board)}"
        try:
            self.enrolment.add(name, org_id="default", verification=False, board=board)
        except AdministrationError:
            assert board is not None
            assert board in self.revoked or self.board[board] != board
        else:
            self.board[name] = board or name

    def enrol(self, name: str) -> None:
        """A new code, spent at once; also for one that is enrolled already, on a new card."""
        board = self.board[name]
        try:
            code = self.enrolment.issue(name, verification=False).code
        except AdministrationError:
            assert {name, board} & self.revoked
            return
        proof = self.key(board) if board != name else None
        blank = Blank(self.enrolment, code, board=proof)
        if board != name and board not in self.enrolled:
            assert refused(blank) == "board-not-enrolled"
            return
        grant = blank.knock()
        self.enrolled.add(name)
        if board == name:
            assert grant.tunnel is not None
            self.address[name] = grant.tunnel.address
        else:
            assert (grant.tunnel, grant.board) == (None, board)

    def revoke(self, name: str) -> None:
        ended = {name} | {other for other, board in self.board.items() if board == name and other not in self.revoked}
        assert {sensor.id for sensor in self.enrolment.revoke(name, with_cameras=True)} == ended
        self.revoked |= ended
        self.address.pop(name, None)

    def key(self, name: str) -> SensorKey:
        key = self.parts.services.keys.master.sensor_key(name)
        assert key is not None
        return key

    def check(self) -> None:
        """Every sensor from every address that is in use, was in use, or is this machine's own."""
        assert len(set(self.address.values())) == len(self.address)
        for name, board in self.board.items():
            works = {name, board} <= self.enrolled - self.revoked
            for address in ("127.0.0.1", "10.77.0.2", "10.77.0.3", "10.77.0.4"):
                self.minute += 1
                way = from_address(self.parts, address, "127.0.0.1" if address == "127.0.0.1" else SERVICE)
                answer = kind(self.parts.post(self.key(name), [record(name, self.minute)], client=way))
                right = address in ("127.0.0.1", self.address.get(board))
                assert answer == ("not-proven" if not works else "taken" if right else "wrong-tunnel-address")


@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_ordered_in_whatever_order_the_door_follows(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    limits = Limits(stranger_burst=100_000, sensor_burst=100_000)
    with bench(tmp_path, tunnel=TUNNEL, limits=limits) as parts:
        model = Model(parts)
        model.add(None)
        for _ in range(14):
            name = chance.choice(list(model.board))
            order = chance.choices(("board", "camera", "enrol", "revoke"), (1, 3, 6, 1))[0]
            match order:
                case "board":
                    model.add(None)
                case "camera":
                    model.add(name)
                case "enrol":
                    model.enrol(name)
                case _:
                    model.revoke(name)
        for name in list(model.board):
            model.enrol(name)
            model.check()
        for name in chance.sample(list(model.board), len(model.board)):
            model.revoke(name)
            model.check()


# -- how it shows


def test_the_api_names_the_board_of_a_further_camera(parts: Bench) -> None:
    enrol(parts, "hall-rear", enrol(parts, "hall"))
    portal = parts.services.portal
    chief = portal.people.accept(portal.people.first_link("default").secret, "a set of words", email="a@b.example")
    secret = portal.tokens.create(chief, "default", "BI", [Right.SEE_SENSORS])
    answer = parts.client.get("/v1/organisations/default/sensors", headers={"Authorization": f"Bearer {secret}"})
    assert [(item["id"], item["board"]) for item in answer.json()["items"]] == [("hall", None), ("hall-rear", "hall")]


def invoke(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(service_command, ["sensor", *arguments])
    assert done.exit_code == code, done.output
    return done.stdout if code == 0 else done.output


def test_the_service_command_knows_boards(tmp_path: Path) -> None:
    data = ["--data", str(tmp_path / "service")]
    load_or_create(tmp_path / "service", tmp_path / "service" / "keys")
    invoke("add", "hall", *data)
    shown = invoke("add", "hall-rear", "--board", "hall", *data)
    assert "On the board of hall:" in shown
    assert "--service http://SERVICE:PORT --camera" in shown
    assert json.loads(invoke("code", "hall-rear", "--json", *data))["board"] == "hall"
    assert "no sensor 'hal'" in invoke("add", "x", "--board", "hal", *data, code=1)
    assert "'Hall' is not a sensor's name" in invoke("add", "x", "--board", "Hall", *data, code=2)
    assert "that of hall" in invoke("list", *data)
    assert [entry["board"] for entry in json.loads(invoke("list", "--json", *data))] == [None, "hall"]
    assert "--with-cameras" in invoke("revoke", "hall", *data, code=1)
    done = json.loads(invoke("revoke", "hall", "--with-cameras", "--json", *data))
    assert (done["state"], done["cameras"]) == ("revoked", ["hall-rear"])
    assert {entry["state"] for entry in json.loads(invoke("list", "--json", *data))} == {"revoked"}
