"""Parts of a sensor for tests: clocks turned by hand, cameras and networks with a script, a bench to run one on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from counter.agent import SensorSettings, parse_settings
from counter.agent.records import RecordDesk
from counter.agent.schedule import Hours, Schedule
from counter.agent.settings import CameraSettings
from counter.agent.supervisor import counter_factory
from counter.agent.worker import CameraWorker
from counter.sources import TimedFrame
from counter.types import Detections, Frame
from uplink.identity import Identity, save_sensor_key
from uplink.keyfiles import encode_key
from uplink.messages import CountRecord
from uplink.testing import ReferenceService

CLIP = Path(__file__).parents[1] / "clips" / "meeting-room-rendered.mp4"
MONDAY = datetime(2026, 3, 2, 11, 0, tzinfo=UTC).timestamp()  # noon in Amsterdam
ALWAYS = "".join(f'{day} = ["00:00-24:00"]\n' for day in ("mon", "tue", "wed", "thu", "fri", "sat", "sun"))


class HandClock:
    """Both clocks by hand: waiting passes the time at once."""

    def __init__(self, wall: float = MONDAY) -> None:
        self.wall, self.mono = wall, 1000.0

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.mono

    def sleep(self, seconds: float) -> None:
        self.wall += max(seconds, 0.0)
        self.mono += max(seconds, 0.0)

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.sleep(max(seconds, 1e-3))
        return event.is_set()


def one_person(frame: Frame) -> Detections:
    if not frame.any():
        return Detections.empty()
    return Detections(np.array([[40, 40, 80, 120]], np.float32), np.array([0.9], np.float32))


class Finder:
    """A detector that always finds one person; counts its calls, and breaks when told to."""

    def __init__(self) -> None:
        self.calls, self.broken = 0, False

    def detect(self, frame: Frame) -> Detections:
        self.calls += 1
        if self.broken:
            raise RuntimeError("the network broke")
        return one_person(frame)


class FakeFeed:
    """Ten pictures a second on a hand clock. ``alive`` and ``picture`` are the script."""

    def __init__(self, clock: HandClock) -> None:
        self.name, self.failure, self.ended, self.rate = "fake", None, False, 10.0
        self.clock, self.alive, self.closed = clock, True, False
        self.noise = np.random.default_rng(0)
        self.base = np.kron(self.noise.integers(40, 200, (12, 16, 3)), np.ones((10, 10, 1))).astype(np.uint8)
        self.change: Callable[[Frame], Frame] = lambda frame: frame

    def read(self, timeout: float) -> TimedFrame | None:
        assert not self.closed
        self.clock.sleep(0.1 if self.alive else timeout)
        if not self.alive:
            self.failure = "unplugged"
            return None
        noise = self.noise.integers(0, 4, self.base.shape).astype(np.uint8)
        frame = self.change(self.base) + noise
        return TimedFrame(frame, self.clock.monotonic(), datetime.fromtimestamp(self.clock.time(), UTC))

    def close(self) -> None:
        self.closed = True


class Bench:
    """One worker on a hand clock, with everything it made."""

    def __init__(self, camera: CameraSettings | None = None, hours: Hours | None = None, interval: int = 10) -> None:
        self.clock, self.records, self.feeds = HandClock(), list[CountRecord](), list[FakeFeed]()
        self.camera = camera or CameraSettings.model_validate({"source": "fake", "scene": {"mode": "room"}})
        self.detector, self.stop = Finder(), threading.Event()
        schedule = Schedule(hours or Hours())
        self.desk = RecordDesk(interval, schedule.touches, self.records.append)
        make = counter_factory(self.camera, "hall", interval, detector=self.detector)
        self.worker = CameraWorker("hall", self.camera, schedule, self.desk, make, self.open, self.clock, self.stop)

    def open(self, camera: CameraSettings, clock: object) -> FakeFeed:
        self.feeds.append(FakeFeed(self.clock))
        return self.feeds[-1]

    def run(self, seconds: float) -> list[CountRecord]:
        """Let the worker work; gives the records that came."""
        end, before = self.clock.mono + seconds, len(self.records)
        while self.clock.mono < end:
            self.worker.step()
        return self.records[before:]


def enrol(folder: Path, service: ReferenceService, url: str = "http://127.0.0.1:9", name: str = "hall") -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    seal = encode_key(service.seal_keys.public_key)
    Identity(sensor_id=name, service_url=url, tunnel_address="", service_seal_key=seal).save(folder)
    key = service.keys.sensor_key(name)
    assert key is not None
    save_sensor_key(folder, key)


def settings(text: str = "", cameras: int = 1) -> SensorSettings:
    tables = "".join(
        f'[[camera]]\nsource = "{CLIP}"\nscene.mode = "room"\n' + (f'sensor_id = "cam-{i}"\n' if cameras > 1 else "")
        for i in range(cameras)
    )
    return parse_settings(f"interval = 10\n{text}\n{tables}\n[hours]\n{ALWAYS}")


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.02)
