"""A sensor's day, fast: hours, lost cameras, lost links, clocks that are set, `kill -9` of sensor and service.

Afterwards the store holds every record that the sensor kept, once and unchanged; memory and open files are flat.
The short form is 25 minutes at sixty-fold speed; HEADROOM_LONG=1 is a whole day, at HEADROOM_SOAK_SPEED (default 60).
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import psutil
import pytest

from analytics.runtime import open_store
from analytics.service_keys import ServiceKeys
from analytics.settings import Limits, ServiceSettings
from counter.agent.schedule import Schedule
from counter.agent.settings import parse_settings
from tests.bench._service import free_port, prepare, start
from tests.soak.plan import CAMERAS, Plan, SoakClock, long, short
from tests.soak.sensor import seated, settings_text
from uplink.identity import Identity, save_sensor_key
from uplink.keyfiles import encode_key
from uplink.keys import SensorKey
from uplink.messages import CountRecord, Health
from uplink.sender import Result, Sender
from uplink.spool import SPOOL_FOLDER, Spool
from uplink.transport import RequestsTransport

pytestmark = [pytest.mark.soak, pytest.mark.timeout(0)]

LONG = bool(os.environ.get("HEADROOM_LONG"))
SEVEN = datetime(2026, 3, 2, 7, 0, tzinfo=ZoneInfo("Europe/Amsterdam")).timestamp()  # a Monday
MIB = 1 << 20
START_SECONDS = 6.0
LEAST_SAMPLES = 24


@dataclass
class Vitals:
    """Memory (MiB) and open files of one process over time, by simulated second."""

    moments: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)

    def sample(self, process: psutil.Process, moment: float) -> None:
        """Look once. The first seconds of a life are its start, not its course."""
        try:
            if time.time() - process.create_time() < START_SECONDS:
                return
            with process.oneshot():
                memory, files = process.memory_info().rss / MIB, process.num_fds()
        except psutil.Error:
            return  # between two lives
        self.moments.append(moment)
        self.memory.append(memory)
        self.files.append(files)

    def growth(self) -> tuple[float, float]:
        """MiB and files by which the last third exceeds the second: the first one is for warming up."""
        third = len(self.moments) // 3
        parts = [(values[third : 2 * third], values[2 * third :]) for values in (self.memory, self.files)]
        (memory, files) = (statistics.median(after) - statistics.median(before) for before, after in parts)
        return memory, files


class Stage:
    """Service, sensor and clock of one soak."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder = folder
        self.state = folder / "sensor"
        self.journal = folder / "journal"
        self.port = free_port()
        limits = Limits(sensor_burst=10**6, sensor_rate=10**6)
        self.settings: ServiceSettings
        self.keys: ServiceKeys
        self.settings, self.keys, sensors = prepare(folder / "service", len(CAMERAS), limits)
        for key in sensors:
            self._enrol(key)
        self.sensors = sensors
        _, self.service = start(self.settings, self.port)
        # Only now does time begin: what it took to set the stage is not part of it.
        self.plan = Plan(**(vars(plan) | {"begin": time.monotonic()}))
        self.plan.save(folder / "plan.json")
        self.clock = SoakClock(self.plan)
        self.agent = self.start_agent()
        self._helper = ThreadPoolExecutor(1)

    def _enrol(self, key: SensorKey) -> None:
        identity = Identity(
            sensor_id=key.sensor_id,
            service_url=f"http://127.0.0.1:{self.port}",
            tunnel_address="",
            service_seal_key=encode_key(self.keys.seal.public_key),
        )
        own = self.state / key.sensor_id
        save_sensor_key(own, key)
        identity.save(own)

    def start_agent(self) -> subprocess.Popen[bytes]:
        paths = [str(self.folder / "plan.json"), str(self.state), str(self.journal)]
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen([sys.executable, "-m", "tests.soak.sensor", *paths], stdout=log, stderr=log)

    def end_agent(self, how: str) -> None:
        self.agent.send_signal(signal.SIGKILL if how == "KILL" else signal.SIGTERM)
        self.agent.wait(30)

    def play(self) -> tuple[Vitals, Vitals]:
        """The whole plan. Gives the vitals of the sensor's last life, and of the service's."""
        todo = sorted([(at, how) for at, how in self.plan.agent] + [(at, "SERVICE") for at in self.plan.service])
        lives = Vitals(), Vitals()
        starting: Future[tuple[int, subprocess.Popen[bytes]]] | None = None
        while (now := self.clock.elapsed()) < self.plan.duration or min(len(v.moments) for v in lives) < LEAST_SAMPLES:
            if todo and now >= todo[0][0]:
                _, how = todo.pop(0)
                if how == "SERVICE":
                    self.service.kill()
                    self.service.wait()
                    starting = self._helper.submit(start, self.settings, self.port)
                    lives = lives[0], Vitals()
                else:
                    self.end_agent(how)
                    self.agent = self.start_agent()
                    lives = Vitals(), lives[1]
            if starting is not None and starting.done():
                _, self.service = starting.result()
                starting = None
            for vitals, process in zip(lives, (self.agent, self.service), strict=True):
                if process is self.service and starting is not None:
                    continue
                assert process.poll() is None, (self.folder / "log").read_text()[-4000:]
                vitals.sample(psutil.Process(process.pid), now)
            time.sleep(0.25)
        if starting is not None:
            _, self.service = starting.result()
        self.end_agent("TERM")
        return lives

    def deliver(self) -> None:
        """What still waits in the spools goes out, as `headroom sensor send` would do it."""
        for key in self.sensors:
            folder = self.state / key.sensor_id / SPOOL_FOLDER
            with Spool(folder, key.sensor_id, self.keys.seal.public_key) as spool:
                sender = Sender(spool, f"http://127.0.0.1:{self.port}", key, RequestsTransport())
                assert sender.drain().result is Result.IDLE
                status = spool.status()
                assert status.waiting == 0
                assert status.counters.lost == 0
                assert status.counters.conflicting == 0

    def close(self) -> None:
        for process in (self.agent, self.service):
            process.kill()
            process.wait()


