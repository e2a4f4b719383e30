"""Remote care on the sensor: on trial, kept, rolled back, restarted once; and nothing that should stay is reported."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counter.agent.settings import CameraSettings, SensorSettings, parse_settings
from counter.care import (
    CARE_FILE,
    HEALTHY_SECONDS,
    MAX_STARTS,
    TRIAL_SECONDS,
    Carer,
    RemoteSettings,
    merged,
    report_of,
    run_with_care,
)
from uplink.care import (
    CareError,
    CareOrder,
    CareReport,
    Command,
    RemoteConfig,
    RemoteHours,
    VersionedConfig,
)

OWN = parse_settings(
    """
    [hours]
    zone = "Europe/Amsterdam"
    wed = ["09:00-17:00"]
    [[camera]]
    source = "rtsp://admin:hunter2@192.0.2.7/stream"
    fps = 12
    idle_fps = 4
    """
)
STATUS: dict[str, Any] = {
    "running": True,
    "cameras": [
        {
            "sensor_id": "hall-3",
            "source": "rtsp://192.0.2.7/stream",
            "state": "counting",
            "reason": "free text of a driver",
            "health": ["ok"],
            "rate": 12.0,
            "present": 7,
            "last_record": {"present": 7},
            "uplink": {"waiting": 3, "lost": 1, "disk_error": "", "clock_skew_seconds": -0.44, "last_error": "x"},
        }
    ],
    "board": {"temperature": 61.2, "load": 0.4, "memory_mib": 180.5, "threads": 9},
    "locks": [{"name": "files", "holds": True, "why": "Landlock ABI 7: /var/lib/headroom", "required": True}],
}


def versioned(version: int, **config: Any) -> VersionedConfig:
    return VersionedConfig(version=version, config=RemoteConfig(**config))


class Clock:
    """A clock that moves when somebody waits."""

    def __init__(self) -> None:
        self.now = 1000.0

    def time(self) -> float:
        return self.now

    monotonic = time

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.now += seconds
        return event.is_set()


class Service:
    """Answers with the order that is set, or with none."""

    def __init__(self, order: CareOrder | None = None) -> None:
        self.order = order
        self.reports: list[CareReport] = []

    def exchange(self, report: CareReport) -> CareOrder:
        self.reports.append(report)
        if self.order is None:
            raise CareError("the link is down")
        return self.order


class Sensor:
    """A board over several lives: what is on its disk stays."""

    def __init__(self, folder: Path, own: SensorSettings = OWN) -> None:
        self.folder, self.own, self.lives = folder, own, 0
        self.service = Service(CareOrder())
        self.status = json.loads(json.dumps(STATUS))

    def start(self) -> SensorSettings:
        self.lives += 1
        self.clock = Clock()
        self.restarts = 0
        self.remote = RemoteSettings(self.folder, f"life {self.lives}")
        self.settings = self.remote.begin(self.own)
        self.carer = Carer(self.remote, self.own, self.service, lambda: self.status, self._restart, self.clock)
        return self.settings

    def live(self, seconds: float) -> None:
        until = self.clock.now + seconds
        while self.clock.now < until and not self.carer.wants_restart:
            self.carer.step()
            self.clock.sleep(30.0)

    def _restart(self) -> None:
        self.restarts += 1


@pytest.fixture
def sensor(tmp_path: Path) -> Sensor:
    return Sensor(tmp_path)


# -- configuration


def test_a_new_configuration_is_tried_and_kept(sensor: Sensor) -> None:
    sensor.start()
    sensor.service.order = CareOrder(config=versioned(3, fps=8.0))
    sensor.live(60)
    assert sensor.restarts == 1
    assert sensor.start().camera[0].fps == 8.0
    assert sensor.remote.trial is not None
    sensor.live(HEALTHY_SECONDS + 90)
    assert sensor.remote.trial is None
    assert sensor.service.reports[-1].config_version == 3
    assert sensor.restarts == 0
    assert sensor.start().camera[0].fps == 8.0, "it is kept over a restart"


def test_one_that_blinds_the_cameras_is_rolled_back_and_never_tried_again(sensor: Sensor) -> None:
    sensor.start()
    sensor.service.order = CareOrder(config=versioned(1, fps=8.0))
    sensor.live(60)
    sensor.start()
    sensor.status["cameras"][0]["state"] = "failed"
    sensor.live(TRIAL_SECONDS * 2)
    assert sensor.restarts == 1
    sensor.status["cameras"][0]["state"] = "counting"
    assert sensor.start().camera[0].fps == 12.0
    sensor.live(300)
    assert sensor.restarts == 0, "the service still offers it, and the sensor does not take it"
    assert sensor.service.reports[-1].refused_version == 1
    assert sensor.service.reports[-1].refused_because == "not healthy"


def test_one_that_cuts_the_sensor_off_is_rolled_back_to_the_one_before(sensor: Sensor) -> None:
    sensor.start()
    for version, fps in ((1, 8.0), (2, 6.0)):
        sensor.service.order = CareOrder(config=versioned(version, fps=fps))
        sensor.live(60)
        sensor.start()
        if version == 2:
            sensor.service.order = None
        sensor.live(TRIAL_SECONDS + 100)
    assert sensor.start().camera[0].fps == 8.0


def test_one_that_kills_the_sensor_is_gone_with_the_third_start(sensor: Sensor) -> None:
    sensor.start()
    sensor.service.order = CareOrder(config=versioned(1, fps=8.0))
    sensor.live(60)
    tried = [sensor.start().camera[0].fps for _ in range(4)]  # it dies each time before it says anything
    assert tried == [8.0] * MAX_STARTS + [12.0] * (4 - MAX_STARTS)


def test_becoming_the_same_program_anew_is_one_start(tmp_path: Path) -> None:
    remote = RemoteSettings(tmp_path, "before")
    assert remote.offer(versioned(1, fps=8.0), OWN)
    for _ in range(5):  # the privacy lock puts the program on again in the same process
        assert RemoteSettings(tmp_path, "the same").begin(OWN).camera[0].fps == 8.0
    assert json.loads((tmp_path / CARE_FILE).read_text())["starts"] == 1


def test_one_that_fits_no_settings_is_refused_without_a_restart(sensor: Sensor) -> None:
    sensor.start()
    bad = versioned(4, hours=RemoteHours(mon=("08:00-12:00", "11:00-13:00")))
    sensor.service.order = CareOrder(config=bad)
    sensor.live(120)
    assert sensor.restarts == 0
    assert sensor.service.reports[-1].refused_version == 4
    assert sensor.service.reports[-1].refused_because == "not valid"
    assert sensor.settings == OWN


def test_versions_go_forward_only(sensor: Sensor) -> None:
    sensor.start()
    assert sensor.remote.offer(versioned(5, fps=8.0), OWN)
    assert not sensor.remote.offer(versioned(5, fps=9.0), OWN)
    assert not sensor.remote.offer(versioned(4, fps=9.0), OWN)
    sensor.remote.keep()
    assert not sensor.remote.offer(versioned(5, fps=9.0), OWN)
    assert sensor.remote.offer(versioned(6, fps=9.0), OWN)


def test_a_full_disk_begins_nothing(sensor: Sensor, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    sensor.start()
    monkeypatch.setattr("counter.care.write_atomic", full)
    sensor.service.order = CareOrder(config=versioned(1, fps=8.0), command=Command(id="0" * 32, action="restart"))
    sensor.live(60)
    assert sensor.restarts == 0


def test_a_damaged_memory_is_the_file_alone(tmp_path: Path) -> None:
    (tmp_path / CARE_FILE).write_bytes(b"\x00garbage")
    assert RemoteSettings(tmp_path).begin(OWN) == OWN


@given(st.lists(st.sampled_from(["offer", "well", "ill", "dark", "crash"]), max_size=10))
@settings(max_examples=20, deadline=None)
def test_whatever_happens_the_sensor_ends_on_its_own_or_a_proven_configuration(
    tmp_path_factory: pytest.TempPathFactory, happenings: list[str]
) -> None:
    sensor = Sensor(tmp_path_factory.mktemp("lives"))
    sensor.start()
    version, proven = 0, {12.0}
    for what in happenings:
        if what == "offer":
            version += 1
            sensor.service.order = CareOrder(config=versioned(version, fps=13.0 + version))
            sensor.status["cameras"][0]["state"] = "counting"
            sensor.live(60)
        elif what == "well":
            sensor.status["cameras"][0]["state"] = "counting"
            sensor.service.order = CareOrder()
            sensor.live(HEALTHY_SECONDS + 90)
            proven.add(sensor.settings.camera[0].fps or 0)
        elif what == "ill":
            sensor.status["cameras"][0]["state"] = "failed"
            sensor.live(TRIAL_SECONDS + 100)
        elif what == "dark":
            sensor.service.order = None
            sensor.live(TRIAL_SECONDS + 100)
        if what == "crash" or sensor.carer.wants_restart:
            sensor.start()
    for _ in range(MAX_STARTS + 1):
        sensor.start()
    assert sensor.remote.trial is None
    assert sensor.settings.camera[0].fps in proven


# -- commands


def test_a_restart_is_done_once(sensor: Sensor) -> None:
    sensor.start()
    sensor.service.order = CareOrder(command=Command(id="a" * 32, action="restart"))
    sensor.live(60)
    assert sensor.restarts == 1
    sensor.start()
    sensor.live(300)
    assert sensor.restarts == 0
    assert sensor.service.reports[-1].last_command == "a" * 32


# -- the report


def test_the_report_leaves_behind_what_is_not_on_the_list(sensor: Sensor) -> None:
    sensor.start()
    sensor.live(30)
    report = sensor.service.reports[0]
    text = report.model_dump_json()
    for secret in ("hunter2", "192.0.2.7", "rtsp", "free text", "Landlock", "present", "last_record"):
        assert secret not in text
    assert report.locks[0].name == "files"
    assert report.cameras[0].sensor_id == "hall-3"
    assert report.spool is not None
    assert (report.spool.waiting, report.spool.lost, report.spool.disk_ok) == (3, 1, True)
    assert (report.temperature, report.clock_skew) == (61.2, -0.4)


def test_the_real_agents_status_fits_the_report(tmp_path: Path) -> None:
    from counter.agent.supervisor import Agent
    from counter.privacy import inspect
    from counter.types import Detections

    clip = Path(__file__).resolve().parents[1] / "clips/door-overhead-rendered.mp4"
    own = SensorSettings(camera=(CameraSettings(source=str(clip)),))

    class Blind:
        def detect(self, frame: object) -> Detections:
            return Detections.empty()

    agent = Agent(
        own,
        tmp_path,
        detector=lambda camera: Blind(),
        on_record=lambda record: None,
        extra=lambda: {"locks": [report.as_json() for report in inspect()]},
    )
    try:
        report = report_of(agent.snapshot(), RemoteSettings(tmp_path).known, 5)
    finally:
        agent._let_go()
    assert len(report.locks) == len(inspect())
    assert len(report.cameras) == 1


# -- settings together


def test_what_is_left_out_stays_and_cameras_are_out_of_reach() -> None:
    remote = RemoteConfig(hours=RemoteHours(mon=("06:00-12:00",), sat=("10:00-11:00",)), fps=3.0)
    result = merged(OWN, remote)
    assert result.hours.mon == ((360, 720),)
    assert result.hours.wed == ((540, 1020),)
    assert result.hours.sat == ((600, 660),)
    assert result.hours.zone == "Europe/Amsterdam"
    assert (result.camera[0].fps, result.camera[0].idle_fps) == (3.0, 3.0)
    assert result.camera[0].source == OWN.camera[0].source
    assert merged(OWN, RemoteConfig()) == OWN


def test_exceptions_replace_those_of_the_file() -> None:
    remote = RemoteConfig.model_validate(
        {"hours": {"exceptions": [{"first": "2026-12-24", "windows": ["09:00-12:00"]}]}}
    )
    (exception,) = merged(OWN, remote).hours.exceptions
    assert exception.first == date(2026, 12, 24)
    with pytest.raises(ValueError, match="lies before"):
        merged(
            OWN, RemoteConfig.model_validate({"hours": {"exceptions": [{"first": "2026-12-24", "last": "2026-12-01"}]}})
        )


# -- one agent after the other


class FakeAgent:
    """Runs until it is told to stop."""

    def __init__(self, settings: SensorSettings, on_run: Callable[[FakeAgent], None]) -> None:
        self.clock = Clock()
        self.settings = settings
        self._stopped = threading.Event()
        self._on_run = on_run

    def run(self, stop: threading.Event) -> None:
        self._on_run(self)
        self._stopped.wait(timeout=20)

    def stop(self) -> None:
        self._stopped.set()

    def snapshot(self) -> Mapping[str, Any]:
        return json.loads(json.dumps(STATUS))  # type: ignore[no-any-return]


def test_the_sensor_begins_anew_inside_its_process(tmp_path: Path) -> None:
    service, ran = Service(CareOrder(config=versioned(1, fps=7.0))), []
    stop = threading.Event()

    def begin(chosen: SensorSettings) -> FakeAgent:
        def on_run(agent: FakeAgent) -> None:
            ran.append(agent.settings.camera[0].fps)
            if len(ran) == 2:
                stop.set()
                agent.stop()

        return FakeAgent(chosen, on_run)

    run_with_care(begin, OWN, tmp_path, stop, lambda clock: service)  # type: ignore[arg-type]
    assert ran == [12.0, 7.0]


def test_one_that_does_not_even_start_is_rolled_back_at_once(tmp_path: Path) -> None:
    service, ran = Service(CareOrder(config=versioned(1, fps=7.0))), []
    stop = threading.Event()

    def begin(chosen: SensorSettings) -> FakeAgent:
        if chosen.camera[0].fps == 7.0:
            raise RuntimeError("no such rate")

        def on_run(agent: FakeAgent) -> None:
            ran.append(agent.settings.camera[0].fps)
            if len(ran) == 2:
                stop.set()
                agent.stop()

        return FakeAgent(chosen, on_run)

    run_with_care(begin, OWN, tmp_path, stop, lambda clock: service)  # type: ignore[arg-type]
    assert ran == [12.0, 12.0]
    assert RemoteSettings(tmp_path).known.refused == 1


def test_a_sensor_that_does_not_start_by_itself_says_so(tmp_path: Path) -> None:
    def begin(chosen: SensorSettings) -> FakeAgent:
        raise RuntimeError("no camera")

    with pytest.raises(RuntimeError, match="no camera"):
        run_with_care(begin, OWN, tmp_path, threading.Event(), lambda clock: Service())  # type: ignore[arg-type]
