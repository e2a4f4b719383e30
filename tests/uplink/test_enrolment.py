"""Enrolment codes, the Noise handshake, and a sensor that believes nobody but the service that made its code."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from uplink.cli_enrol import enrol
from uplink.enrolment import (
    CodeError,
    EnrolmentCode,
    EnrolmentError,
    EnrolmentGrant,
    SensorHello,
    ServiceHello,
    normal_verification,
    prologue,
    request_grant,
    verification_code,
)
from uplink.identity import Identity, enrolled, load_sensor_key, save_sensor_key
from uplink.keyfiles import write_atomic
from uplink.keys import SensorKey
from uplink.noise import Initiator, NoiseError, Responder
from uplink.wgconf import load
from uplink.wgkeys import PrivateKey

SERVICE = PrivateKey(b"\x44" * 32)
TUNNEL = {
    "address": "10.77.0.9",
    "service_address": "10.77.0.1",
    "service_public_key": str(SERVICE.public),
    "preshared_key": base64.b64encode(b"\x55" * 32).decode(),
    "endpoint": "counts.example.org:51820",
}
GRANT: dict[str, Any] = {
    "sensor_id": "hall-3",
    "key_generation": 1,
    "key": base64.b64encode(b"\x66" * 32).decode(),
    "service_url": "http://10.77.0.1:8400",
    "service_seal_key": str(SERVICE.public),
    "tunnel": TUNNEL,
}


# -- Noise


def test_noise_kk_equals_a_published_vector() -> None:
    """Noise_KK_25519_ChaChaPoly_SHA256 of the vectors of the cacophony implementation."""
    start = bytes.fromhex("4a6f686e2047616c74")
    initiator = Initiator(
        bytes.fromhex("e61ef9919cde45dd5f82166404bd08e38bceb5dfdfded0a34c8df7ed542214d1"),
        bytes.fromhex("31e0303fd6418d2f8c0e78b91f22e8caed0fbe48656dcf4767e4834f701b8f62"),
        start,
        ephemeral=bytes.fromhex("893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a"),
    )
    responder = Responder(
        bytes.fromhex("4a3acbfdb163dec651dfa3194dece676d437029c62a408b4c5ea9114246e4893"),
        bytes.fromhex("6bc3822a2aa7f4e6981d6538692b3cdf3e6df9eea6ed269eb41d93c22757b75a"),
        start,
        ephemeral=bytes.fromhex("bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b"),
    )
    first = initiator.write(b"Ludwig von Mises")
    assert first.hex() == (
        "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c79440177015efc1fe7a37c629af7120a9627"
        "4e6ab7afcc9261901d0e09ae32a5bb96"
    )
    assert responder.read(first) == b"Ludwig von Mises"
    second = responder.write(b"Murray Rothbard")
    assert second.hex() == (
        "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843b274d3429adc47ca093ba63ef90f8da8"
        "9fda108db471dccfa4894aa7b00003"
    )
    assert initiator.read(second) == b"Murray Rothbard"


@given(st.binary(max_size=200), st.data())
def test_no_changed_byte_passes(payload: bytes, data: st.DataObject) -> None:
    code = EnrolmentCode("00000", "0" * 17)
    first = Initiator(code.private_key(), SERVICE.public.raw, code.prologue()).write(payload)
    place = data.draw(st.integers(0, len(first) - 1))
    changed = bytearray(first)
    changed[place] ^= data.draw(st.integers(1, 255))
    responder = Responder(SERVICE.raw, code.verifier(), code.prologue())
    with pytest.raises(NoiseError):
        responder.read(bytes(changed))
    assert Responder(SERVICE.raw, code.verifier(), code.prologue()).read(first) == payload


@given(st.binary(max_size=100))
def test_garbage_is_no_message(garbage: bytes) -> None:
    with pytest.raises(NoiseError):
        Responder(SERVICE.raw, SERVICE.public.raw, b"").read(garbage)


def test_a_message_binds_the_code_and_both_keys() -> None:
    code, other = EnrolmentCode.generate(), EnrolmentCode.generate()
    first = Initiator(code.private_key(), SERVICE.public.raw, code.prologue()).write(b"x")
    for static, verifier, bound in (
        (SERVICE.raw, other.verifier(), code.prologue()),
        (SERVICE.raw, code.verifier(), prologue(other.id)),
        (b"\x01" * 32, code.verifier(), code.prologue()),
    ):
        with pytest.raises(NoiseError):
            Responder(static, verifier, bound).read(first)


# -- codes


def test_codes_are_read_as_people_type_them() -> None:
    code = EnrolmentCode.generate()
    text = code.text()
    assert len(text) == 29
    assert EnrolmentCode.parse(text) == code
    assert EnrolmentCode.parse(f"  {text.lower().replace('-', ' ')} ") == code
    assert EnrolmentCode.parse(text.replace("0", "o").replace("1", "l")) == code
    assert code.secret not in repr(code)


@given(st.integers(0, 23), st.sampled_from("0123456789ABCDEFGHJKMNPQRSTVWXYZ"))
def test_a_mistyped_character_is_noticed_before_anything_is_sent(place: int, character: str) -> None:
    plain = EnrolmentCode("7K3MX", "0123456789ABCDEFG").text().replace("-", "")
    changed = plain[:place] + character + plain[place + 1 :]
    if changed == plain:
        return
    try:
        other = EnrolmentCode.parse(changed)
    except CodeError:
        return
    # Ten bits of check: about one slip in a thousand passes; it then opens nothing.
    assert other != EnrolmentCode.parse(plain)
    assert other.verifier() != EnrolmentCode.parse(plain).verifier()


@pytest.mark.parametrize("text", ["", "7K3M", "U" * 24, "7K3M-X2PQ-0000-0000-0000-000", "é" * 24])
def test_what_is_no_code(text: str) -> None:
    with pytest.raises(CodeError):
        EnrolmentCode.parse(text)


def test_verification_codes() -> None:
    code = verification_code()
    assert len(normal_verification(code)) == 8
    assert normal_verification("12-34 56/78٣") == "12345678"


# -- the sensor and false services


class FalseService:
    """Answers what a test tells it to."""

    def __init__(self) -> None:
        self.hello: Callable[[], tuple[int, str, bytes]] = lambda: (200, "application/json", _hello())
        self.answer: Callable[[dict[str, str]], tuple[int, str, bytes]] = lambda request: (500, "text/plain", b"")
        self.requests: list[dict[str, str]] = []
        self.hellos: list[SensorHello] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._reply(outer.hello())

            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append(request)
                self._reply(outer.answer(request))

            def _reply(self, what: tuple[int, str, bytes]) -> None:
                status, content_type, body = what
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def right(self, code: EnrolmentCode, grant: dict[str, Any]) -> None:
        """Answer as the true service does."""

        def answer(request: dict[str, str]) -> tuple[int, str, bytes]:
            exchange = Responder(SERVICE.raw, code.verifier(), prologue(request["code"]))
            hello = SensorHello.model_validate_json(exchange.read(base64.b64decode(request["message"])))
            self.hellos.append(hello)
            assert hello.wireguard_public_key or hello.board
            message = base64.b64encode(exchange.write(json.dumps(grant).encode())).decode()
            return 200, "application/json", json.dumps({"message": message}).encode()

        self.answer = answer


def _hello(key: str = str(SERVICE.public)) -> bytes:
    return ServiceHello(service_key=key).model_dump_json().encode()


@pytest.fixture
def service() -> Iterator[FalseService]:
    found = FalseService()
    thread = threading.Thread(target=found.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield found
    found.server.shutdown()
    found.server.server_close()
    thread.join()


def test_the_command_writes_identity_key_and_tunnel(service: FalseService, tmp_path: Path) -> None:
    code = EnrolmentCode.generate()
    service.right(code, GRANT)
    state = tmp_path / "state"
    arguments = [code.text(), "--service", service.url, "--state", str(state), "--verification", "1", "--json"]
    done = CliRunner().invoke(enrol, [*arguments, "--outgoing", "eth0.20"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["sensor_id"] == "hall-3"
    identity = Identity.load(state)
    assert identity.tunnel_address == "10.77.0.9"
    assert load_sensor_key(state, "hall-3").secret == b"\x66" * 32
    tunnel = load(state / "tunnel.conf")
    assert tunnel.outgoing == "eth0.20"
    assert str(tunnel.peers[0].allowed_ips[0]) == "10.77.0.1/32"
    assert tunnel.peers[0].persistent_keepalive == 25
    assert all(path.stat().st_mode & 0o077 == 0 for path in state.iterdir())
    # Nothing that travelled is readable.
    sent = json.dumps(service.requests)
    assert code.secret not in sent
    assert str(tunnel.private_key.public) not in sent
    # A second time only when asked for.
    assert CliRunner().invoke(enrol, arguments).exit_code == 2
    assert CliRunner().invoke(enrol, [*arguments, "--again"]).exit_code == 0


CAMERA: dict[str, Any] = {**GRANT, "sensor_id": "hall-4", "key": base64.b64encode(b"\x77" * 32).decode()} | {
    "tunnel": None,
    "board": "hall-3",
}


def test_a_camera_of_the_board_gets_its_own_key_in_a_subfolder(service: FalseService, tmp_path: Path) -> None:
    state = tmp_path / "state"

    def run(code: EnrolmentCode, *more: str) -> Result:
        there = ["--service", service.url, "--state", str(state), "--verification", ""]
        return CliRunner().invoke(enrol, [code.text(), *there, *more])

    code = EnrolmentCode.generate()
    early = run(code, "--camera")
    assert early.exit_code == 2
    assert "the board itself comes first" in early.output
    service.right(code, GRANT)
    assert run(code).exit_code == 0
    before = {path: path.read_bytes() for path in state.iterdir()}
    assert "--camera enrols a further camera" in run(code).output

    code = EnrolmentCode.generate()
    service.right(code, CAMERA)
    done = run(code, "--camera", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {
        "sensor_id": "hall-4",
        "board": "hall-3",
        "tunnel_address": "10.77.0.9",
        "service_url": "http://10.77.0.1:8400",
        "state": str(state / "hall-4"),
    }
    # The request proves the board, by its own key and for this code alone, and gives no key away.
    proof = service.hellos[-1].board
    assert proof is not None
    board_key = load_sensor_key(state, "hall-3")
    assert proof.holds(board_key, code.id, code.verifier())
    other = EnrolmentCode.generate()
    assert not proof.holds(board_key, code.id, other.verifier())
    assert not proof.holds(board_key, other.id, code.verifier())
    assert not proof.holds(SensorKey("hall-3", 1, b"\x01" * 32), code.id, code.verifier())
    assert not proof.holds(SensorKey("hall-5", 1, board_key.secret), code.id, code.verifier())
    assert not proof.model_copy(update={"mac": "%%"}).holds(board_key, code.id, code.verifier())
    assert service.hellos[-1].wireguard_public_key is None
    # The board is as it was; both are found.
    assert {path: path.read_bytes() for path in before} == before
    assert [(one.identity.sensor_id, one.identity.board) for one in enrolled(state)] == [
        ("hall-3", ""),
        ("hall-4", "hall-3"),
    ]
    own = Identity.load(state / "hall-4")
    assert own.load_key(state / "hall-4").secret == b"\x77" * 32
    assert [path.name for path in sorted((state / "hall-4").iterdir())] == ["identity.toml", "sensor.key"]
    assert all(path.stat().st_mode & 0o077 == 0 for path in (state / "hall-4").iterdir())
    # Its code again, after its folder was lost: the same sensor, no --again.
    assert run(code, "--camera").exit_code == 0
    for wrong in (("--camera", "--again"), ("--camera", "--outgoing", "eth0")):
        assert run(code, *wrong).exit_code == 2
    misplaced = ["--service", service.url, "--state", str(state / "hall-4"), "--camera"]
    inside = CliRunner().invoke(enrol, [code.text(), *misplaced])
    assert inside.exit_code == 2
    assert "give the board's own" in inside.output


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"board": None}, "did not enrol hall-4 as a camera of hall-3"),
        ({"board": "hall-9"}, "did not enrol hall-4 as a camera of hall-3"),
        ({"sensor_id": "spool"}, "cannot be called 'spool'"),
        ({"sensor_id": "../x"}, "not an enrolment"),
        ({"key": "AAAA"}, "key"),
    ],
)
def test_a_cameras_grant_that_cannot_be_used_leaves_nothing(
    service: FalseService, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    seal = GRANT["service_seal_key"]
    Identity(sensor_id="hall-3", service_url="http://10.77.0.1:8400", service_seal_key=seal).save(tmp_path)
    save_sensor_key(tmp_path, SensorKey("hall-3", 1, b"\x66" * 32))
    code = EnrolmentCode.generate()
    service.right(code, {**CAMERA, **change})
    arguments = [code.text(), "--service", service.url, "--state", str(tmp_path), "--verification", "", "--camera"]
    done = CliRunner().invoke(enrol, arguments)
    assert done.exit_code == 1, done.output
    assert words in done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["identity.toml", "sensor.key"]


def test_credentials_of_systemd_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`sensor.key` among the credentials is the board's, and must not pass for a further camera's."""
    credentials, folder = tmp_path / "credentials", tmp_path / "state" / "hall-4"
    for name, key in (("sensor.key", b"\x66" * 32), ("hall-5.key", b"\x55" * 32)):
        write_atomic(credentials / name, SensorKey("x", 1, key).to_text())
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    seal = GRANT["service_seal_key"]
    camera = Identity(sensor_id="hall-4", service_url="http://10.77.0.1", service_seal_key=seal, board="hall-3")
    save_sensor_key(folder, SensorKey("hall-4", 1, b"\x77" * 32))
    assert camera.load_key(folder).secret == b"\x77" * 32
    assert camera.model_copy(update={"sensor_id": "hall-5"}).load_key(folder).secret == b"\x55" * 32
    assert camera.model_copy(update={"sensor_id": "hall-3", "board": ""}).load_key(folder).secret == b"\x66" * 32