def entries(journal: Path, kind: str) -> list[tuple[str, str]]:
    lines = [line.split("\t", 2) for line in journal.read_text().splitlines()]
    return [(name, value) for what, name, value in lines if what == kind]


def records(journal: Path, kind: str) -> list[CountRecord]:
    return [CountRecord.model_validate_json(text) for _, text in entries(journal, kind)]


def value(present: int | None, coverage: float, entered: int, left: int) -> tuple[int, int, int, int]:
    """A record as the store keeps it: unknown is -1, coverage in ten-thousandths."""
    return -1 if present is None else present, round(coverage * 10_000), entered, left


def stored(stage: Stage) -> dict[tuple[str, float], tuple[int, int, int, int]]:
    """What the service holds, by sensor and start."""
    day = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 5, tzinfo=UTC)
    with open_store(stage.settings, stage.keys) as store:
        found = store.counts("default", list(CAMERAS), *day)
    return {
        (name, float(slot["start"])): (
            int(slot["present"]),
            int(slot["coverage"]),
            int(slot["entered"]),
            int(slot["left"]),
        )
        for name, slots in found.items()
        for slot in slots
    }


def test_a_day_of_a_sensor(tmp_path: Path) -> None:
    speed = float(os.environ.get("HEADROOM_SOAK_SPEED", "60"))
    stage = Stage(tmp_path, long(SEVEN, speed) if LONG else short(SEVEN))
    try:
        sensor, service = stage.play()
        stage.deliver()
        stage.service.terminate()
        stage.service.wait(20)
        check_records(stage)
        check_hours(stage)
        check_vitals(sensor, service)
    finally:
        stage.close()


def check_records(stage: Stage) -> None:
    """Exactly once: all that was kept is stored, nothing else is, and no interval was reported twice."""
    about, kept = records(stage.journal, "about"), records(stage.journal, "kept")
    twice = [key for key, times in Counter((r.sensor_id, r.start) for r in about).items() if times > 1]
    assert twice == []
    there = stored(stage)
    values = {(r.sensor_id, r.start.timestamp()): value(r.present, r.coverage, r.entered, r.left) for r in about}
    must = {(r.sensor_id, r.start.timestamp()) for r in kept}
    assert must - there.keys() == set(), "records were lost"
    assert there.keys() - values.keys() == set(), "records came from nowhere"
    assert {key: value for key, value in there.items() if values[key] != value} == {}
    check_gaps(stage)
    seen = {fault for record in kept for fault in record.health}
    assert {Health.OK, Health.NO_SIGNAL} <= seen
    good = [record for record in kept if record.coverage > 0.95 and record.present is not None]
    right = sum(record.present == seated(record.start.timestamp() + record.seconds / 2) for record in good)
    print(f"{len(kept)} records kept, {len(there)} stored, {len(good)} fully covered, {right} of them right")
    assert right >= 0.9 * len(good) > 20


def check_gaps(stage: Stage) -> None:
    """Within one life of the sensor, interval follows upon interval, whatever cameras and links do."""
    schedule = Schedule(parse_settings(settings_text(stage.plan), "soak").hours)
    ahead = [by for _, by in stage.plan.jumps if by > 0]
    last: dict[str, float] = {}
    missing = []
    for line in stage.journal.read_text().splitlines():
        kind, name, text = line.split("\t", 2)
        if kind == "life":
            last.clear()
        if kind != "kept":
            continue
        record = CountRecord.model_validate_json(text)
        begin = record.start.timestamp()
        gap = begin - last.get(name, begin)
        last[name] = begin + record.seconds
        shut = [moment for k in range(int(gap // 10)) if not schedule.is_open(moment := begin - 10.0 * k)]
        jumped = any(gap <= by + 2 * record.seconds for by in ahead)
        if gap and not shut and not jumped:
            missing.append((name, record.start.isoformat(), gap))
    assert missing == []


def check_hours(stage: Stage) -> None:
    """Outside the hours nobody looked, and nothing was reported."""
    assert entries(stage.journal, "late") == []
    schedule = Schedule(parse_settings(settings_text(stage.plan), "soak").hours)
    for record in records(stage.journal, "about"):
        assert schedule.touches(record.start.timestamp(), record.seconds)


def check_vitals(sensor: Vitals, service: Vitals) -> None:
    for name, vitals, most in (("sensor", sensor, 4.0 if LONG else 10.0), ("service", service, 24.0)):
        memory, files = vitals.growth()
        print(
            f"{name}: {vitals.memory[-1]:.0f} MiB ({memory:+.1f}), {vitals.files[-1]} files ({files:+.0f}) over the "
            f"last two thirds of {(vitals.moments[-1] - vitals.moments[0]) / 3600:.1f} h"
        )
        assert memory < most
        assert abs(files) <= 3
