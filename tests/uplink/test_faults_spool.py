"""Fault campaign of the sensor's side: afterwards the store equals what was counted, no record lost, none twice.

HEADROOM_LONG=1 runs the long form.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from uplink.backoff import Backoff
from uplink.messages import CountRecord
from uplink.segment import SystemFileOps
from uplink.sender import Result, Sender
from uplink.spool import Spool
from uplink.testing import LoopbackTransport, ReferenceService, serving
from uplink.transport import Reply, RequestsTransport, Transport, TransportError

pytestmark = pytest.mark.faults
LONG = bool(os.environ.get("HEADROOM_LONG"))
SENSOR = "hall-3"
Make = Callable[..., CountRecord]
Opener = Callable[..., Spool]


def deliver(spool: Spool, service: ReferenceService, clock, transport: Transport | None = None) -> None:
    """Drain through a sound link: everything that waits must arrive."""
    sender = Sender(
        spool,
        "http://service",
        service.keys.sensor_key(SENSOR),
        transport or LoopbackTransport(service),
        clock=clock,
        backoff=Backoff(rng=random.Random(1)),
    )
    assert sender.drain(attempts=1_000).result is Result.IDLE
    assert len(spool) == 0


def minutes(service: ReferenceService, record: Make) -> set[int]:
    """Which of the test's records are in the store; each must be there with the value it was counted with."""
    assert not service.conflicts
    first = record(0).start
    found = set()
    for (sensor_id, start), stored in service.stored.items():
        minute = int((start - first).total_seconds()) // 60
        assert sensor_id == SENSOR
        assert stored == record(minute)
        found.add(minute)
    return found


class Child:
    """A forked sensor. It says what it begins and what it was promised to be durable; it is killed from outside."""

    def __init__(self, work: Callable[[Callable[[bytes, int], None]], None]) -> None:
        self._read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._read)
                work(lambda kind, minute: os.write(write, kind + struct.pack("<I", minute)) and None)
            finally:
                os._exit(0)
        os.close(write)

    def kill_after(self, seconds: float) -> tuple[set[int], set[int]]:
        """Kill -9 `seconds` after its first word. Returns what it began, and what was durable."""
        data = os.read(self._read, 5)
        time.sleep(seconds)  # a real process in real time: there is no clock to turn
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        while chunk := os.read(self._read, 65_536):
            data += chunk
        os.close(self._read)
        words = [(data[at : at + 1], struct.unpack_from("<I", data, at + 1)[0]) for at in range(0, len(data) - 4, 5)]
        return {m for kind, m in words if kind == b"B"}, {m for kind, m in words if kind == b"D"}


def count_for_ever(spool: Spool, record: Make, first: int, say: Callable[[bytes, int], None]) -> Iterator[None]:
    """Append one record after the other and report it."""
    minute = first
    while True:
        say(b"B", minute)
        if spool.append([record(minute)]):
            say(b"D", minute)
        minute += 1
        yield


@pytest.mark.parametrize("runs", [400 if LONG else 60])
def test_a_sensor_killed_at_random_points_of_writing_loses_nothing(
    runs: int, service: ReferenceService, record: Make, open_spool: Opener, clock
) -> None:
    rng = random.Random(4)
    begun: set[int] = set()
    durable: set[int] = set()

    def work(say: Callable[[bytes, int], None]) -> None:
        for _ in count_for_ever(open_spool(max_records=10**6), record, max(begun, default=-1) + 1, say):
            pass

    for _ in range(runs):
        started, done = Child(work).kill_after(rng.uniform(0.0, 0.02))
        begun |= started
        durable |= done
    with open_spool(max_records=10**6) as spool:
        deliver(spool, service, clock)
        counters = spool.status().counters
    stored = minutes(service, record)
    assert durable <= stored <= begun
    assert len(begun) - len(durable) <= runs
    assert len(durable) > runs
    assert counters.damaged == counters.dropped == counters.rejected == 0


@pytest.mark.parametrize("runs", [300 if LONG else 40])
def test_a_sensor_killed_while_it_writes_and_sends_delivers_each_record_once(
    runs: int, service: ReferenceService, record: Make, open_spool: Opener, clock
) -> None:
    rng = random.Random(5)
    begun: set[int] = set()
    durable: set[int] = set()
    with serving(service) as url:

        def work(say: Callable[[bytes, int], None]) -> None:
            spool = open_spool(save_every=4)
            sender = Sender(spool, url, service.keys.sensor_key(SENSOR), RequestsTransport(), clock=clock)
            for _ in count_for_ever(spool, record, max(begun, default=-1) + 1, say):
                if random.random() < 0.3:
                    sender.step()

        for _ in range(runs):
            started, done = Child(work).kill_after(rng.uniform(0.0, 0.05))
            begun |= started
            durable |= done
        with open_spool() as spool:
            deliver(spool, service, clock)
            counters = spool.status().counters
    stored = minutes(service, record)
    assert durable <= stored <= begun
    assert counters.damaged == counters.dropped == counters.conflicting == counters.rejected == 0
    assert counters.appended == counters.settled


