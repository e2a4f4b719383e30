"""The service's command line, and the service's half of enrolment."""

from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from analytics.cli.serve import serve
from analytics.cli.service import service as service_command
from analytics.domain.model import Sensor
from analytics.enrolment import AdministrationError, Enrolment, RefusedError
from analytics.service_keys import ServiceKeys, load_or_create
from analytics.service_tunnel import ServiceTunnel
from analytics.settings import ServiceSettings, SettingsError, TunnelSettings, load_settings
from analytics.web.app import Services
from tests.analytics.service_parts import Bench, Blank, bench, from_address, refused
from tests.bench._service import free_port, start
from uplink.enrolment import EnrolmentCode, request_grant
from uplink.keyfiles import KeyFileError
from uplink.wgkeys import PrivateKey

TUNNEL = TunnelSettings.model_validate({"address": "10.77.0.1/29", "endpoint": "192.0.2.1:51820"})


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path, tunnel=TUNNEL, code_attempts=3) as found:
        yield found


# -- the service's half of enrolment


def test_a_code_enrols_once(parts: Bench) -> None:
    enrolment = parts.services.enrolment
    issued = enrolment.add("hall-3", org_id="default", name="Hall 3")
    blank = Blank(enrolment, issued.code)
    grant = blank.knock(issued.verification)
    sensor = parts.store.find_sensor("hall-3")
    assert sensor is not None
    assert sensor.wireguard_public_key == str(blank.key.public)
    assert grant.tunnel is not None
    assert grant.tunnel.address == sensor.tunnel_ip == "10.77.0.2"
    assert grant.tunnel.service_public_key == str(parts.services.keys.wireguard.public)
    assert grant.sensor_key() == parts.services.keys.master.sensor_key("hall-3")
    assert grant.identity().seal_public_key == parts.services.keys.seal.public_key
    assert grant.identity().service_url == "http://10.77.0.1:8400"
    assert refused(Blank(enrolment, issued.code), issued.verification) == "code-not-valid"


def test_of_many_at_once_one_wins(parts: Bench) -> None:
    enrolment = parts.services.enrolment
    enrolment._settings = enrolment._settings.model_copy(update={"code_attempts": 50})
    issued = enrolment.add("hall-3", org_id="default")
    gate = threading.Barrier(8)

    def knock(_: int) -> str:
        blank = Blank(enrolment, issued.code)
        gate.wait()
        try:
            blank.knock(issued.verification)
        except RefusedError:
            return "refused"
        return str(blank.key.public)

    with ThreadPoolExecutor(8) as pool:
        winners = [result for result in pool.map(knock, range(8)) if result != "refused"]
    sensor = parts.store.find_sensor("hall-3")
    assert sensor is not None
    assert winners == [sensor.wireguard_public_key]


def test_attempts_are_bounded(parts: Bench) -> None:
    enrolment = parts.services.enrolment
    issued = enrolment.add("hall-3", org_id="default")
    assert refused(Blank(enrolment, issued.code), None) == "verification-missing"
    assert refused(Blank(enrolment, issued.code), "0000 0000") == "verification-wrong"
    code = EnrolmentCode.parse(issued.code)
    guess = EnrolmentCode(code.id, "0" * 17).text()
    assert refused(Blank(enrolment, guess), issued.verification) == "code-not-valid"
    assert refused(Blank(enrolment, issued.code), issued.verification) == "code-not-valid"  # dead, though right
    newer = enrolment.issue("hall-3", verification=False)
    assert newer.verification is None
    assert Blank(enrolment, newer.code).knock(None).sensor_id == "hall-3"


def test_codes_expire_and_newer_ones_replace_older(parts: Bench) -> None:
    now = [datetime(2026, 3, 2, tzinfo=UTC)]
    enrolment = Enrolment(parts.store, parts.services.keys, parts.services.settings, now=lambda: now[0])
    first = enrolment.add("hall-3", org_id="default")
    second = enrolment.issue("hall-3")
    assert refused(Blank(enrolment, first.code), first.verification) == "code-not-valid"
    now[0] += timedelta(hours=49)
    assert refused(Blank(enrolment, second.code), second.verification) == "code-not-valid"


def test_the_store_holds_nothing_that_enrols(parts: Bench) -> None:
    issued = parts.services.enrolment.add("hall-3", org_id="default")
    (stored,) = parts.store.enrolments("default")
    code = EnrolmentCode.parse(issued.code)
    text = repr(stored)
    assert code.secret not in text
    assert str(issued.verification) not in text
    assert base64.b64encode(code.private_key()).decode() not in text
    assert code.secret not in repr(issued)


def test_addresses_are_given_out_once_and_run_out_clearly(parts: Bench) -> None:
    enrolment = parts.services.enrolment
    given = []
    for number in range(5):
        issued = enrolment.add(f"hall-{number}", org_id="default", verification=False)
        grant = Blank(enrolment, issued.code).knock(None)
        assert grant.tunnel is not None
        given.append(grant.tunnel.address)
    assert given == [f"10.77.0.{number}" for number in range(2, 7)]
    issued = enrolment.add("hall-9", org_id="default", verification=False)
    assert refused(Blank(enrolment, issued.code), None) == "tunnel-full"
    enrolment.revoke("hall-1")  # its address is free again, and the code was not spent
    grant = Blank(enrolment, issued.code).knock(None)
    assert grant.tunnel is not None
    assert grant.tunnel.address == "10.77.0.3"  # that of the revoked one


