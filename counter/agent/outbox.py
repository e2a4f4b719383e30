"""What waits for the service, and the one thread that sends it: a spool and a sender for each sensor of the board."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from counter.agent.clock import AgentClock
from counter.agent.ledger import LEDGER_FILE, Ledger
from counter.agent.settings import CameraSettings
from uplink.identity import IDENTITY_FILE, Enrolled, Identity, IdentityError, save_sensor_key
from uplink.messages import CountRecord
from uplink.sender import Result, Sender, Step
from uplink.spool import SPOOL_FOLDER, Spool
from uplink.transport import Reply, RequestsTransport, Transport

log = logging.getLogger(__name__)

MakeTransport = Callable[[], Transport]

_IDLE_SECONDS = 1.0


def find_enrolment(camera: CameraSettings, state: Path) -> Enrolled:
    """The identity of a camera's sensor: the board's own in the state folder, a further camera's in its subfolder.

    Raises:
        IdentityError: not enrolled, enrolled under another name, or as a camera of another board.
    """
    own = state / camera.sensor_id if camera.sensor_id is not None else state
    folder = own if (own / IDENTITY_FILE).exists() else state
    try:
        identity = Identity.load(folder)
    except IdentityError as error:
        if camera.sensor_id is None or "not enrolled" not in str(error):
            raise
        raise IdentityError(
            f"sensor {camera.sensor_id} is not enrolled; run: headroom sensor enrol --state {state} "
            f"(with the code of {camera.sensor_id})"
        ) from None
    if camera.sensor_id is not None and identity.sensor_id != camera.sensor_id:
        raise IdentityError(
            f"{folder} is enrolled as {identity.sensor_id}, the settings say {camera.sensor_id}; correct sensor_id, "
            f"or enrol it as a further camera of this board: headroom sensor enrol --camera --state {state}"
        )
    if identity.board and folder != state:
        board = Identity.load(state).sensor_id
        if identity.board != board:
            raise IdentityError(
                f"{folder} is a camera of board {identity.board}, but {state} is now enrolled as {board}; enrol the "
                f"camera anew: headroom sensor enrol --camera --state {state}"
            )
    return Enrolled(folder, identity)


def find_board(camera: CameraSettings, state: Path) -> Enrolled:
    """The sensor that speaks for the board as a whole: the camera's own, or the one that holds the board it is on.

    Raises:
        IdentityError: as `find_enrolment`.
    """
    found = find_enrolment(camera, state)
    return Enrolled(state, Identity.load(state)) if found.identity.board and found.folder != state else found


class Outbox:
    """One sensor's spool and sender, and the ledger of what it has reported.

    Raises:
        IdentityError: the key is missing or open to others.
        SpoolBusyError, SpoolError: see `uplink.spool.Spool`.
    """

    def __init__(self, enrolment: Enrolled, clock: AgentClock, transport: Transport) -> None:
        folder, identity = enrolment.folder, enrolment.identity
        key = identity.load_key(folder)
        self.sensor_id = identity.sensor_id
        self._clock = clock
        self._transport = transport
        self.spool = Spool(folder / SPOOL_FOLDER, identity.sensor_id, identity.seal_public_key)
        self.ledger = Ledger(folder / LEDGER_FILE, identity.sensor_id, self._taken())
        self._putting = threading.Lock()
        self.sender = Sender(
            self.spool,
            identity.service_url,
            key,
            _SendsWhatIsNoted(transport, self._putting),
            clock=clock,
            on_new_key=lambda new: save_sensor_key(folder, new),
        )
        self.due = 0.0

    def put(self, record: CountRecord) -> None:
        """Keep a record: durable when this returns, or in RAM while the disk refuses. For one thread."""
        with self._putting:
            self.ledger.begin(record.start.timestamp(), self._taken())
            self.ledger.end(durable=self.spool.append([record]))

    def step(self) -> Step:
        """Send once, and note when to send again."""
        step = self.sender.step()
        wait = step.wait or (_IDLE_SECONDS if step.result is Result.IDLE else 0.0)
        self.due = self._clock.monotonic() + wait
        return step

    def close(self) -> None:
        """Write down what waits, and let go of the folder."""
        with self._putting:
            self.spool.close()
            self.ledger.close()
        close = getattr(self._transport, "close", None)
        if close is not None:
            close()

    def snapshot(self) -> dict[str, Any]:
        """Plain data for the status."""
        spool, sender = self.spool.status(), self.sender.status
        last = sender.last_success
        return {
            "waiting": spool.waiting,
            "in_ram": spool.in_ram,
            "bytes_on_disk": spool.bytes_on_disk,
            "disk_error": spool.disk_error,
            "lost": spool.counters.lost,
            "totals": asdict(spool.counters),
            "last_success_seconds_ago": None if last is None else round(self._clock.monotonic() - last, 1),
            "last_error": sender.last_error,
            "put_aside": sender.put_aside,
            "clock_skew_seconds": sender.clock_skew,
        }

    def _taken(self) -> int:
        return self.spool.status().counters.appended


class _SendsWhatIsNoted:
    """A transport that waits while a record is being put: nothing is sent before the ledger knows of it."""

    def __init__(self, inner: Transport, putting: threading.Lock) -> None:
        self._inner = inner
        self._putting = putting

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        with self._putting:
            pass
        return self._inner.post(url, body, headers)


class Courier(threading.Thread):
    """Sends for all outboxes in turns. A link that is down delays nobody but the mail."""

    def __init__(self, outboxes: Sequence[Outbox], clock: AgentClock, stop: threading.Event) -> None:
        super().__init__(name="sender", daemon=True)
        self._outboxes = outboxes
        self._clock = clock
        self._stop_sending = stop

    def run(self) -> None:
        """Send until told to stop; then once more what has come since."""
        while not self._stop_sending.is_set():
            now = self._clock.monotonic()
            for outbox in self._outboxes:
                if outbox.due <= now and not self._stop_sending.is_set():
                    self._step(outbox)
            soonest = min((outbox.due for outbox in self._outboxes), default=now + _IDLE_SECONDS)
            self._clock.wait(self._stop_sending, min(max(soonest - self._clock.monotonic(), 0.0), _IDLE_SECONDS))
        for outbox in self._outboxes:
            if not outbox.sender.status.last_error:
                self._step(outbox)

    def _step(self, outbox: Outbox) -> None:
        try:
            outbox.step()
        except Exception:  # a bug must not end the sending of all others
            log.exception("%s: sending failed", outbox.sensor_id)
            outbox.due = self._clock.monotonic() + 60.0


def default_transport() -> Transport:
    """HTTP as `uplink.transport` does it."""
    return RequestsTransport()
