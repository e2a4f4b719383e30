"""The ledger of reported intervals: processes that really are killed, before and after every step that lasts."""

from __future__ import annotations

import errno
import os
import pickle
import signal
import tempfile
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from counter.agent.clock import SystemAgentClock
from counter.agent.ledger import LEDGER_FILE, SLOT_BYTES, SLOT_PLACES, Ledger, Note, read_note
from counter.agent.outbox import Outbox
from counter.agent.records import RecordDesk
from counter.counting import IntervalCounter
from uplink.identity import Enrolled, Identity, save_sensor_key
from uplink.keyfiles import encode_key
from uplink.messages import CountRecord
from uplink.segment import SystemFileOps
from uplink.sender import Result
from uplink.testing import LoopbackTransport, ReferenceService
from uplink.transport import Reply

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC).timestamp()
INTERVAL = 10
LASTING = ("pwrite", "write", "fdatasync", "fsync", "replace", "unlink", "ftruncate")
"""System calls that change what the next run finds."""


# -- the rule


NOTE = Note("hall", 7, reported=100, next=110, taken=5)


@pytest.mark.parametrize(
    ("note", "taken", "last"),
    [
        (NOTE, 5, 100),  # killed before the spool had it: it may be reported again
        (NOTE, 6, 110),  # killed after
        (NOTE, 9, 110),  # `headroom count --send` has used the spool since
        (NOTE, 4, 110),  # the disk lost records: rather a gap than two values
        (NOTE, 0, 110),
        (Note("hall", 7, reported=100, taken=0), 6, 100),  # nothing was under way
        (Note("hall"), 0, None),
        (Note("hall", 1, next=110), 0, None),
        (Note("hall", 1, next=110), 1, 110),
    ],
)
def test_what_the_spool_has_taken_says_what_was_reported(note: Note, taken: int, last: int | None) -> None:
    assert note.last(taken) == last
    assert Note.decode(note.encode()) == note


@given(st.binary(max_size=2 * SLOT_BYTES))
def test_what_is_no_note_is_not_read_as_one(data: bytes) -> None:
    note = Note.decode(data)
    assert note is None or note.encode() == data


@given(st.data())
def test_a_slot_that_was_cut_short_leaves_the_one_before(data: st.DataObject) -> None:
    before, after = Note("hall", 6, 90, 100, 4), Note("hall", 7, 100, 110, 5)
    slot = data.draw(st.sampled_from(SLOT_PLACES))
    cut = data.draw(st.integers(0, SLOT_BYTES - 1))
    older = Note("hall", 5, 80, 90, 3).encode()
    torn = after.encode()[:cut] + older[cut:]
    file = bytearray(SLOT_PLACES[-1] + SLOT_BYTES)
    for place in SLOT_PLACES:
        file[place : place + SLOT_BYTES] = torn if place == slot else before.encode()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / LEDGER_FILE
        path.write_bytes(file)
        found = read_note(path)
    assert found == (after if torn == after.encode() else before)


def test_a_ledger_of_another_sensor_or_a_damaged_one_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / LEDGER_FILE
    first = Ledger(path, "hall", 0)
    first.begin(100, 0)
    first.end(durable=True)
    first.close()
    assert Ledger(path, "hall", 1).reported == 100
    assert Ledger(path, "attic", 1).reported is None
    path.write_bytes(b"\xff" * 5000)
    assert Ledger(path, "attic", 1).reported is None
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_disk_that_refuses_is_said_once_and_counting_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = Ledger(tmp_path / LEDGER_FILE, "hall", 0)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        for turn in range(3):
            ledger.begin(100 + turn, turn)
            ledger.end(durable=False)
    assert ledger.reported == 102
    assert sum("cannot be written: No space left" in line for line in caplog.messages) == 1
    ledger.begin(110, 3)
    ledger.end(durable=False)  # in RAM, from where it may be sent: it counts as reported
    assert Ledger(tmp_path / LEDGER_FILE, "hall", 0).reported == 110


# -- a sensor that is killed


class ScriptClock(SystemAgentClock):
    def __init__(self, wall: float) -> None:
        self.wall, self.mono = wall, 0.0

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.mono


@dataclass
class Life:
    """What a run of the sensor tells before it ends, however it ends."""

    wall: float
    said: set[int] = field(default_factory=set)
    """Starts that it held for reported: by itself, or by who lived before."""
    steps: int = 0


Act = tuple[str, float]


def live(folder: Path, service: ReferenceService, wall: float, acts: list[Act], tell: Callable[[Life], None]) -> None:
    """A camera in front of which somebody passes every second, its counter, desk, ledger and spool."""
    clock, told = ScriptClock(wall), Life(wall)
    service._clock = clock.time

    class Wire(LoopbackTransport):
        def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
            reply = super().post(url, body, headers)
            tell(told)  # the service is elsewhere: what it has answered for outlives us
            return reply

    box = Outbox(Enrolled(folder, Identity.load(folder)), clock, Wire(service))
    desk = RecordDesk(INTERVAL, lambda *_: True, box.put, box.ledger.reported)
    intervals = IntervalCounter("hall", INTERVAL)

    def take(records: list[CountRecord]) -> None:
        for record in records:
            desk.take(record)
            assert desk.last is not None
            told.said.add(int(desk.last))
            tell(told)

    for act, value in acts:
        if act == "run":
            for _ in range(int(value)):
                clock.wall, clock.mono = clock.wall + 1.0, clock.mono + 1.0
                told.wall = clock.wall
                tell(told)
                take(intervals.add(clock.mono, datetime.fromtimestamp(clock.wall, UTC), 1, entered=1))
        elif act == "set":  # the wall clock
            clock.wall += value
            told.wall = clock.wall
            tell(told)
        elif act == "break":  # the camera is closed, the interval that has begun is recorded
            take(intervals.close())
            intervals = IntervalCounter("hall", INTERVAL)
        elif act == "full":  # the disk takes no more records
            SystemFileOps.create = SystemFileOps.pwrite = no_space  # type: ignore[assignment, method-assign]
        elif act == "send":
            while box.step().result is Result.SENT:
                pass
    take(intervals.close())
    box.close()
    tell(told)


