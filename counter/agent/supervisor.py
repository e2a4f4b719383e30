"""The agent: where settings, cameras, spools and the sender are put together, and kept alive.

One thread a camera, one for sending, one for the status; the main thread watches. A camera that fails is begun anew; a
thread that hangs for good is told to systemd by silence: the watchdog then restarts the whole.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from counter.agent import board
from counter.agent.clock import AgentClock, SystemAgentClock, iso
from counter.agent.feed import OpenFeed, open_feed
from counter.agent.outbox import Courier, MakeTransport, Outbox, default_transport, find_enrolment
from counter.agent.records import RecordDesk
from counter.agent.schedule import Schedule
from counter.agent.settings import CameraSettings, SensorSettings
from counter.agent.state import StateServer
from counter.agent.systemd import notify, watchdog_seconds
from counter.agent.worker import CameraState, CameraWorker, MakeCounter, OnResult
from counter.detector import Detector, open_model, resolve, usable_cpus
from counter.pipeline import TRACKING, PeopleCounter
from uplink.messages import CountRecord

log = logging.getLogger(__name__)

HUNG_SECONDS = 90.0
"""A camera's thread that gives no sign for so long hangs: `WATCHDOG=1` is withheld, and systemd restarts the sensor."""
_TURN_SECONDS = 1.0
_JOIN_SECONDS = 2.5
_SEND_SECONDS = 2.0
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0

MakeDetector = Callable[[CameraSettings], Detector]


