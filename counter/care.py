"""Remote care on the sensor: report, take configuration on trial, keep it or roll it back, restart when asked.

    no order -> running on the file alone
    new version -> checked against the sensor's own settings -> written down as *on trial* -> begun anew
    on trial -> healthy and in touch for a while -> *kept*
             -> not healthy in time, or begun for the third time -> rolled back, reported, never tried again

What is on trial is written down before it is begun. So a configuration that crashes the sensor, hangs it or cuts it off
counts its own starts, and is gone with the third.
"""

from __future__ import annotations

import json
import logging
import os
import random
import threading
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from counter.agent.clock import AgentClock
from counter.agent.outbox import find_board
from counter.agent.settings import SensorSettings
from uplink.care import CareClient, CareError, CareOrder, CareReport, Command, RemoteConfig, VersionedConfig
from uplink.identity import IdentityError
from uplink.keyfiles import write_atomic
from uplink.keys import SensorKey
from uplink.transport import RequestsTransport

log = logging.getLogger(__name__)

CARE_FILE = "care.json"
REPORT_SECONDS = 60.0
HEALTHY_SECONDS = 120.0
"""So long a configuration on trial must run well, and in touch with the service, before it is kept."""
TRIAL_SECONDS = 600.0
"""So long it has for that."""
MAX_STARTS = 2
_JOIN_SECONDS = 2.0
_WELL = ("counting", "closed")

Refusal = Literal["not valid", "not healthy"]


class _Memory(BaseModel):
    """``care.json``."""

    model_config = ConfigDict(extra="ignore")

    kept: VersionedConfig | None = None
    trial: VersionedConfig | None = None
    starts: int = Field(0, ge=0)
    life: str | None = None
    refused: int | None = None
    refused_because: Refusal | None = None
    last_command: str | None = None


class Exchange(Protocol):
    """`uplink.care.CareClient`, or a stand-in."""

    def exchange(self, report: CareReport) -> CareOrder: ...


class RemoteSettings:
    """The remote configuration of this sensor: which is kept, which is on trial. One process at a time.

    Args:
        folder: the state folder.
        life: names this process, also after it has become the same program anew; default: its id and start.
    """

    def __init__(self, folder: Path, life: str | None = None) -> None:
        self._path = folder / CARE_FILE
        self._life = life or _life()
        self._memory = self._load()

    @property
    def trial(self) -> VersionedConfig | None:
        """What must prove itself."""
        return self._memory.trial

    @property
    def known(self) -> _Memory:
        """A copy of what is written down."""
        return self._memory.model_copy(deep=True)

    def begin(self, own: SensorSettings) -> SensorSettings:
        """The settings to start with now. Counts the start of what is on trial, and rolls it back when it had enough.

        Args:
            own: the sensor's own file.
        """
        memory = self._memory
        if memory.trial is not None:
            again = memory.life == self._life
            if memory.starts >= MAX_STARTS and not again:
                self.roll_back("not healthy")
            else:
                # The privacy lock lets a process begin anew as itself: that is one start, not two.
                if not again:
                    memory.starts, memory.life = memory.starts + 1, self._life
                    self._save()
                try:
                    return merged(own, memory.trial.config)
                except ValueError:
                    self.roll_back("not valid")
        if memory.kept is not None:
            try:
                return merged(own, memory.kept.config)
            except ValueError as error:
                log.error("the remote configuration %d does not fit sensor.toml: %s", memory.kept.version, error)
        return own

    def offer(self, offered: VersionedConfig, own: SensorSettings) -> bool:
        """Take a newer configuration on trial. True: begin anew with it. What does not fit is refused for good."""
        memory = self._memory
        newest = max((known.version for known in (memory.kept, memory.trial) if known is not None), default=0)
        if offered.version <= max(newest, memory.refused or 0):
            return False
        try:
            merged(own, offered.config)
        except ValueError as error:
            log.error("remote configuration %d is refused: %s", offered.version, error)
            memory.refused, memory.refused_because = offered.version, "not valid"
            self._save()
            return False
        memory.trial, memory.starts, memory.life = offered, 0, None
        log.info("remote configuration %d is on trial", offered.version)
        return self._save()

    def keep(self) -> None:
        """What was on trial has proven itself."""
        memory = self._memory
        if memory.trial is not None:
            log.info("remote configuration %d is kept", memory.trial.version)
            memory.kept, memory.trial, memory.starts = memory.trial, None, 0
            self._save()

    def roll_back(self, because: Refusal) -> None:
        """What was on trial has failed: back to what was before, and never again."""
        memory = self._memory
        if memory.trial is not None:
            log.error("remote configuration %d is rolled back: %s", memory.trial.version, because)
            memory.refused, memory.refused_because = memory.trial.version, because
            memory.trial, memory.starts = None, 0
            self._save()

    def once(self, command: Command) -> bool:
        """Whether this command is new; then it is remembered before it is done, so that it is done once."""
        if command.id == self._memory.last_command:
            return False
        self._memory.last_command = command.id
        return self._save()

    def _load(self) -> _Memory:
        try:
            return _Memory.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return _Memory()
        except (OSError, ValidationError):
            log.warning("%s: damaged; the sensor's own file alone counts", self._path.name)
            return _Memory()

    def _save(self) -> bool:
        """Write it down. False: nothing may be begun that must be remembered."""
        try:
            write_atomic(self._path, self._memory.model_dump_json(exclude_none=True).encode() + b"\n")
        except OSError as error:
            log.error("%s: cannot be written: %s", self._path.name, error.strerror)
            return False
        return True


