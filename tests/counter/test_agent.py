"""The agent: hours, cameras that fail, faults of the view, restarts, the socket, and a real process that is ended."""

from __future__ import annotations

import itertools
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from counter.agent import Agent, ScaledClock, parse_settings
from counter.agent.feed import RecordingFeed
from counter.agent.ledger import LEDGER_FILE, read_note
from counter.agent.outbox import find_enrolment
from counter.agent.records import RecordDesk
from counter.agent.schedule import Hours
from counter.agent.settings import CameraSettings
from counter.agent.state import ask
from counter.agent.systemd import JournalFormatter, notify, watchdog_seconds
from counter.agent.worker import CameraState
from counter.sources import ArraySource
from counter.types import Detections, Frame
from tests.counter.agent_parts import ALWAYS, CLIP, MONDAY, Bench, Finder, HandClock, enrol, one_person, settings, until
from uplink.identity import IdentityError
from uplink.messages import CountRecord, Health
from uplink.testing import LoopbackTransport, ReferenceService, serving


def test_it_counts_and_every_interval_becomes_one_record() -> None:
    bench = Bench()
    records = bench.run(120)
    assert len(records) >= 11
    assert [r.start.timestamp() for r in records] == [MONDAY + 10 * i for i in range(len(records))]
    assert all(r.health == {Health.OK} for r in records)
    assert {r.present for r in records[1:]} == {1}
    assert min(r.coverage for r in records[1:]) > 0.99


def test_outside_the_hours_the_camera_is_closed_and_there_are_no_records() -> None:
    bench = Bench(hours=Hours(mon=("12:00-12:01", "12:03-12:04")))  # type: ignore[arg-type]
    bench.run(70)
    assert bench.feeds[0].closed
    assert bench.worker.state is CameraState.CLOSED
    calls = bench.detector.calls
    bench.run(60)
    assert (len(bench.feeds), bench.detector.calls) == (1, calls)
    bench.run(130)
    starts = [r.start.timestamp() - MONDAY for r in bench.records]
    assert starts == [*range(0, 60, 10), *range(180, 240, 10)]
    assert len(bench.feeds) == 2


@pytest.mark.parametrize("jump", [3600.0, -3600.0, 40 * 86_400.0])
def test_a_clock_that_is_set_opens_and_closes_by_the_new_time(jump: float) -> None:
    bench = Bench(hours=Hours(mon=("12:00-12:30",), exceptions=()))  # type: ignore[arg-type]
    bench.run(30)
    assert not bench.feeds[0].closed
    bench.clock.wall += jump
    bench.run(5)
    assert bench.feeds[0].closed
    bench.clock.wall -= jump
    bench.run(30)
    assert not bench.feeds[-1].closed
    starts = [r.start for r in bench.records]
    assert len(set(starts)) == len(starts)


def test_a_camera_that_vanishes_gives_records_without_a_signal_and_comes_back() -> None:
    bench = Bench()
    bench.run(30)
    bench.feeds[0].alive = False
    gone = bench.run(60)
    assert bench.worker.state is CameraState.AWAY
    assert bench.worker.reason == "unplugged"
    assert bench.worker.health == {Health.NO_SIGNAL}
    silent = [r for r in gone if r.health == {Health.NO_SIGNAL}]
    assert len(silent) >= 4
    assert all(r.present is None and r.coverage == 0.0 for r in silent)
    bench.feeds[0].alive = True
    back = bench.run(40)
    assert bench.worker.state is CameraState.COUNTING
    assert back[-1].present == 1
    starts = [r.start.timestamp() for r in bench.records]
    assert starts == [MONDAY + 10 * i for i in range(len(starts))]