@pytest.fixture
def closed_spool(open_spool: Opener, record: Make, fast_folder: Path) -> Path:
    """A spool with seven records, written and left by an earlier process."""
    with open_spool() as spool:
        assert spool.append([record(minute) for minute in range(7)])
    open_spool().close()  # trims the file
    return fast_folder / "spool"


def _after_damage(folder: Path, service: ReferenceService, record: Make, clock, spoil: Callable[[Path], None]):
    """Copy the spool, spoil its segment, deliver. Returns what arrived and the counters."""
    copy = folder.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    (segment,) = copy.glob("*.segment")
    spoil(segment)
    service.stored.clear()
    with Spool(copy, SENSOR, service.seal_keys.public_key) as spool:
        deliver(spool, service, clock)
        return minutes(service, record), spool.status().counters


def test_a_flipped_byte_anywhere_costs_at_most_one_record_and_is_counted(
    closed_spool: Path, service: ReferenceService, record: Make, clock
) -> None:
    (segment,) = closed_spool.glob("*.segment")
    size = segment.stat().st_size
    for place in range(size):

        def flip(path: Path, place: int = place) -> None:
            data = bytearray(path.read_bytes())
            data[place] ^= 1 << (place % 8)
            path.write_bytes(data)

        arrived, counters = _after_damage(closed_spool, service, record, clock, flip)
        assert len(arrived) == (7 if place < 512 else 6)
        assert counters.lost == 7 - len(arrived)
        assert counters.appended == 7