class Carer:
    """The thread that reports, and acts on orders.

    Args:
        remote: the configuration of this sensor.
        own: the settings of the sensor's own file.
        client: brings reports to the service and its orders back.
        status: the agent's own status (`counter.agent.supervisor.Agent.snapshot`).
        restart: ends the agent, so that it begins anew.
    """

    def __init__(
        self,
        remote: RemoteSettings,
        own: SensorSettings,
        client: Exchange,
        status: Callable[[], Mapping[str, Any]],
        restart: Callable[[], None],
        clock: AgentClock,
    ) -> None:
        self._remote = remote
        self._own = own
        self._client = client
        self._status = status
        self._restart = restart
        self._clock = clock
        self._began = clock.monotonic()
        self._well_since: float | None = None
        self._last_error = ""
        self.wants_restart = False

    def run(self, stop: threading.Event) -> None:
        """Report for ever, until ``stop`` is set or the sensor is to begin anew."""
        while not stop.is_set() and not self.wants_restart:
            try:
                self.step()
            except Exception:  # care must never end the counting
                log.exception("remote care failed")
            self._clock.wait(stop, self._pause())

    def step(self) -> None:
        """One report, and what follows from it."""
        status = self._status()
        try:
            order = self._client.exchange(self._report(status))
        except CareError as error:
            if str(error) != self._last_error:
                log.info("no remote care: %s", error)
            self._last_error = str(error)
            order = None
        else:
            self._last_error = ""
        self._judge(status, in_touch=order is not None)
        if order is not None and not self.wants_restart:
            self._obey(order)

    def _pause(self) -> float:
        """A minute, evenly spread: sensors that began together do not report together."""
        return REPORT_SECONDS * random.uniform(0.8, 1.2)  # noqa: S311 - no secret

    def _judge(self, status: Mapping[str, Any], *, in_touch: bool) -> None:
        """Keep what is on trial when it has run well and in touch for a while; roll it back when its time is over."""
        if self._remote.trial is None:
            return
        now = self._clock.monotonic()
        well = in_touch and all(camera["state"] in _WELL for camera in status["cameras"])
        if not well:
            self._well_since = None
        elif self._well_since is None:
            self._well_since = now
        if self._well_since is not None and now - self._well_since >= HEALTHY_SECONDS:
            self._remote.keep()
        elif now - self._began > TRIAL_SECONDS:
            self._remote.roll_back("not healthy")
            self._begin_anew()

    def _obey(self, order: CareOrder) -> None:
        if order.config is not None and self._remote.offer(order.config, self._own):
            self._begin_anew()
        if order.command is not None and self._remote.once(order.command):
            log.warning("restarting: asked to by the service")
            self._begin_anew()

    def _begin_anew(self) -> None:
        self.wants_restart = True
        self._restart()

    def _report(self, status: Mapping[str, Any]) -> CareReport:
        return report_of(status, self._remote.known, int(self._clock.monotonic() - self._began))


class CaredFor(Protocol):
    """An agent, as far as care goes (`counter.agent.supervisor.Agent`)."""

    clock: AgentClock

    def run(self, stop: threading.Event) -> None: ...
    def stop(self) -> None: ...
    def snapshot(self) -> dict[str, Any]: ...


