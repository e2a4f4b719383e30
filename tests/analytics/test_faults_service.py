"""The service under fire: afterwards the store equals what was counted, no record lost, none twice."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from analytics.runtime import open_store
from analytics.settings import Limits
from tests.analytics.service_parts import START, Bench, bench, record
from tests.bench._service import free_port, prepare, start
from uplink.backoff import Backoff
from uplink.sender import Result, Sender
from uplink.spool import Spool
from uplink.transport import Reply, RequestsTransport, TransportError

pytestmark = pytest.mark.faults

LONG = bool(os.environ.get("HEADROOM_LONG"))
OPEN = Limits(sensor_burst=10**6, sensor_rate=10**6)


class Hands:
    """A sensor's clock: its own hour, and waits that take no time."""

    def __init__(self, off: float = 0.0) -> None:
        self.off = off
        self.slept = 0.0

    def time(self) -> float:
        return time.time() + self.off

    def monotonic(self) -> float:
        return time.monotonic() + self.slept

    def sleep(self, seconds: float) -> None:
        self.slept += seconds


def test_killed_in_the_middle_of_writes(tmp_path: Path) -> None:
    """kill -9 at random moments while a sensor delivers; what was acknowledged is there, the rest comes again."""
    settings, keys, (key,) = prepare(tmp_path / "service", 1, OPEN)
    counted = [record(key.sensor_id, minute, present=minute % 9, present_max=10) for minute in range(10_000)]
    port = free_port()
    chance = random.Random(7)
    kills, acknowledged_before = 25 if LONG else 2, 0
    with Spool(tmp_path / "spool", key.sensor_id, keys.seal.public_key) as spool:
        transport = RequestsTransport(connect=1.0, read=5.0)
        sender = Sender(spool, f"http://127.0.0.1:{port}", key, transport, backoff=Backoff(base=0.01, cap=0.05))
        stop = threading.Event()
        thread = threading.Thread(target=sender.run, args=(stop,), kwargs={"idle_seconds": 0.01})
        for kill in range(kills):
            spool.append(counted[len(counted) * kill // kills : len(counted) * (kill + 1) // kills])
        process = None
        try:
            for kill in range(kills):
                _, process = start(settings, port)
                if kill == 0:
                    thread.start()
                until = time.monotonic() + 20
                while sender.status.records <= acknowledged_before and time.monotonic() < until:
                    time.sleep(0.001)
                time.sleep(chance.uniform(0.0, 0.08))
                process.kill()
                process.wait()
                acknowledged_before = sender.status.records
            assert len(spool) > 0, "nothing was left to interrupt"
            _, process = start(settings, port)
            until = time.monotonic() + 60
            while len(spool) and time.monotonic() < until:
                time.sleep(0.01)
        finally:
            stop.set()
            thread.join()
            transport.close()
            if process is not None:
                process.terminate()
                process.wait()
        assert len(spool) == 0
        assert spool.status().counters.lost == 0
        assert spool.status().counters.conflicting == 0
    with open_store(settings, keys) as store:
        slots = store.counts("default", [key.sensor_id], START, counted[-1].start.replace(year=2027))[key.sensor_id]
    assert [(int(slot["start"]), int(slot["present"])) for slot in slots] == [
        (int(entry.start.timestamp()), entry.present) for entry in counted
    ]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of three MiB."""
    if os.geteuid() != 0:
        pytest.skip("a small file system needs root to be mounted")
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m,mode=0700", "headroom-test", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_disk_full(small_disk: Path) -> None:
    """Nothing is acknowledged that is not durable; when there is room again, all of it arrives."""
    with bench(small_disk, limits=OPEN) as parts:
        key = parts.sensor()
        assert parts.post(key, [record(minute=0)]).status_code == 200
        ballast = small_disk / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as stream:
            while True:
                stream.write(b"\0" * 4096)
        refused, acknowledged = [], [0]
        for batch in range(1, 40):
            minutes = range(batch * 100, batch * 100 + 100)
            answer = parts.post(key, [record(minute=minute) for minute in minutes])
            if answer.status_code == 200:
                acknowledged += minutes
            else:
                assert answer.status_code == 503, answer.text
                assert "retry-after" in answer.headers
                refused.append(minutes)
        assert refused, "the disk was never full"
        before = {minute for minute, _ in parts.stored()}
        assert before >= set(acknowledged)
        ballast.unlink()
        for minutes in refused:
            assert parts.post(key, [record(minute=minute) for minute in minutes]).status_code == 200
        assert sorted(minute for minute, _ in parts.stored()) == [0, *range(100, 4_000)]


class Wire:
    """Between sender and service: loses requests, loses answers, sends twice, and hands over old answers."""

    def __init__(self, client: TestClient, seed: int) -> None:
        self._client = client
        self._chance = random.Random(seed)
        self._old: list[Reply] = []
        self.faults = 0
        self.quiet = False

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        kind = self._chance.choice(["none", "none", "lost", "unanswered", "twice", "old", "cut", "portal"])
        if self.quiet or kind == "none":
            return self._pass(url, body, headers)
        self.faults += 1
        if kind == "lost":
            raise TransportError("lost on the way")
        if kind == "portal":
            return Reply(200, {"content-type": "text/html"}, b"<html>please log in</html>")
        reply = self._pass(url, body, headers)
        if kind == "unanswered":
            raise TransportError("the answer was lost")
        if kind == "twice":
            self._pass(url, body, headers)
        if kind == "old" and self._old:
            return self._chance.choice(self._old)
        if kind == "cut":
            return Reply(reply.status, reply.headers, reply.body[:-3])
        return reply

    def _pass(self, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        answer = self._client.post(url, content=body, headers=dict(headers))
        reply = Reply(
            answer.status_code, {name.lower(): value for name, value in answer.headers.items()}, answer.content
        )
        self._old.append(reply)
        return reply


@pytest.mark.parametrize(("seed", "off"), [(1, 0.0), (2, 0.0), (3, -7_200.0), (4, 86_400.0)])
def test_a_wire_that_loses_repeats_and_delays(tmp_path: Path, seed: int, off: float) -> None:
    """With a clock that is right, two hours slow, or a day fast: once, and in full."""
    (tmp_path / "service").mkdir()
    with bench(tmp_path / "service", limits=OPEN) as parts:
        key = parts.sensor()
        deliver(parts, tmp_path / "spool", Wire(parts.client, seed), Hands(off), seed)
        assert [minute for minute, _ in parts.stored()] == list(range(600))
        assert [present for _, present in parts.stored()] == [minute % 7 for minute in range(600)]
        assert key.sensor_id == "hall-3"


def deliver(parts: Bench, folder: Path, wire: Wire, hands: Hands, seed: int) -> None:
    key = parts.services.keys.master.sensor_key("hall-3")
    assert key is not None
    counted = [record(minute=minute, present=minute % 7, present_max=7) for minute in range(600)]
    public = parts.services.keys.seal.public_key
    chance = random.Random(seed)
    place = 0
    while place < len(counted):  # the sensor restarts now and then: its spool is then sent sealed
        with Spool(folder, "hall-3", public) as spool:
            sender = Sender(spool, "http://127.0.0.1:8400", key, wire, clock=hands)
            for _ in range(6):
                step = chance.randint(1, 40)
                spool.append(counted[place : place + step])
                place += step
                sender.step()
                if chance.random() < 0.3:
                    hands.off += chance.choice([-3_600.0, 3_600.0])  # somebody sets the clock
    wire.quiet = True
    with Spool(folder, "hall-3", public) as spool:
        sender = Sender(spool, "http://127.0.0.1:8400", key, wire, clock=hands)
        assert sender.drain(attempts=20).result is Result.IDLE
        assert len(spool) == 0
        assert spool.status().counters.lost == 0
        assert spool.status().counters.conflicting == 0
    assert wire.faults > 20