def test_a_file_cut_at_any_byte_keeps_what_is_before_and_counts_the_rest(
    closed_spool: Path, service: ReferenceService, record: Make, clock
) -> None:
    (segment,) = closed_spool.glob("*.segment")
    for size in range(segment.stat().st_size):
        arrived, counters = _after_damage(closed_spool, service, record, clock, lambda path: os.truncate(path, size))  # noqa: B023
        whole = max(0, (size - 512) // 64)
        assert arrived == (set(range(whole)) if size >= 256 else set())
        assert (len(arrived), counters.lost) == (whole, 7 - whole)


def test_pages_of_zeros_and_of_noise_are_skipped_and_counted(
    closed_spool: Path, service: ReferenceService, record: Make, clock
) -> None:
    rng = random.Random(6)
    for page in (bytes(128), rng.randbytes(128), b"\xff" * 128):

        def spoil(path: Path, page: bytes = page) -> None:
            with path.open("r+b") as file:
                file.seek(512 + 2 * 64)
                file.write(page)

        arrived, counters = _after_damage(closed_spool, service, record, clock, spoil)
        assert arrived == {0, 1, 4, 5, 6}
        assert counters.damaged == 2


def test_a_damaged_state_file_only_sends_twice(
    closed_spool: Path, open_spool: Opener, service: ReferenceService, record: Make, clock
) -> None:
    with open_spool() as spool:
        sender = Sender(spool, "http://x", service.keys.sensor_key(SENSOR), LoopbackTransport(service), clock=clock)
        sender._limit = 3
        assert sender.step().records == 3
    state = closed_spool / "state.json"
    for spoiled in (b"", b"{}", state.read_bytes()[:-4], state.read_bytes().replace(b"7", b"8", 1), os.urandom(200)):
        state.write_bytes(spoiled)
        with open_spool() as spool:
            assert len(spool) == 7
    with open_spool() as spool:
        deliver(spool, service, clock)
        counters = spool.status().counters
        assert (counters.delivered, counters.duplicate, counters.lost) == (4, 3, 0)
    assert minutes(service, record) == set(range(7))


class PowerCut(BaseException):
    """The moment the light goes out; nothing in the product may catch it."""


class UnsafeDisk(SystemFileOps):
    """A disk that keeps only what was synced. Of the rest it keeps sectors at random, as a card does."""

    def __init__(self, rng: random.Random, operations: int) -> None:
        self._rng = rng
        self._left = operations
        self._paths: dict[int, Path] = {}
        self._before: dict[Path, bytes] = {}
        self._unnamed: set[Path] = set()

    def create(self, path: Path) -> int:
        self._tick()
        descriptor = super().create(path)
        self._paths[descriptor] = path
        self._before[path] = b""
        self._unnamed.add(path)
        return descriptor

    def pwrite(self, descriptor: int, data: bytes, offset: int) -> int:
        self._before.setdefault(self._paths[descriptor], self._paths[descriptor].read_bytes())
        if self._left == 1:
            super().pwrite(descriptor, data[: self._rng.randrange(len(data) + 1)], offset)
        self._tick()
        return super().pwrite(descriptor, data, offset)

    def sync(self, descriptor: int) -> None:
        self._tick()
        super().sync(descriptor)
        self._before.pop(self._paths[descriptor], None)

    def sync_folder(self, folder: Path) -> None:
        self._tick()
        self._unnamed.clear()

    def _tick(self) -> None:
        self._left -= 1
        if self._left <= 0:
            raise PowerCut

    def cut(self) -> None:
        """What is on the disk when the power is back."""
        for path, before in self._before.items():
            if not path.exists():
                continue
            after = path.read_bytes()
            size = self._rng.choice(
                [len(before), len(after), self._rng.randint(len(before), max(len(before), len(after)))]
            )
            kept = bytearray(after[:size])
            for sector in range(0, size, 512):
                if self._rng.random() < 0.5:
                    old = before[sector : sector + 512].ljust(512, b"\0")
                    kept[sector : sector + 512] = old[: len(kept[sector : sector + 512])]
            path.write_bytes(kept)
        for path in self._unnamed:
            if self._rng.random() < 0.5:
                path.unlink(missing_ok=True)


@pytest.mark.parametrize("seed", range(600 if LONG else 80))
def test_power_cuts_keep_every_record_that_was_promised(
    seed: int, service: ReferenceService, record: Make, open_spool: Opener, clock
) -> None:
    rng = random.Random(seed)
    durable: set[int] = set()
    minute = 0
    for _ in range(4):
        disk = UnsafeDisk(rng, rng.randrange(1, 60))
        begin = minute
        with contextlib.suppress(PowerCut):
            spool = open_spool(ops=disk, commit_records=rng.choice([1, 1, 3]))
            while True:
                taken = range(minute, minute + rng.randrange(1, 5))
                minute = taken.stop
                if spool.append([record(each) for each in taken]):
                    durable.update(range(begin, minute))  # True speaks of everything that was ever taken
        os.close(spool._lock)  # the process is gone, and its lock with it
        disk.cut()
    with open_spool() as spool:
        deliver(spool, service, clock)
    assert durable <= minutes(service, record) <= set(range(minute))


class FullDisk(SystemFileOps):
    """A disk that is full, or takes half of a write and then is, for as long as the test says."""

    full = False
    half = False

    def create(self, path: Path) -> int:
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().create(path)

    def pwrite(self, descriptor: int, data: bytes, offset: int) -> int:
        if self.half:
            self.half = False
            self.full = True
            return super().pwrite(descriptor, data[: len(data) // 2], offset)
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().pwrite(descriptor, data, offset)


def test_a_full_disk_makes_records_wait_in_ram_and_none_is_lost(
    service: ReferenceService, record: Make, open_spool: Opener, clock
) -> None:
    disk = FullDisk()
    with open_spool(ops=disk) as spool:
        assert spool.append([record(0)])
        disk.half = True
        assert not spool.append([record(1), record(2)])
        assert not spool.append([record(3)])
        assert (spool.status().in_ram, spool.status().disk_error) == (3, os.strerror(errno.ENOSPC))
        disk.full = False
        assert spool.append([record(4)])
        assert (spool.status().in_ram, spool.status().disk_error) == (0, "")
    with open_spool() as spool:
        deliver(spool, service, clock)
    assert minutes(service, record) == set(range(5))


def test_records_in_ram_are_sent_while_the_disk_is_full(
    service: ReferenceService, record: Make, open_spool: Opener, clock
) -> None:
    disk = FullDisk()
    disk.full = True
    with open_spool(ops=disk, max_in_ram=10) as spool:
        assert not spool.append([record(minute) for minute in range(25)])
        assert spool.status().in_ram == 10
        assert spool.status().counters.dropped == 15
        deliver(spool, service, clock)
        assert spool.flush()
    assert minutes(service, record) == set(range(15, 25))


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_file_system_that_really_is_full(tmp_path: Path, service: ReferenceService, record: Make, clock) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(mount)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"no tmpfs may be mounted here: {made.stderr.strip()}")
    try:
        with Spool(mount / "spool", SENSOR, service.seal_keys.public_key) as spool:
            filler = mount / "filler"
            with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while file.write(bytes(4096)):
                    pass
            assert not spool.append([record(minute) for minute in range(50)])
            assert spool.status().disk_error
            filler.unlink()
            assert spool.append([record(50)])
            deliver(spool, service, clock)
        assert minutes(service, record) == set(range(51))
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def test_a_file_size_limit_of_the_system_is_borne(
    service: ReferenceService, record: Make, open_spool: Opener, clock
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with open_spool() as spool:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
            try:
                for minute in range(0, 600, 20):
                    spool.append([record(each) for each in range(minute, minute + 20)])
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            assert spool.flush()
            deliver(spool, service, clock)
    finally:
        signal.signal(signal.SIGXFSZ, before)
    assert minutes(service, record) == set(range(600))


class WildLink:
    """A link and a service that do everything wrong but lie: lost, doubled, late and spoiled, in any order."""

    def __init__(self, service: ReferenceService, rng: random.Random) -> None:
        self._inner = LoopbackTransport(service)
        self._rng = rng
        self._held: list[tuple[str, bytes, Mapping[str, str]]] = []
        self._old: list[Reply] = []

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        while self._held and self._rng.random() < 0.5:  # what was held back arrives now, in any order
            self._inner.post(*self._held.pop(self._rng.randrange(len(self._held))))
        what = self._rng.randrange(10)
        if what == 0:
            raise TransportError("the request is lost")
        if what == 1:
            self._held.append((url, body, dict(headers)))
            raise TransportError("the request is late")
        reply = self._inner.post(url, body, headers)
        self._old.append(reply)
        if what == 2:
            raise TransportError("the answer is lost")
        if what == 3:  # the request arrives twice: the second answer is the one that comes back
            return self._inner.post(url, body, headers)
        if what == 4:  # the answer to an earlier request
            return self._rng.choice(self._old)
        if what == 5:
            spoiled = reply.body.replace(b":0", b":1", 1)
            return Reply(reply.status, reply.headers, spoiled)
        if what == 6:
            return Reply(self._rng.choice([200, 204, 302, 408, 429, 500, 502, 503]), {}, b"<html>hello</html>")
        return reply


@pytest.mark.parametrize("seed", range(100 if LONG else 20))
def test_lost_doubled_late_and_spoiled_answers_end_in_exactly_once(
    seed: int, service: ReferenceService, record: Make, open_spool: Opener, clock
) -> None:
    rng = random.Random(seed)
    link = WildLink(service, rng)
    minute = 0
    for _ in range(3):  # three lives of the sensor
        with open_spool(save_every=16) as spool:
            sender = Sender(
                spool,
                "http://x",
                service.keys.sensor_key(SENSOR),
                link,
                clock=clock,
                backoff=Backoff(rng=rng),
            )
            for _ in range(40):
                taken = rng.randrange(0, 30)
                spool.append([record(each) for each in range(minute, minute + taken)])
                minute += taken
                clock.sleep(sender.step().wait)
                if rng.random() < 0.1:
                    clock.wall += rng.choice([-86_400, -400, 400, 86_400 * 365])  # somebody sets both clocks
    with open_spool() as spool:
        deliver(spool, service, clock, link)
        counters = spool.status().counters
    assert minutes(service, record) == set(range(minute))
    assert counters.delivered + counters.duplicate == counters.appended == minute
    assert counters.lost == 0


def test_a_clock_set_back_and_forward_drops_nothing(
    service: ReferenceService, record: Make, open_spool: Opener, clock
) -> None:
    jumps = [0, 10 * 365 * 86_400, -20 * 365 * 86_400, 3_600, -3_600]
    sensor_clock = type(clock)()
    with open_spool(max_records=100) as spool:
        sender = Sender(
            spool, "http://x", service.keys.sensor_key(SENSOR), LoopbackTransport(service), clock=sensor_clock
        )
        for minute, jump in enumerate(jumps * 3):
            sensor_clock.wall += jump
            assert spool.append([record(minute)])
            if minute % 4 == 3:
                assert sender.drain().result is Result.IDLE
        assert sender.drain().result is Result.IDLE
        assert sender.status.clock_skew is not None
        assert abs(sender.status.clock_skew) > 86_400
    assert minutes(service, record) == set(range(15))