def no_space(*_: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def killed_at(step: int) -> Callable[[], int]:
    """Make this process kill itself before (even) or after (odd) its n-th call that lasts."""
    count = 0

    def wrapped(call: Callable[..., Any]) -> Callable[..., Any]:
        def one(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if step == 2 * count:
                os.kill(os.getpid(), signal.SIGKILL)
            done = call(*args, **kwargs)
            if step == 2 * count + 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        return one

    for name in LASTING:
        setattr(os, name, wrapped(getattr(os, name)))
    return lambda: count


def in_a_process(folder: Path, service: ReferenceService, wall: float, acts: list[Act], step: int) -> tuple[Life, bool]:
    """A life in a process of its own, killed at a step (0: never). What it told last, and whether it was killed."""
    notes = folder.parent / f"told-{os.getpid()}"
    descriptor = os.open(notes, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            truly_written = os.pwrite
            calls = killed_at(step)

            def tell(life: Life) -> None:
                life.steps = calls()
                truly_written(descriptor, pickle.dumps((life, service.stored, service.conflicts)).ljust(65536), 0)

            live(folder, service, wall, acts, tell)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    _, ended = os.waitpid(child, 0)
    content = os.pread(descriptor, 65536, 0)
    os.close(descriptor)
    killed = os.WIFSIGNALED(ended)
    assert killed or os.WEXITSTATUS(ended) == 0
    if not content:
        return Life(wall), killed
    life, service.stored, service.conflicts = pickle.loads(content)
    return life, killed


def enrolled(folder: Path) -> ReferenceService:
    service = ReferenceService()
    folder.mkdir(mode=0o700)
    seal = encode_key(service.seal_keys.public_key)
    Identity(sensor_id="hall", service_url="http://127.0.0.1:9", service_seal_key=seal).save(folder)
    key = service.keys.sensor_key("hall")
    assert key is not None
    save_sensor_key(folder, key)
    return service


MORNING: list[Act] = [("run", 25), ("send", 0), ("run", 12), ("break", 0), ("run", 1), ("set", -15), ("run", 1)]
"""Two intervals reported and sent; one reported; one reported before its end; and then the clock is set back."""
REST: list[Act] = [("run", 33), ("break", 0), ("send", 0)]


def check(service: ReferenceService, lives: list[Life]) -> None:
    """No interval has two values, and what anybody held for reported is at the service."""
    assert service.conflicts == []
    stored = {int(start.timestamp()) for _, start in service.stored}
    for number, life in enumerate(lives):
        assert life.said <= stored, f"life {number} held for reported what nobody has"


def test_a_kill_at_any_step_reports_no_interval_twice_and_loses_none(tmp_path: Path) -> None:
    service = enrolled(tmp_path / "whole")
    whole, killed = in_a_process(tmp_path / "whole", service, NOON, MORNING, 0)
    assert not killed
    assert whole.steps > 20
    for step in range(2, 2 * whole.steps + 2):
        folder = tmp_path / f"{step}"
        service = enrolled(folder)
        first, killed = in_a_process(folder, service, NOON, MORNING, step)
        assert killed, step
        second, killed = in_a_process(folder, service, first.wall, REST, 0)
        assert not killed
        check(service, [first, second])


def test_what_was_sent_from_ram_while_the_disk_refused_is_not_reported_again(tmp_path: Path) -> None:
    """Records in RAM die with the process; one of them that the service has must not come again with another value."""
    acts: list[Act] = [("run", 12), ("full", 0), ("run", 10), ("send", 0), ("run", 6), ("break", 0), ("send", 0)]
    service = enrolled(tmp_path / "whole")
    whole, _ = in_a_process(tmp_path / "whole", service, NOON, acts, 0)
    for step in range(whole.steps, 2 * whole.steps + 2):  # the first half is the test above
        folder = tmp_path / f"{step}"
        service = enrolled(folder)
        first, killed = in_a_process(folder, service, NOON, acts, step)
        assert killed, step
        in_a_process(folder, service, first.wall - 8.0, REST, 0)
        assert service.conflicts == [], step


ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("run"), st.integers(1, 14)),
        st.tuples(st.just("set"), st.integers(-40, -1)),
        st.tuples(st.just("break"), st.just(0)),
        st.tuples(st.just("send"), st.just(0)),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(lives=st.lists(st.tuples(ACTS, st.integers(2, 120)), min_size=1, max_size=3))
def test_whoever_is_killed_again_and_again_while_the_clock_is_set_back(lives: list[tuple[list[Act], int]]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder, wall, lived = Path(scratch) / "state", NOON, list[Life]()
        service = enrolled(folder)
        for acts, step in [*lives, (REST, 0)]:
            life, _ = in_a_process(folder, service, wall, [("run", 1), *acts], step)
            wall = life.wall
            lived.append(life)
        check(service, lived)