def test_a_key_of_another_cannot_be_enrolled(parts: Bench) -> None:
    enrolment = parts.services.enrolment
    issued = [enrolment.add(f"hall-{number}", org_id="default", verification=False) for number in range(3)]
    key = PrivateKey.generate()
    Blank(enrolment, issued[0].code, key).knock(None)
    assert refused(Blank(enrolment, issued[1].code, key), None) == "key-not-valid"
    enrolment.revoke("hall-0")
    assert refused(Blank(enrolment, issued[1].code, key), None) == "key-not-valid"  # a thief's key stays known
    service = str(parts.services.keys.wireguard.public)
    assert refused(Blank(enrolment, issued[2].code), None, service) == "key-not-valid"
    assert refused(Blank(enrolment, issued[2].code), None, "A" * 44) == "key-not-valid"


def test_revocation_is_for_good(parts: Bench) -> None:
    changes: list[int] = []
    enrolment = Enrolment(
        parts.store, parts.services.keys, parts.services.settings, on_change=lambda: changes.append(1)
    )
    issued = enrolment.add("hall-3", org_id="default", verification=False)
    enrolment.revoke("hall-3")
    assert refused(Blank(enrolment, issued.code), None) == "code-not-valid"
    with pytest.raises(AdministrationError, match="for good"):
        enrolment.issue("hall-3")
    with pytest.raises(AdministrationError, match="already"):
        enrolment.add("hall-3", org_id="default")
    with pytest.raises(AdministrationError, match="no sensor"):
        enrolment.revoke("hall-4")
    first = parts.store.find_sensor("hall-3")
    assert enrolment.revoke("hall-3") == [first]  # again: nothing changes
    assert len(changes) == 2


def test_over_http_refusals_are_problems_and_strangers_are_slowed(parts: Bench) -> None:
    stranger = from_address(parts, "198.51.100.7")
    body = {"code": "00000", "message": "AAAA"}
    answers = [stranger.post("/v1/enrolment", json=body) for _ in range(32)]
    assert answers[0].status_code == 403
    assert answers[0].json()["type"] == "urn:headroom:problem:code-not-valid"
    assert answers[-1].status_code == 429
    assert answers[-1].headers["content-type"] == "application/problem+json"


# -- the tunnel's peers


def test_peers_are_the_enrolled_sensors_alone(parts: Bench) -> None:
    now = datetime.now(UTC)
    keys = [str(PrivateKey.generate().public) for _ in range(4)]
    sensors = [
        Sensor("default", "a", wireguard_public_key=keys[0], tunnel_ip="10.77.0.2", enrolled_at=now),
        Sensor("default", "b", wireguard_public_key=keys[1], tunnel_ip="10.77.0.3", enrolled_at=now, revoked_at=now),
        Sensor("default", "c", wireguard_public_key=keys[2], enrolled_at=now),
        Sensor("default", "d", wireguard_public_key="broken", tunnel_ip="10.77.0.5", enrolled_at=now),
        Sensor("default", "e"),
    ]
    said: list[list[str]] = []

    def run(argv: Any, *, stdin: str | None = None) -> str:
        said.append(list(argv))
        return ""

    tunnel = ServiceTunnel(TUNNEL, parts.services.keys, run=run)
    assert [str(key) for key in tunnel.peers(sensors)] == [keys[0]]
    tunnel.sync(sensors)
    assert [call[:4] for call in said] == [["wg", "set", "headroom0", "peer"]]
    said.clear()
    tunnel.sync(sensors)
    assert said == []  # nothing changed, nothing is touched
    # A replaced sensor: the old key goes before the new one takes over its address.
    tunnel.sync([replace(sensors[0], wireguard_public_key=keys[3])])
    assert [(call[4], call[-1]) for call in said] == [(keys[0], "remove"), (keys[3], "10.77.0.2/32")]


# -- keys and settings


