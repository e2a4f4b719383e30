"""``headroom count --send``: records go into the sealed spool, and from there to the service while it counts."""

from __future__ import annotations

import threading
from pathlib import Path

from counter.outputs import OutputError
from uplink.identity import Identity, IdentityError, save_sensor_key, state_folder
from uplink.messages import CountRecord
from uplink.sender import Sender
from uplink.spool import SPOOL_FOLDER, Spool, SpoolBusyError, SpoolError
from uplink.transport import RequestsTransport


class SpoolSink:
    """A `counter.outputs.RecordSink`: a record is durable when `write` returns, whatever becomes of the link.

    Args:
        state: the state folder of an enrolled sensor; None for the usual one.

    Raises:
        OutputError: the sensor is not enrolled, or its agent has the spool open.
    """

    def __init__(self, state: Path | None = None) -> None:
        folder = state_folder(state)
        try:
            identity = Identity.load(folder)
            key = identity.load_key(folder)
            self._spool = Spool(folder / SPOOL_FOLDER, identity.sensor_id, identity.seal_public_key)
        except (IdentityError, SpoolBusyError, SpoolError) as error:
            raise OutputError("--send", folder, str(error)) from error
        self.sensor_id = identity.sensor_id
        self._folder = folder
        self._transport = RequestsTransport()
        self._sender = Sender(
            self._spool,
            identity.service_url,
            key,
            self._transport,
            on_new_key=lambda new: save_sensor_key(folder, new),
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sender.run, args=(self._stop,), name="sender", daemon=True)
        self._thread.start()
        self.waiting = 0
        """Records that still wait after the end; ``headroom sensor send`` delivers them."""

    def write(self, record: CountRecord) -> None:
        """Keep a record. When the disk refuses, it waits in RAM for disk or link, whichever is first."""
        self._spool.append([record])

    def commit(self) -> None:
        """Deliver what can be delivered now. What cannot stays in the spool.

        Raises:
            OutputError: neither the disk nor the service took some of the records.
        """
        self._end(attempts=2)

    def abort(self) -> None:
        """End without waiting for the link. What was written stays: it was counted."""
        self._end(attempts=0)

    def _end(self, attempts: int) -> None:
        self._stop.set()
        self._thread.join()
        if attempts:
            self._sender.drain(attempts=attempts)
        safe = self._spool.flush()
        self.waiting = len(self._spool)
        error = self._spool.status().disk_error
        self._spool.close()
        self._transport.close()
        if attempts and not safe:
            raise OutputError("--send", self._folder, f"the spool could not be written: {error}; free some space")