class Agent:
    """A running sensor, one camera or several.

    Args:
        settings: of ``sensor.toml``.
        state: the state folder: identity, key and spool, and those of further sensors in subfolders.
        clock: everything here waits and stamps by it.
        feed: opens a camera; default: what its source names.
        detector: finds people for a camera; default: the model of its settings.
        transport: carries batches; default: HTTP.
        on_record: gets the records instead of the spools; then nobody needs to be enrolled and nothing is sent.
        on_result: told of every frame's result, in the camera's thread.
        extra: further facts for the status (the privacy locks).

    Raises:
        IdentityError: a sensor is not enrolled.
        SpoolBusyError, SpoolError: a spool cannot be used.
        DetectorError: a model cannot be used.
        OSError: the status socket cannot be made.
    """

    def __init__(
        self,
        settings: SensorSettings,
        state: Path,
        *,
        clock: AgentClock | None = None,
        feed: OpenFeed = open_feed,
        detector: MakeDetector | None = None,
        transport: MakeTransport = default_transport,
        on_record: Callable[[CountRecord], None] | None = None,
        on_result: OnResult | None = None,
        extra: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        self.settings = settings
        self.state = state
        self.clock = clock or SystemAgentClock()
        self.schedule = Schedule(settings.hours)
        self._stop = threading.Event()
        self._stop_sending = threading.Event()
        self._extra = extra
        self._started = self.clock.time()
        self.outboxes: dict[str, Outbox] = {}
        self.workers: list[CameraWorker] = []
        self._threads: list[threading.Thread] = []
        try:
            self._set_up(feed, detector, transport, on_record, on_result)
        except BaseException:
            self._let_go()
            raise

    def run(self, stop: threading.Event | None = None) -> None:
        """Work until :meth:`stop` is called, ``stop`` is set, or every recording has ended. Ends within 5 s."""
        self._server.start()
        courier = Courier(list(self.outboxes.values()), self.clock, self._stop_sending)
        courier.start()
        self._threads = [
            threading.Thread(target=work, args=(worker, self.clock, self._stop), name=worker.sensor_id, daemon=True)
            for worker in self.workers
        ]
        for thread in self._threads:
            thread.start()
        notify("READY=1")
        log.info("counting: %s", ", ".join(f"{w.sensor_id} ({w.camera.name})" for w in self.workers))
        try:
            while not self._stop.is_set() and not (stop is not None and stop.is_set()):
                self._turn()
                if all(worker.state is CameraState.ENDED for worker in self.workers):
                    break
                self.clock.wait(stop or self._stop, _TURN_SECONDS)
        finally:
            self._end(courier)

    def stop(self) -> None:
        """End :meth:`run`. May be called from any thread or signal handler."""
        self._stop.set()

    def snapshot(self) -> dict[str, Any]:
        """The status as plain data: what ``headroom sensor status`` shows. No picture, no track, no secret."""
        now = self.clock.time()
        change = self.schedule.next_change(now)
        cameras = [
            worker.snapshot() | ({"uplink": box.snapshot()} if (box := self.outboxes.get(worker.sensor_id)) else {})
            for worker in self.workers
        ]
        return {
            "running": True,
            "started": iso(self._started),
            "now": iso(now),
            "measuring": self.schedule.is_open(now),
            "next_change": None if change is None else iso(change),
            "zone": self.settings.hours.zone,
            "care": self.settings.care.model_dump(),
            "cameras": cameras,
            "board": board.report(),
            "hung": [worker.sensor_id for worker in self._hung()],
            **self._extra(),
        }

    def events(self) -> dict[str, list[dict[str, Any]]]:
        """Crossings of late by sensor: moment, line and direction."""
        return {worker.sensor_id: list(worker.events) for worker in self.workers}

    # -- setting up

    def _set_up(
        self,
        feed: OpenFeed,
        detector: MakeDetector | None,
        transport: MakeTransport,
        on_record: Callable[[CountRecord], None] | None,
        on_result: OnResult | None,
    ) -> None:
        for index, camera in enumerate(self.settings.camera):
            deliver: Callable[[CountRecord], None]
            last: float | None = None
            if on_record is None:
                box = Outbox(find_enrolment(camera, self.state), self.clock, transport())
                self.outboxes[box.sensor_id] = box
                sensor_id, deliver, last = box.sensor_id, box.put, box.ledger.reported
            else:
                sensor_id, deliver = camera.sensor_id or f"camera-{index}", on_record
            desk = RecordDesk(self.settings.interval, self.schedule.touches, deliver, last)
            make = counter_factory(
                camera,
                sensor_id,
                self.settings.interval,
                detector=detector(camera) if detector is not None else None,
                threads=camera.threads or max(1, usable_cpus() // len(self.settings.camera)),
                cache=self.state / "selftest.json",
            )
            worker = CameraWorker(
                sensor_id,
                camera,
                self.schedule,
                desk,
                make,
                feed,
                self.clock,
                self._stop,
                health=self.settings.health,
                work=self.settings.work,
                on_result=on_result,
            )
            self.workers.append(worker)
        self._server = StateServer(self.state, {"status": self.snapshot, "events": self.events})

    # -- running

    def _turn(self) -> None:
        heat = board.temperature()
        for worker in self.workers:
            worker.pace.temperature = heat
        hung = self._hung()
        if not hung:
            notify(f"WATCHDOG=1\nSTATUS={self._words()}")
        elif watchdog_seconds() is None:
            log.error("%s: gives no sign of life; restart the sensor", ", ".join(w.sensor_id for w in hung))

    def _hung(self) -> Sequence[CameraWorker]:
        now = self.clock.monotonic()
        return [worker for worker in self.workers if now - worker.heartbeat > HUNG_SECONDS]

    def _words(self) -> str:
        states = [worker.state.value for worker in self.workers]
        waiting = sum(len(box.spool) for box in self.outboxes.values())
        return f"{', '.join(f'{states.count(s)} {s}' for s in dict.fromkeys(states))}; {waiting} records wait"

    def _end(self, courier: Courier) -> None:
        notify("STOPPING=1")
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=_JOIN_SECONDS)
        stuck = [thread.name for thread in self._threads if thread.is_alive()]
        if stuck:
            log.warning("%s: did not end in time; the interval that had begun is lost", ", ".join(stuck))
        self._stop_sending.set()
        courier.join(timeout=_SEND_SECONDS)
        if courier.is_alive():  # it waits for an answer; the spool stays its own until the process ends
            for box in self.outboxes.values():
                box.spool.flush()
            self._server.close()
        else:
            self._let_go()
        log.info("ended")

    def _let_go(self) -> None:
        server = getattr(self, "_server", None)
        if server is not None:
            server.close()
        for box in self.outboxes.values():
            box.close()


def work(worker: CameraWorker, clock: AgentClock, stop: threading.Event) -> None:
    """The life of a camera's thread: whatever breaks is said once and begun anew, with growing pauses."""
    pause = _FIRST_PAUSE
    while not stop.is_set():
        try:
            worker.step()
        except BaseException as error:  # a codec or network may raise anything, an exit too; the other cameras go on
            worker.fail(error)
            try:
                worker.rest(pause)
            except BaseException:
                log.exception("%s: its records cannot be kept", worker.sensor_id)
                clock.wait(stop, pause)
            pause = min(pause * 2.0, _LONGEST_PAUSE)
        else:
            if not worker.failing:
                pause = _FIRST_PAUSE
    try:
        worker.shut()
    except Exception:
        log.exception("%s: could not be closed cleanly", worker.sensor_id)


def counter_factory(
    camera: CameraSettings,
    sensor_id: str,
    interval: int,
    *,
    detector: Detector | None = None,
    threads: int | None = None,
    cache: Path | None = None,
) -> MakeCounter:
    """What makes a fresh counter for each opening of a camera; the model is opened once.

    Raises:
        DetectorError: the model cannot be used.
    """
    scene = camera.scene
    tracking = TRACKING[scene.mode]
    if detector is None:
        detector, chosen = open_model(resolve(camera.model, scene.mode), threads, cache)
        tracking = replace(tracking, threshold=chosen.threshold, low_threshold=chosen.low_threshold)
    found = detector

    def make(on_record: Callable[[CountRecord], None]) -> PeopleCounter:
        return PeopleCounter(
            found,
            scene.counting_lines(),
            scene.counting_zones(),
            scene.mode,
            threshold=scene.min_score,
            tracking=tracking,
            interval=interval,
            sensor_id=sensor_id,
            on_record=on_record,
        )

    return make