def run_with_care(
    begin: Callable[[SensorSettings], CaredFor],
    own: SensorSettings,
    state: Path,
    stop: threading.Event,
    make_client: Callable[[AgentClock], Exchange] | None = None,
) -> None:
    """Run one agent after the other, each with the settings that hold then, until ``stop`` is set.

    With remote care switched off, one agent with the sensor's own settings: nothing is reported, and what was kept of
    remote configurations does not hold.

    Args:
        begin: an agent for these settings, ready to run; whatever it raises for the sensor's own settings is raised.
        own: the settings of the sensor's own file.
        state: the state folder.
        make_client: default: reports as the board's sensor to the service that it is enrolled with.
    """
    if not own.care.enabled:
        log.info("remote care is off: [care] enabled = false")
        begin(own).run(stop)
        return
    remote = RemoteSettings(state)
    while not stop.is_set():
        settings = remote.begin(own)
        try:
            agent = begin(settings)
        except Exception as error:
            if remote.trial is None:
                raise
            log.error("the configuration on trial does not start: %s", error)
            remote.roll_back("not valid")
            continue
        client = make_client(agent.clock) if make_client is not None else _client(own, state, agent.clock)
        carer = Carer(remote, own, client, agent.snapshot, agent.stop, agent.clock)
        ended = threading.Event()
        thread = threading.Thread(target=carer.run, args=(ended,), name="care", daemon=True)
        thread.start()
        try:
            agent.run(stop)
        finally:
            ended.set()
            thread.join(timeout=_JOIN_SECONDS)
        if not carer.wants_restart:
            return


def _client(own: SensorSettings, state: Path, clock: AgentClock) -> CareClient:
    enrolment = find_board(own.camera[0], state)
    identity = enrolment.identity

    def key() -> SensorKey:
        try:
            return identity.load_key(enrolment.folder)
        except IdentityError as error:
            raise CareError(str(error)) from None

    return CareClient(identity.service_url, key, RequestsTransport(), clock)


def merged(own: SensorSettings, remote: RemoteConfig) -> SensorSettings:
    """The sensor's own settings with the remote ones on top, checked as a whole.

    Raises:
        ValueError: together they are no valid settings.
    """
    hours = own.hours.model_dump(mode="json")
    if remote.hours is not None:
        hours |= remote.hours.model_dump(exclude_none=True)
    rates = remote.model_dump(include={"fps", "idle_fps"}, exclude_none=True)
    cameras = []
    for camera in own.camera:
        changed = camera.model_copy(update=rates)
        if changed.idle_fps is not None and changed.fps is not None and changed.idle_fps > changed.fps:
            changed = changed.model_copy(update={"idle_fps": changed.fps})
        cameras.append(changed)
    return own.model_copy(update={"hours": type(own.hours).model_validate(hours), "camera": tuple(cameras)})


def report_of(status: Mapping[str, Any], memory: _Memory, uptime: int) -> CareReport:
    """The part of the agent's status that the service gets: the allow-list, field by field."""
    board = status.get("board", {})
    boxes = [camera["uplink"] for camera in status["cameras"] if "uplink" in camera]
    skews = [box["clock_skew_seconds"] for box in boxes if box["clock_skew_seconds"] is not None]
    content = {
        "schema": 1,
        "version": _program_version(),
        "uptime": uptime,
        "config_version": memory.kept.version if memory.kept else 0,
        "trying_version": memory.trial.version if memory.trial else None,
        "refused_version": memory.refused,
        "refused_because": memory.refused_because,
        "last_command": memory.last_command,
        "locks": [{key: lock[key] for key in ("name", "holds", "required")} for lock in status.get("locks", [])],
        "cameras": [
            {key: camera[key] for key in ("sensor_id", "state", "health", "rate")} for camera in status["cameras"]
        ],
        "temperature": board.get("temperature"),
        "load": board.get("load"),
        "memory_mib": board.get("memory_mib"),
        "clock_skew": round(skews[0], 1) if skews else None,
    }
    if boxes:
        content["spool"] = {
            "waiting": sum(box["waiting"] for box in boxes),
            "lost": sum(box["lost"] for box in boxes),
            "disk_ok": not any(box["disk_error"] for box in boxes),
        }
    return CareReport.model_validate_json(json.dumps(content))


def _life() -> str:
    """Boot, process id and start in clock ticks: `execve` changes none of them."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        started = Path("/proc/self/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return f"{os.getpid()}"
    return f"{boot} {os.getpid()} {started}"


def _program_version() -> str:
    try:
        return version("headroom")
    except PackageNotFoundError:
        return "0"