def test_intervals_with_a_fault_of_the_view_are_marked_and_say_nothing(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    bench.run(40)
    with caplog.at_level(logging.INFO):
        bench.feeds[0].change = np.zeros_like
        bench.run(60)
        assert bench.worker.health == {Health.DARK}
        calls = bench.detector.calls
        bench.run(10)
        assert bench.detector.calls == calls  # nobody is looked for where nothing can be seen
        bench.feeds[0].change = lambda frame: frame
        after = bench.run(60)
    marked = [r for r in bench.records if Health.DARK in r.health]
    assert 5 <= len(marked) <= 8
    assert all(r.present is None and r.present_max is None and r.coverage == 0.0 for r in marked)
    assert bench.worker.health == frozenset()
    assert after[-1].health == {Health.OK}
    assert after[-1].present == 1
    assert sum("the view is faulty: dark" in line for line in caplog.messages) == 1
    assert sum("dark is over" in line for line in caplog.messages) == 1


def test_fewer_looks_than_were_asked_for_are_an_overload_that_is_said_and_marked(
    caplog: pytest.LogCaptureFixture,
) -> None:
    camera = {"source": "fake", "scene": {"mode": "room"}, "fps": 5.0}
    bench = Bench(CameraSettings.model_validate(camera))
    spend = [0.0]
    find = bench.detector.detect

    def detect(frame: Frame) -> Detections:
        bench.clock.sleep(spend[0])  # far above the least of a room, 0.5 looks/s
        return find(frame)

    def somebody_walks(frame: Frame) -> Frame:
        left = int(bench.clock.mono * 40.0) % 120
        frame = frame.copy()
        frame[40:100, left : left + 30] = 250
        return frame

    bench.detector.detect = detect  # type: ignore[method-assign]
    bench.run(1)
    bench.feeds[0].change = somebody_walks
    with caplog.at_level(logging.INFO):
        bench.run(60)
        assert bench.worker.health == frozenset()
        spend[0] = 0.25  # 3.4 looks/s at 85 % of a thread's time
        slow = bench.run(60)
        assert bench.worker.health == {Health.OVERLOADED}
        spend[0] = 0.01
        bench.run(200)
    assert bench.worker.health == frozenset()
    assert slow[-1].health == {Health.OVERLOADED}
    assert (slow[-1].present, slow[-1].coverage) == (1, 1.0)  # its counts stand
    assert sum("overloaded: looked at 3." in line for line in caplog.messages) == 1
    assert sum("often enough again" in line for line in caplog.messages) == 1


def test_the_end_of_a_run_records_the_interval_that_has_begun() -> None:
    bench = Bench()
    bench.run(25)
    before = len(bench.records)
    bench.worker.shut()
    assert len(bench.records) == before + 1
    assert 0.3 < bench.records[-1].coverage < 0.8
    bench.worker.shut()
    assert len(bench.records) == before + 1


def test_frames_are_overwritten_after_use() -> None:
    seen: list[Frame] = []
    bench = Bench()
    bench.detector.detect = lambda frame: seen.append(frame) or one_person(frame)  # type: ignore[method-assign, func-returns-value]
    bench.run(5)
    assert seen
    assert not any(frame.any() for frame in seen)


# -- the desk


def record(start: float, **values: object) -> CountRecord:
    given = {"sensor_id": "hall", "start": start, "seconds": 60, "coverage": 1.0, "present": 2, "present_max": 3}
    return CountRecord.model_validate(given | values)


def test_an_interval_that_an_earlier_run_reported_is_not_reported_again_and_its_crossings_move_on() -> None:
    out: list[CountRecord] = []
    desk = RecordDesk(60, lambda *_: True, out.append, last=MONDAY)
    desk.take(record(MONDAY, entered=2, left=1))
    assert out == []
    desk.take(record(MONDAY + 60, entered=1))
    assert [(r.entered, r.left) for r in out] == [(3, 1)]
    desk.take(record(MONDAY + 120))
    assert out[-1].entered == 0


def test_a_last_interval_far_in_the_future_was_a_wrong_clock() -> None:
    out: list[CountRecord] = []
    desk = RecordDesk(60, lambda *_: True, out.append, last=MONDAY + 86_400)
    desk.take(record(MONDAY))
    assert len(out) == 1


def test_a_mark_is_for_its_interval_alone() -> None:
    out: list[CountRecord] = []
    desk = RecordDesk(60, lambda *_: True, out.append)
    desk.mark(MONDAY + 61, {Health.BLOCKED})
    for i in range(3):
        desk.take(record(MONDAY + 60 * i, entered=1, health={Health.OVERLOADED}))
    assert [r.present for r in out] == [2, None, 2]
    assert out[1].health == {Health.BLOCKED, Health.OVERLOADED}
    assert out[1].entered == 1  # counted before the fault began


# -- recordings as cameras


def test_a_recording_plays_in_real_time_over_and_over_and_drops_what_is_late() -> None:
    clock = HandClock()
    camera = CameraSettings(source="x")
    frames = [np.full((8, 8, 3), i, np.uint8) for i in range(10)]
    feed = RecordingFeed(lambda: ArraySource(frames, fps=10), camera, clock)
    shown = []
    for _ in range(25):
        item = feed.read(0.5)
        assert item is not None
        shown.append((int(item.frame[0, 0, 0]), round(item.t - 1000.0, 3), item.epoch))
    assert [x[0] for x in shown[:12]] == [*range(10), 0, 1]
    assert [x[1] for x in shown[:12]] == [round(0.1 * i, 3) for i in range(12)]
    assert shown[-1][2] == 2
    clock.sleep(0.45)  # too slow: the next one shown is no older than a step
    item = feed.read(0.5)
    assert item is not None
    assert clock.monotonic() - item.t <= 0.1 + 1e-6


def test_a_recording_may_end() -> None:
    clock = HandClock()
    camera = CameraSettings(source="x", at_end="stop")
    feed = RecordingFeed(lambda: ArraySource([np.ones((8, 8, 3), np.uint8)] * 3, fps=10), camera, clock)
    assert [feed.read(0.5) is not None for _ in range(4)] == [True, True, True, False]
    assert feed.ended


# -- the whole agent


@pytest.fixture
def running() -> Iterator[Callable[[Agent], threading.Thread]]:
    started: list[tuple[Agent, threading.Thread]] = []

    def start(agent: Agent) -> threading.Thread:
        thread = threading.Thread(target=agent.run, daemon=True)
        thread.start()
        started.append((agent, thread))
        return thread

    yield start
    for agent, thread in started:
        agent.stop()
        thread.join(10)
        assert not thread.is_alive()


def test_counts_of_two_cameras_reach_the_service_once_over_a_restart(
    tmp_path: Path, running: Callable[[Agent], threading.Thread]
) -> None:
    service = ReferenceService()
    for name in ("cam-0", "cam-1"):
        enrol(tmp_path / name, service, name=name)

    def build(clock: ScaledClock) -> Agent:
        return Agent(
            settings(cameras=2), tmp_path, clock=clock, detector=lambda _: Finder(),
            transport=lambda: LoopbackTransport(service),
        )  # fmt: skip

    clock = ScaledClock(20.0)
    service._clock = clock.time
    for _ in range(2):
        agent = build(clock)
        thread = running(agent)
        begin = len(service.stored)
        until(lambda: len(service.stored) >= begin + 6)  # noqa: B023
        agent.stop()
        thread.join(10)
        assert not thread.is_alive()
        assert all(read_note(tmp_path / name / LEDGER_FILE) for name in ("cam-0", "cam-1"))
    assert service.conflicts == []
    for name in ("cam-0", "cam-1"):
        starts = sorted(start for sensor, start in service.stored if sensor == name)
        assert len(starts) >= 6
        assert {(b - a).total_seconds() for a, b in itertools.pairwise(starts)} <= {10.0, 20.0}


def test_a_camera_whose_network_breaks_begins_anew_and_the_other_goes_on(
    tmp_path: Path, running: Callable[[Agent], threading.Thread], caplog: pytest.LogCaptureFixture
) -> None:
    finders = [Finder(), Finder()]
    order = iter(finders)
    records: list[CountRecord] = []
    clock = ScaledClock(20.0)
    agent = Agent(settings(cameras=2), tmp_path, clock=clock, detector=lambda _: next(order), on_record=records.append)
    running(agent)
    until(lambda: all(f.calls for f in finders))
    finders[0].broken = True
    until(lambda: agent.workers[0].state is CameraState.FAILED)
    before = len(records)
    until(lambda: sum(r.sensor_id == "cam-1" for r in records[before:]) >= 2)
    assert Health.NO_SIGNAL in agent.workers[0].health
    finders[0].broken = False
    until(lambda: agent.workers[0].state is CameraState.COUNTING, 30)
    assert sum("the network broke" in line for line in caplog.messages) >= 1


def test_the_status_is_told_on_a_socket_for_its_owner_alone(
    tmp_path: Path, running: Callable[[Agent], threading.Thread]
) -> None:
    deep = tmp_path / ("long-" * 30)  # longer than a socket's path may be
    deep.mkdir(mode=0o700)
    agent = Agent(settings(), deep, detector=lambda _: Finder(), on_record=lambda _: None)
    assert ask(tmp_path) is None
    running(agent)
    until(lambda: agent.workers[0].frames > 0)
    document = ask(deep)
    assert document["cameras"][0]["state"] == "counting"
    assert document["cameras"][0]["health"] == ["ok"]
    assert document["measuring"] is True
    assert ask(deep, "events") == {"camera-0": []}
    assert "error" in ask(deep, "frames")
    assert (deep / "agent.sock").stat().st_mode & 0o777 == 0o600
    agent.stop()
    until(lambda: ask(deep) is None)


def test_an_agent_ends_when_its_recordings_have(tmp_path: Path) -> None:
    once = parse_settings(f'interval = 1\n[[camera]]\nsource = "{CLIP}"\nat_end = "stop"\n[hours]\n{ALWAYS}')
    records: list[CountRecord] = []
    agent = Agent(once, tmp_path, clock=ScaledClock(10.0), detector=lambda _: Finder(), on_record=records.append)
    agent.run()
    assert agent.workers[0].state is CameraState.ENDED
    assert records


def test_an_identity_is_looked_for_by_name_and_errors_say_what_to_run(tmp_path: Path) -> None:
    service = ReferenceService()
    camera = CameraSettings(source="0", sensor_id="hall")
    with pytest.raises(IdentityError, match=r"headroom sensor enrol --state .*hall"):
        find_enrolment(camera, tmp_path)
    enrol(tmp_path, service, name="other")
    with pytest.raises(IdentityError, match="enrolled as other, the settings say hall"):
        find_enrolment(camera, tmp_path)
    assert find_enrolment(CameraSettings(source="0"), tmp_path).identity.sensor_id == "other"
    enrol(tmp_path / "hall", service, name="hall")
    assert find_enrolment(camera, tmp_path).folder == tmp_path / "hall"


def test_systemd_hears_that_the_sensor_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    assert notify("READY=1") is False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        monkeypatch.chdir(tmp_path)
        listener.bind("n")
        monkeypatch.setenv("NOTIFY_SOCKET", "n")
        assert notify("WATCHDOG=1")
        assert listener.recv(100) == b"WATCHDOG=1"
    assert notify("WATCHDOG=1") is False
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert watchdog_seconds() == 30.0
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert watchdog_seconds() is None
    line = logging.LogRecord("x", logging.WARNING, "", 0, "two\nlines", None, None)
    assert JournalFormatter("%(message)s").format(line) == "<4>two\n<4>lines"


def test_a_real_process_counts_sends_answers_and_ends_within_five_seconds(tmp_path: Path) -> None:
    service, state = ReferenceService(), tmp_path / "state"
    config = tmp_path / "sensor.toml"
    config.write_text(f'interval = 1\n[[camera]]\nsource = "{CLIP}"\nthreads = 1\n[hours]\nzone = "UTC"\n{ALWAYS}')
    with serving(service) as url:
        enrol(state, service, url)
        command = [sys.executable, "-m", "headroom", "sensor", "run", "--config", str(config), "--state", str(state)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            until(lambda: len(service.stored) >= 2 or process.poll() is not None, 60)
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            told = subprocess.run(
                [sys.executable, "-m", "headroom", "sensor", "status", "--json", "--state", str(state)],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            document = json.loads(told.stdout)
            assert document["running"] is True
            assert document["cameras"][0]["uplink"]["totals"]["delivered"] >= 1
            assert {lock["name"] for lock in document["locks"]} >= {"core dumps", "files"}
            begun = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
            assert time.monotonic() - begun < 5.0
        finally:
            process.kill()
            assert process.stderr is not None
            process.stderr.close()
    note = read_note(state / LEDGER_FILE)
    assert note is not None
    assert note.reported is not None
    assert note.reported >= max(start.timestamp() for _, start in service.stored) - 1