@pytest.mark.parametrize(
    ("status", "content_type", "body", "words"),
    [
        (
            403,
            "application/problem+json",
            b'{"detail": "this code has expired"}',
            "refused .403.: this code has expired",
        ),
        (403, "application/problem+json", b"{", "no Headroom service"),
        (404, "text/html", b"<html>", "no Headroom service"),
        (302, "text/html", b"", "no Headroom service"),
        (200, "application/json", b"{", "not an enrolment"),
        (200, "application/json", b"{}", "not an enrolment"),
        (200, "application/json", b'{"message": "%%%"}', "not an enrolment"),
        (200, "application/json", b'{"message": "' + b"A" * 400 + b'"}', "not the service that made this code"),
        (200, "application/json", b" " * 70_000, "not an enrolment"),
    ],
)
def test_false_answers(service: FalseService, status: int, content_type: str, body: bytes, words: str) -> None:
    service.answer = lambda request: (status, content_type, body)
    with pytest.raises(EnrolmentError, match=words):
        request_grant(service.url, EnrolmentCode.generate(), wireguard_public_key=SERVICE.public)


def test_who_stands_between_learns_and_changes_nothing(service: FalseService) -> None:
    """With a key of its own it can neither read the request nor answer it; replaying an older answer fails too."""
    code = EnrolmentCode.generate()
    between = PrivateKey.generate()
    service.hello = lambda: (200, "application/json", _hello(str(between.public)))

    def answer(request: dict[str, str]) -> tuple[int, str, bytes]:
        exchange = Responder(between.raw, PrivateKey.generate().public.raw, prologue(request["code"]))
        with pytest.raises(NoiseError):
            exchange.read(base64.b64decode(request["message"]))
        forged = base64.b64encode(exchange.write(json.dumps(GRANT).encode())).decode()
        return 200, "application/json", json.dumps({"message": forged}).encode()

    service.answer = answer
    with pytest.raises(EnrolmentError, match="not the service that made this code"):
        request_grant(service.url, code, wireguard_public_key=SERVICE.public)