def test_keys_are_made_once_and_never_beside_old_data(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    keys = load_or_create(tmp_path, folder)
    assert load_or_create(tmp_path, folder) == keys
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    (tmp_path / "headroom.db").write_bytes(b"old")
    (folder / "store.key").rename(tmp_path / "elsewhere")
    with pytest.raises(KeyFileError, match=r"store\.key"):
        load_or_create(tmp_path, folder)
    (tmp_path / "elsewhere").rename(folder / "store.key")
    (folder / "seal.key").chmod(0o644)
    with pytest.raises(KeyFileError, match="chmod 600"):
        load_or_create(tmp_path, folder)


def test_keys_do_not_show() -> None:
    keys = ServiceKeys.create()
    assert keys.store.hex() not in repr(keys)
    assert repr(keys.enrolment) not in repr(keys)
    assert repr(keys.wireguard.raw) not in repr(keys)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("port = 'x'", "port"),
        ("host = 'example.org'", "host"),
        ("surprise = 1", "surprise"),
        ("[tunnel]\naddress = '10.77.0.1/32'\nendpoint = 'a:1'", "leaves no room"),
        ("[tunnel]\naddress = '10.77.0.1/24'", "endpoint"),
        ("[tunnel]\naddress = '10.77.0.1/24'\nendpoint = 'a'", "has no port"),
        ("enrol = 'name:8401'", "enrol"),
        ("port = ", "service.toml"),
    ],
)
def test_settings_name_the_file_and_the_field(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "service.toml").write_text(text)
    with pytest.raises(SettingsError, match=words) as caught:
        load_settings(tmp_path)
    assert "service.toml" in str(caught.value)


def test_the_command_line_goes_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "service.toml").write_text("port = 1\n[tunnel]\naddress = '10.1.0.1/24'\nendpoint = '192.0.2.1:7'\n")
    settings = load_settings(tmp_path, {"port": 2, "tunnel": {"interface": "wg9"}})
    assert settings.port == 2
    assert settings.tunnel is not None
    assert (settings.tunnel.interface, settings.tunnel.udp_port) == ("wg9", 7)
    assert settings.service_url == "http://10.1.0.1:2"
    assert ServiceSettings(data=tmp_path, public_url="https://counts.example.org/").service_url.endswith("org")


# -- the command line


def invoke(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(service_command, ["sensor", *arguments])
    assert done.exit_code == code, done.output
    return done.stdout if code == 0 else done.output


def test_sensors_without_a_running_service(tmp_path: Path) -> None:
    data = ["--data", str(tmp_path / "service")]
    assert "headroom serve" in invoke("add", "hall-3", *data, code=1)
    assert not (tmp_path / "service").exists()  # a mistyped folder stays away
    load_or_create(tmp_path / "service", tmp_path / "service" / "keys")
    shown = invoke("add", "hall-3", "--name", "Hall 3", *data)
    code = next(word for word in shown.split() if word.count("-") == 5)
    assert EnrolmentCode.parse(code).text() == code
    assert "Verification code, to be delivered by another way:" in shown
    document = json.loads(invoke("add", "hall-4", "--no-verification", "--json", *data))
    assert document["verification"] is None
    assert json.loads(invoke("code", "hall-4", "--json", *data))["code"] != document["code"]
    assert "already" in invoke("add", "hall-3", *data, code=1)
    assert "lower-case" in invoke("add", "Hall_3", *data, code=2)
    assert json.loads(invoke("revoke", "hall-3", "--json", *data))["state"] == "revoked"
    listed = {entry["id"]: entry["state"] for entry in json.loads(invoke("list", "--json", *data))}
    assert listed == {"hall-3": "revoked", "hall-4": "new"}
    assert "no sensor" in invoke("revoke", "hall-9", *data, code=1)
    (tmp_path / "service" / "service.toml").write_text("port = -1")
    assert "port" in invoke("list", *data, code=2)


def test_orders_reach_the_running_service_and_it_ends_cleanly(tmp_path: Path) -> None:
    """A deep folder too: the socket's name is longer than a unix address may be."""
    data = tmp_path / ("deep" * 20) / "service"
    data.mkdir(parents=True, mode=0o700)
    port, process = start(load_settings(data), free_port())
    try:
        where = ["--data", str(data)]
        socket_mode = stat.S_IMODE((data / "admin.sock").stat().st_mode)
        assert socket_mode == 0o600
        issued = json.loads(invoke("add", "hall-3", "--json", *where))
        assert "already" in invoke("add", "hall-3", *where, code=1)
        grant = request_grant(
            f"http://127.0.0.1:{port}", EnrolmentCode.parse(issued["code"]), verification=issued["verification"]
        )
        assert grant.sensor_id == "hall-3"
        assert grant.tunnel is None
        assert json.loads(invoke("list", "--json", *where))[0]["state"] == "enrolled"
        assert "hall-3 is revoked" in invoke("revoke", "hall-3", *where)
        taken = CliRunner().invoke(serve, ["--data", str(tmp_path / "other"), "--port", str(port)])
        assert taken.exit_code == 1
        assert "choose another --port" in taken.output
        held = CliRunner().invoke(serve, [*where, "--port", "0"])
        assert held.exit_code == 1
    finally:
        process.terminate()
        assert process.wait(20) == 0
    assert not (data / "admin.sock").exists()


def test_no_sensor_package_is_needed_to_serve() -> None:
    """The service runs where OpenCV and ONNX Runtime are not installed."""
    code = "import sys, analytics.cli.serve, analytics.cli.service; print({'cv2', 'onnxruntime'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == "set()"


def test_services_can_be_put_together_from_a_folder(tmp_path: Path) -> None:
    with bench(tmp_path) as parts:
        services = Services.build(ServiceSettings(data=tmp_path / "other"), parts.store)
        services.close()
        assert (tmp_path / "other" / "keys" / "master.key").is_file()
