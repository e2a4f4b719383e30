"""The sensor under soak: the real agent, spools, senders and HTTP; only camera, detector and clock are made up.

    python -m tests.soak.sensor PLAN.json STATE JOURNAL

The journal says of each record that it was about to be kept, and that it was kept: `kill -9` may come in between.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

cv2.setNumThreads(1)

from counter.agent.outbox import Outbox  # noqa: E402
from counter.agent.schedule import Schedule  # noqa: E402
from counter.agent.settings import CameraSettings, parse_settings  # noqa: E402
from counter.agent.supervisor import Agent  # noqa: E402
from counter.sources import TimedFrame  # noqa: E402
from counter.types import Detections, Frame  # noqa: E402
from tests.soak.plan import CAMERAS, Plan, SoakClock, Window  # noqa: E402
from uplink.messages import CountRecord  # noqa: E402
from uplink.transport import Reply, RequestsTransport, TransportError  # noqa: E402

WIDTH, HEIGHT = 160, 120
SEATS = [(12 + 36 * k, 40, 32 + 36 * k, 90) for k in range(4)]
LATE_SECONDS = 60.0


def seated(utc: float) -> int:
    """How many people sit in the room at this moment of the sensor's clock."""
    return int(utc // 120) % (len(SEATS) + 1)


def settings_text(plan: Plan) -> str:
    """``sensor.toml`` of two cameras in a room."""
    windows = ", ".join(f'"{window}"' for window in plan.hours)
    days = "".join(f"{day} = [{windows}]\n" for day in ("mon", "tue", "wed", "thu", "fri"))
    cameras = "".join(
        f'[[camera]]\nsource = "rtsp://192.0.2.{k}/x"\nsensor_id = "{name}"\nfps = 0.5\nidle_fps = 0.5\n'
        '[camera.scene]\nmode = "room"\n'
        for k, name in enumerate(CAMERAS, 1)
    )
    return f'interval = {plan.interval}\n{cameras}[hours]\nzone = "Europe/Amsterdam"\n{days}'


class Camera:
    """A made-up room: people sit down and leave by the minute. It is unplugged, and it breaks, as the plan says."""

    def __init__(self, name: str, clock: SoakClock, schedule: Schedule, journal: Journal) -> None:
        self.name = name
        self.failure: str | None = None
        self.ended = False
        self.rate: float | None = None
        self._clock = clock
        self._schedule = schedule
        self._journal = journal
        first = name == CAMERAS[0]
        self._unplugged: tuple[Window, ...] = clock.plan.unplugged if first else ()
        self._broken: tuple[Window, ...] = () if first else clock.plan.broken
        self._never = threading.Event()
        self._chance = np.random.default_rng(1)
        self._room = self._chance.integers(40, 200, (HEIGHT // 8, WIDTH // 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        self._buffer: Frame = np.empty_like(self._room)

    def read(self, timeout: float) -> TimedFrame | None:
        utc = self._clock.time()
        if not self._schedule.is_open(utc) and not self._schedule.is_open(utc - LATE_SECONDS):
            self._journal.write("late", self.name, utc)
        if self._clock.inside(self._broken):
            raise RuntimeError("the codec broke")
        if self._clock.inside(self._unplugged):
            self.failure = "unplugged"
            self._clock.wait(self._never, timeout)
            return None
        self.failure = None
        np.copyto(self._buffer, self._room)
        self._buffer += self._chance.integers(0, 4, self._buffer.shape, np.uint8)
        for x1, y1, x2, y2 in SEATS[: seated(utc)]:
            self._buffer[y1:y2, x1:x2] = 255
        return TimedFrame(self._buffer, self._clock.monotonic())

    def close(self) -> None:
        self.ended = True


class Eyes:
    """Sees who sits where."""

    name = "soak"

    def detect(self, frame: Frame) -> Detections:
        taken = [box for box in SEATS if frame[(box[1] + box[3]) // 2, (box[0] + box[2]) // 2].min() == 255]
        return Detections(np.array(taken, np.float32).reshape(-1, 4), np.full(len(taken), 0.9, np.float32))


class Journal:
    """What happened, a line each, in one write: it outlives `kill -9`."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def write(self, kind: str, name: str, value: Any) -> None:
        self._file.write(f"{kind}\t{name}\t{value}\n".encode())


class Wire:
    """HTTP, except while the plan says otherwise."""

    def __init__(self, clock: SoakClock) -> None:
        self._clock = clock
        self._http = RequestsTransport(connect=2.0, read=10.0)

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        if self._clock.inside(self._clock.plan.offline):
            raise TransportError("no link")
        reply = self._http.post(url, body, headers)
        if self._clock.inside(self._clock.plan.deaf):
            raise TransportError("the answer was lost")
        return reply

    def close(self) -> None:
        self._http.close()


def journaled(journal: Journal) -> type[Outbox]:
    """An outbox that says what it keeps."""

    class Journaled(Outbox):
        def put(self, record: CountRecord) -> None:
            text = record.model_dump_json()
            journal.write("about", self.sensor_id, text)
            super().put(record)
            journal.write("kept", self.sensor_id, text)

    return Journaled


def main(plan_file: str, state: str, journal_file: str) -> int:
    """Run until told to stop."""
    import counter.agent.supervisor as supervisor

    logging.basicConfig(level=logging.WARNING, format="%(threadName)s %(message)s")
    plan = Plan.load(Path(plan_file))
    clock = SoakClock(plan)
    journal = Journal(Path(journal_file))
    supervisor.Outbox = journaled(journal)  # type: ignore[misc]
    settings = parse_settings(settings_text(plan), "soak")
    schedule = Schedule(settings.hours)

    def feed(camera: CameraSettings, _: object) -> Camera:
        assert camera.sensor_id is not None
        return Camera(camera.sensor_id, clock, schedule, journal)

    agent = Agent(
        settings, Path(state), clock=clock, feed=feed, detector=lambda _: Eyes(), transport=lambda: Wire(clock)
    )
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: (agent.stop(), stop.set()))
    journal.write("life", "agent", clock.elapsed())
    agent.run(stop)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