def test_a_service_that_is_not_there() -> None:
    with pytest.raises(EnrolmentError, match="cannot be reached"):
        request_grant("http://127.0.0.1:1", EnrolmentCode.generate())


@pytest.mark.parametrize(
    "change",
    [
        {"key": "AAAA"},
        {"service_url": "http://x/\nsensor_id = 1"},
        {"tunnel": {**TUNNEL, "endpoint": "nowhere"}},
        {"tunnel": {**TUNNEL, "service_public_key": base64.b64encode(bytes(32)).decode()}},
        {"tunnel": {**TUNNEL, "address": "10.77.0.1\nPostUp = x"}},
    ],
)
def test_a_grant_that_cannot_be_used_leaves_nothing(
    service: FalseService, tmp_path: Path, change: dict[str, Any]
) -> None:
    code = EnrolmentCode.generate()
    service.right(code, {**GRANT, **change})
    arguments = [code.text(), "--service", service.url, "--state", str(tmp_path / "s"), "--verification", ""]
    done = CliRunner().invoke(enrol, arguments)
    assert done.exit_code == 1, done.output
    assert list((tmp_path / "s").iterdir()) == []


def test_wrong_use_is_exit_code_2(tmp_path: Path) -> None:
    good = EnrolmentCode.generate().text()
    state = ["--state", str(tmp_path), "--verification", ""]
    for arguments in (
        ["nonsense", "--service", "http://127.0.0.1:1"],
        [good, "--service", "ftp://x"],
        [good, "--service", "http://127.0.0.1:1", "--outgoing", "a b"],
        [good],
    ):
        done = CliRunner().invoke(enrol, [*arguments, *state])
        assert done.exit_code == 2, done.output


def test_a_grant_shows_no_secret() -> None:
    shown = repr(EnrolmentGrant.model_validate(GRANT))
    assert GRANT["key"] not in shown
    assert TUNNEL["preshared_key"] not in shown
