"""Two machines, a cable and a real WireGuard tunnel between them: network namespaces, a veth pair, wireguard-go.

Everything goes through the command line, as people use it.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from uplink.endpoint import Endpoint
from uplink.identity import Identity, load_sensor_key, save_sensor_key
from uplink.keys import SensorKey
from uplink.messages import CountRecord
from uplink.spool import SPOOL_FOLDER, Spool
from uplink.tunnel import Tunnel
from uplink.tunnel_health import TunnelState, parse_dump
from uplink.wg_backends import Run, TunnelError, control_socket, system_run
from uplink.wgconf import Peer, TunnelConfig, load, save
from uplink.wgkeys import PrivateKey

pytestmark = [pytest.mark.tunnel, pytest.mark.timeout(180)]

OUTER_SERVICE, OUTER_SENSOR = "192.0.2.1", "192.0.2.2"
SENSOR = "zebra-marker-hall"
REAR = "zebra-marker-rear"
HEADROOM = [sys.executable, "-m", "headroom"]
START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def records(first: int, number: int, sensor_id: str = SENSOR) -> list[CountRecord]:
    """One a minute, from the `first` minute on."""
    return [
        CountRecord(
            sensor_id=sensor_id,
            start=START + timedelta(minutes=minute),
            present=minute % 7,
            present_max=minute % 7 + 1,
            entered=minute % 5,
            left=minute % 3,
            coverage=1.0,
        )
        for minute in range(first, first + number)
    ]


class Lab:
    """Two namespaces and what runs in them. `close` leaves nothing behind."""

    def __init__(self, folder: Path) -> None:
        tag = f"{os.getpid() % 100_000:05d}"
        self.service_ns, self.sensor_ns = f"hrs{tag}", f"hrc{tag}"
        # The control sockets of wireguard-go are not separated by namespaces: the names must differ.
        self.service_if, self.sensor_if = f"hrws{tag}", f"hrwc{tag}"
        self.service_veth, self.sensor_veth = f"hrvs{tag}", f"hrvc{tag}"
        self.folder = folder
        self.data, self.state = folder / "service", folder / "sensor"
        self._processes: list[subprocess.Popen[bytes]] = []

    def open(self) -> None:
        for namespace in (self.service_ns, self.sensor_ns):
            self.ip("netns", "add", namespace)
            self.ip("-n", namespace, "link", "set", "lo", "up")
        self.ip(
            *("link", "add", self.service_veth, "netns", self.service_ns, "type", "veth"),
            *("peer", "name", self.sensor_veth, "netns", self.sensor_ns),
        )
        for namespace, veth, address in (
            (self.service_ns, self.service_veth, OUTER_SERVICE),
            (self.sensor_ns, self.sensor_veth, OUTER_SENSOR),
        ):
            self.ip("-n", namespace, "address", "add", f"{address}/30", "dev", veth)
            self.ip("-n", namespace, "link", "set", veth, "up")

    def ip(self, *arguments: str) -> str:
        return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=10).stdout

    def start(self, namespace: str, argv: list[str], log: str) -> subprocess.Popen[bytes]:
        with (self.folder / log).open("ab") as stream:
            process = subprocess.Popen(
                ["ip", "netns", "exec", namespace, *argv],
                stdout=stream,
                stderr=stream,
                stdin=subprocess.DEVNULL,
            )
        self._processes.append(process)
        return process

    def run(self, namespace: str, *arguments: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """A command of Headroom's in a namespace; must end with `code` (None: any)."""
        done = subprocess.run(
            ["ip", "netns", "exec", namespace, *HEADROOM, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        assert code is None or done.returncode == code, (arguments, done.returncode, done.stdout, done.stderr)
        return done

    def serve(self) -> subprocess.Popen[bytes]:
        process = self.start(
            self.service_ns,
            [
                *HEADROOM,
                "serve",
                *("--data", str(self.data), "--port", "8400", "--enrol", f"{OUTER_SERVICE}:8401"),
                *("--tunnel", "10.77.0.1/24", "--endpoint", f"{OUTER_SERVICE}:51820", "--interface", self.service_if),
            ],
            "serve.log",
        )
        wait_for(lambda: "Listening on" in (self.folder / "serve.log").read_text(), 30, process)
        return process

    def sensor(self, *arguments: str, state: Path | None = None, code: int | None = 0) -> Any:
        """A sensor's command with --json."""
        done = self.run(self.sensor_ns, *arguments, "--state", str(state or self.state), "--json", code=code)
        return json.loads(done.stdout) if done.stdout.strip() else {"error": done.stderr}

    def send(self, state: Path | None = None, code: int | None = 0) -> Any:
        return self.sensor("sensor", "send", "--attempts", "1", state=state, code=code)

    def administer(self, *arguments: str) -> Any:
        return json.loads(
            self.run(self.service_ns, "service", "sensor", *arguments, "--data", str(self.data), "--json").stdout
        )

    def capture(self, namespace: str, interface: str) -> tuple[subprocess.Popen[bytes], Path]:
        path = self.folder / f"{interface}.pcap"
        argv = ["tcpdump", "-i", interface, "-U", "-s", "0", "--immediate-mode", "-Z", "root", "-w", str(path)]
        process = self.start(namespace, argv, f"{interface}.log")
        wait_for(lambda: path.exists() and path.stat().st_size >= 24, 10, process)
        return process, path

    def close(self) -> None:
        for process in reversed(self._processes):
            end(process)
        for namespace in (self.sensor_ns, self.service_ns):
            pids = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True, check=False)
            for pid in pids.stdout.split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            subprocess.run(["ip", "netns", "delete", namespace], capture_output=True, check=False)
        for interface in (self.service_if, self.sensor_if):
            control_socket(interface).unlink(missing_ok=True)


def end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(condition: Any, seconds: float, process: subprocess.Popen[bytes] | None = None) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None, "the process ended early"
        assert time.monotonic() < deadline, f"did not happen within {seconds} s"
        time.sleep(0.02)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    for program in ("ip", "wg", "tcpdump"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    if shutil.which("wireguard-go") is None and not Path("/sys/module/wireguard").exists():
        pytest.skip("neither wireguard-go nor the kernel's WireGuard is there")
    lab = Lab(tmp_path)
    try:
        lab.open()
    except subprocess.CalledProcessError as error:
        lab.close()
        pytest.skip(f"network namespaces cannot be made here: {error.stderr.strip()}")
    try:
        yield lab
    finally:
        lab.close()
        left = lab.ip("netns", "list")
        assert lab.service_ns not in left
        assert lab.sensor_ns not in left
        assert not control_socket(lab.service_if).exists()
        assert not control_socket(lab.sensor_if).exists()


def fill(state: Path, batch: list[CountRecord]) -> None:
    identity = Identity.load(state)
    with Spool(state / SPOOL_FOLDER, identity.sensor_id, identity.seal_public_key) as spool:
        spool.append(batch)


def stored(lab: Lab, sensor_id: str = SENSOR) -> list[tuple[datetime, int, int, int]]:
    """What the store holds of the sensor, with the service stopped."""
    from analytics.runtime import open_store
    from analytics.service_keys import ServiceKeys
    from analytics.settings import load_settings

    settings = load_settings(lab.data)
    with open_store(settings, ServiceKeys.load(settings.keys)) as store:
        found = store.counts("default", [sensor_id], START, START + timedelta(days=30))[sensor_id]
    return sorted(
        (datetime.fromtimestamp(int(slot["start"]), UTC), int(slot["present"]), int(slot["entered"]), int(slot["left"]))
        for slot in found
    )


def as_stored(batch: list[CountRecord]) -> list[tuple[datetime, int | None, int, int]]:
    return [(record.start, record.present, record.entered, record.left) for record in batch]


@pytest.mark.footage
def test_a_real_clip_is_counted_on_one_side_and_stored_on_the_other(lab: Lab, data_folder: Path) -> None:
    pytest.importorskip("cv2", reason="the sensor part is not installed")
    clip = data_folder / "footage" / "store-aisle-detection.gif"
    model = data_folder / "teachers" / "yolox_nano_416.onnx"
    for path in (clip, model):
        if not path.is_file():
            pytest.skip(f"{path} is not there")
    server = lab.serve()
    issued = lab.administer("add", SENSOR, "--no-verification")
    service = ["--service", f"http://{OUTER_SERVICE}:8401", "--verification", ""]
    lab.sensor("sensor", "enrol", issued["code"], *service)
    lab.run(lab.sensor_ns, "tunnel", "up", "--interface", lab.sensor_if, "--state", str(lab.state))
    _, outer = lab.capture(lab.service_ns, lab.service_veth)
    start = ["--start", START.isoformat(), "--interval", "1", "--model", str(model)]
    counted = lab.sensor("count", str(clip), *start, "--send")
    assert lab.send()["waiting"] == 0
    end(server)

    records = [CountRecord.model_validate({**entry, "sensor_id": SENSOR}) for entry in counted["records"]]
    assert len(records) >= 4
    assert max(record.present or 0 for record in records) >= 2  # three people are in the aisle
    assert stored(lab) == as_stored(records)
    seen = outer.read_bytes()
    assert len(seen) > 1_000
    assert SENSOR.encode() not in seen
    assert b"HTTP/1.1" not in seen


def test_counts_travel_through_a_real_tunnel(lab: Lab) -> None:
    server = lab.serve()

    # A blank sensor becomes an enrolled one over plain HTTP, and who listens learns no secret.
    _, outer = lab.capture(lab.service_ns, lab.service_veth)
    issued = lab.administer("add", SENSOR)
    enrol = ["sensor", "enrol", issued["code"], "--service", f"http://{OUTER_SERVICE}:8401"]
    wrong = lab.sensor(*enrol, "--verification", "0000 0000", code=1)
    assert "verification" in wrong["error"]
    assert not (lab.state / "identity.toml").exists()
    enrolled = lab.sensor(*enrol, "--verification", issued["verification"], "--outgoing", lab.sensor_veth)
    assert enrolled["tunnel_address"] == "10.77.0.2"
    again = lab.sensor(*enrol, "--verification", issued["verification"], "--again", code=1)
    assert "not valid" in again["error"]

    # The tunnel comes up, pinned to its interface; its health says so.
    config = load(lab.state / "tunnel.conf")
    up = ["tunnel", "up", "--interface", lab.sensor_if, "--state", str(lab.state)]
    lab.run(lab.sensor_ns, *up)
    status = lab.sensor("tunnel", "status", "--interface", lab.sensor_if)
    assert status["state"] == "ok"
    assert status["backend"] in {"kernel", "userspace"}
    assert f"{OUTER_SERVICE} dev {lab.sensor_veth}" in lab.ip("-n", lab.sensor_ns, "route")

    # Counts arrive.
    inner_capture, inner = lab.capture(lab.service_ns, lab.service_if)
    first = records(0, 120)
    fill(lab.state, first)
    sent = lab.send()
    assert (sent["sent"], sent["waiting"]) == (120, 0)
    end(inner_capture)

    # The cable is cut for a while: nothing is lost.
    second = records(120, 30)
    fill(lab.state, second)
    lab.ip("-n", lab.service_ns, "link", "set", lab.service_veth, "down")
    assert lab.send(code=1)["waiting"] == 30
    lab.ip("-n", lab.service_ns, "link", "set", lab.service_veth, "up")
    wait_for(lambda: lab.send(code=None)["waiting"] == 0, 30)

    # Another's key, whichever of the two, opens nothing.
    forged = lab.folder / "forged"
    shutil.copytree(lab.state, forged, ignore=shutil.ignore_patterns(SPOOL_FOLDER))
    save_sensor_key(forged, SensorKey(SENSOR, 1, os.urandom(32)))
    fill(forged, records(1000, 3))
    assert lab.send(forged, code=1)["waiting"] == 3
    stranger = lab.folder / "stranger"
    shutil.copytree(lab.state, stranger)
    save(stranger / "tunnel.conf", type(config)(PrivateKey.generate(), config.addresses, config.peers))
    lab.run(lab.sensor_ns, "tunnel", "down", "--interface", lab.sensor_if, "--state", str(lab.state))
    strange = ["tunnel", "up", "--interface", lab.sensor_if, "--state", str(stranger), "--wait", "1.5"]
    refused = lab.run(lab.sensor_ns, *strange, code=1)
    assert "no answer" in refused.stderr
    fill(stranger, records(2000, 3))
    assert lab.send(stranger, code=1)["waiting"] == 3
    lab.run(lab.sensor_ns, "tunnel", "down", "--interface", lab.sensor_if, "--state", str(stranger))
    lab.run(lab.sensor_ns, *up)

    # Revoked: tunnel and key end at once.
    assert lab.administer("revoke", SENSOR)["state"] == "revoked"
    dump = lab.ip("netns", "exec", lab.service_ns, "wg", "show", lab.service_if, "dump")
    assert parse_dump(lab.service_if, dump, "").peers == ()
    fill(lab.state, records(3000, 3))
    assert lab.send(code=1)["waiting"] == 3

    end(server)
    assert server.returncode == 0
    assert stored(lab) == as_stored(first + second)

    # The wire outside shows WireGuard and the enrolment's sealed messages, no secret and no counts.
    seen = outer.read_bytes()
    for secret in (
        base64.b64encode(load_sensor_key(lab.state, SENSOR).secret),
        config.private_key.secret_text().encode(),
        (config.peers[0].preshared_key or pytest.fail("no preshared key")).secret_text().encode(),
        issued["code"][7:20].encode(),
        issued["verification"].encode(),
        issued["verification"].replace(" ", "").encode(),
        SENSOR.encode(),
        b"/v1/counts",
    ):
        assert secret not in seen
    assert b"POST /v1/counts" in inner.read_bytes()  # the same probe does find it where it is readable
    assert SENSOR.encode() in inner.read_bytes()


def peers(lab: Lab) -> list[str]:
    """The addresses that the service's WireGuard lets in."""
    dump = lab.ip("netns", "exec", lab.service_ns, "wg", "show", lab.service_if, "dump")
    return sorted(address for peer in parse_dump(lab.service_if, dump, "").peers for address in peer.allowed_ips)


def test_two_cameras_share_a_tunnel_and_another_board_does_not(lab: Lab) -> None:
    """A third sensor, of a board of its own, may not speak through this one's tunnel, whatever it holds."""
    server = lab.serve()
    there = ["--service", f"http://{OUTER_SERVICE}:8401", "--verification", ""]
    first = lab.administer("add", SENSOR, "--no-verification")
    assert lab.sensor("sensor", "enrol", first["code"], *there)["tunnel_address"] == "10.77.0.2"
    second = lab.administer("add", REAR, "--board", SENSOR, "--no-verification")
    camera = lab.sensor("sensor", "enrol", second["code"], *there, "--camera")
    assert (camera["board"], camera["tunnel_address"]) == (SENSOR, "10.77.0.2")
    other = lab.folder / "other"
    third = lab.administer("add", "other", "--no-verification")
    assert lab.sensor("sensor", "enrol", third["code"], *there, state=other)["tunnel_address"] == "10.77.0.3"
    lab.run(lab.sensor_ns, "tunnel", "up", "--interface", lab.sensor_if, "--state", str(lab.state))
    assert peers(lab) == ["10.77.0.2/32", "10.77.0.3/32"]

    fill(lab.state, records(0, 5))
    fill(lab.state / REAR, records(0, 7, REAR))
    sent = lab.send()
    assert {name: one["sent"] for name, one in sent["sensors"].items()} == {SENSOR: 5, REAR: 7}
    fill(other, records(0, 3, "other"))
    refused = lab.send(other, code=1)
    assert refused["waiting"] == 3

    # One camera is revoked: the other goes on through the same tunnel. Then the board, with what is left of it.
    assert lab.administer("revoke", REAR)["cameras"] == []
    fill(lab.state, records(5, 5))
    fill(lab.state / REAR, records(7, 1, REAR))
    sent = lab.send(code=1)
    assert {name: (one["sent"], one["waiting"]) for name, one in sent["sensors"].items()} == {
        SENSOR: (5, 0),
        REAR: (0, 1),
    }
    lab.administer("revoke", SENSOR)
    assert peers(lab) == ["10.77.0.3/32"]
    end(server)
    assert stored(lab) == as_stored(records(0, 10))
    assert stored(lab, REAR) == as_stored(records(0, 7, REAR))
    assert stored(lab, "other") == []


def in_namespace(namespace: str) -> Run:
    def run(argv: Sequence[str], *, stdin: str | None = None) -> str:
        return system_run(["ip", "netns", "exec", namespace, *argv], stdin=stdin)

    return run


def test_leaves_by_the_named_interface_or_not_at_all(lab: Lab) -> None:
    """Two ways to the service; the tunnel is bound to the second. Also: a killed wireguard-go comes back."""
    service, public = lab.service_ns, "198.51.100.1"
    second, far = "hrsecond", "hrfar"
    lab.ip("link", "add", far, "netns", service, "type", "veth", "peer", "name", second, "netns", lab.sensor_ns)
    for namespace, link, address in ((service, far, "203.0.113.1/30"), (lab.sensor_ns, second, "203.0.113.2/30")):
        try:
            lab.ip("-n", namespace, "link", "add", "link", link, "name", f"{link}.20", "type", "vlan", "id", "20")
            name = f"{link}.20"
        except subprocess.CalledProcessError:
            name = link  # this kernel has no VLANs: a plain second interface shows the same
        lab.ip("-n", namespace, "link", "set", link, "up")
        lab.ip("-n", namespace, "link", "set", name, "up")
        lab.ip("-n", namespace, "address", "add", address, "dev", name)
    outgoing = name
    lab.ip("-n", service, "address", "add", f"{public}/32", "dev", "lo")
    lab.ip("-n", lab.sensor_ns, "route", "add", "default", "via", OUTER_SERVICE)
    lab.ip("-n", lab.sensor_ns, "route", "add", "default", "via", "203.0.113.1", "dev", outgoing, "metric", "200")

    keys = PrivateKey.generate(), PrivateKey.generate()
    inner = [ipaddress.ip_interface("10.77.0.1/24"), ipaddress.ip_interface("10.77.0.2/32")]
    ours = Tunnel(
        lab.service_if,
        TunnelConfig(
            keys[0], (inner[0],), (Peer(keys[1].public, (ipaddress.ip_network("10.77.0.2/32"),)),), listen_port=51820
        ),
        run=in_namespace(service),
    )
    peer = Peer(
        keys[0].public, (ipaddress.ip_network("10.77.0.1/32"),), Endpoint(public, 51820), persistent_keepalive=1
    )
    sensor = Tunnel(
        lab.sensor_if,
        TunnelConfig(keys[1], (inner[1],), (peer,), outgoing=outgoing),
        run=in_namespace(lab.sensor_ns),
    )

    destination = ipaddress.ip_address(public).packed
    captures = [lab.capture(lab.sensor_ns, interface) for interface in (lab.sensor_veth, outgoing)]

    def sent(which: int) -> int:
        return captures[which][1].read_bytes().count(destination)

    try:
        ours.up()
        sensor.up()
        wait_for(lambda: sensor.health().state is TunnelState.OK, 10)
        wait_for(lambda: sent(1) > 0, 10)

        # The named link goes: WireGuard goes on trying, and nothing finds the other way.
        lab.ip("-n", lab.sensor_ns, "link", "set", outgoing, "down")
        time.sleep(2.5)
        route = subprocess.run(
            ["ip", "-n", lab.sensor_ns, "route", "get", public], capture_output=True, text=True, check=False
        )
        assert route.returncode != 0
        assert sent(0) == 0

        # It comes back, and so does the tunnel, by the same way.
        lab.ip("-n", lab.sensor_ns, "link", "set", outgoing, "up")
        wait_for(lambda: mended(sensor), 10)
        received = ours.status().peers[0].rx_bytes
        wait_for(lambda: ours.status().peers[0].rx_bytes > received, 15)
        assert sent(0) == 0

        # wireguard-go is killed: the interface is gone, a tick brings both back.
        if sensor.status().backend == "userspace":
            pids = lab.ip("netns", "pids", lab.sensor_ns).split()
            for pid in pids:
                os.kill(int(pid), signal.SIGKILL)
            wait_for(lambda: not sensor.status().up, 5)
            assert sensor.health().state is TunnelState.DOWN
            wait_for(lambda: mended(sensor), 5)
            wait_for(lambda: sensor.health().state is TunnelState.OK, 20)
    finally:
        sensor.down()
        ours.down()
    assert public not in lab.ip("-n", lab.sensor_ns, "route")


def mended(tunnel: Tunnel) -> bool:
    try:
        tunnel.tick()
    except TunnelError:
        return False
    return True
