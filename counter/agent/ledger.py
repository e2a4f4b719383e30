"""Which interval a sensor reported last: a small file beside its spool that is right after a kill at any moment.

An interval is *reported* from the moment the spool holds its record; after that it must never be reported again, before
that the next run still may. Spool and ledger cannot change in one stroke, so what is about to happen comes first:

1. The ledger notes: "after ``reported``, ``next`` goes into the spool, which has taken ``taken`` records so far".
2. The spool takes the record.
3. Only then may it be sent.

Each step is durable before the next begins. After a kill, what the spool has ever taken says how far it came:

=================  ==============================================  =======================================
the spool took     so it ended                                     reported last
=================  ==============================================  =======================================
``taken``          before the spool had the record                 ``reported``; ``next`` may come again
more               after it                                        ``next``
fewer              with records that the disk refused or lost      ``next``: rather a gap than two values
=================  ==============================================  =======================================

That is one write a record: the note of the next record settles the one before. The file has two slots that are written
in turns and in place (the flash of a sensor lives longer without a rename a minute); a slot that was cut short is known
by its checksum, and then the other one, which is one step older, is true.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from uplink.keyfiles import write_atomic

log = logging.getLogger(__name__)

LEDGER_FILE = "reported.state"
SLOT_BYTES = 256
SLOT_PLACES = (0, 4096)
"""A block of their own each: a power cut that spoils one leaves the other alone."""


@dataclass(frozen=True, slots=True)
class Note:
    """What a slot says.

    Attributes:
        sensor: whose it is.
        turn: notes so far; the higher one of two slots is the newer.
        reported: start of the last interval that the spool is known to hold, seconds since 1970; None: none.
        next: start of the interval that goes in now; None: nothing is under way.
        taken: records that the spool had taken before.
    """

    sensor: str
    turn: int = 0
    reported: int | None = None
    next: int | None = None
    taken: int = 0

    def encode(self) -> bytes:
        """The slot: JSON, spaces, checksum, line end."""
        body = json.dumps(asdict(self), separators=(",", ":")).encode().ljust(SLOT_BYTES - 9)
        return body + b"%08x\n" % zlib.crc32(body)

    @classmethod
    def decode(cls, slot: bytes) -> Self | None:
        """None for a slot that is empty, cut short or damaged."""
        body, checksum = slot[: SLOT_BYTES - 9], slot[SLOT_BYTES - 9 :]
        try:
            if len(slot) != SLOT_BYTES or checksum != b"%08x\n" % zlib.crc32(body):
                return None
            note = cls(**json.loads(body))
        except (ValueError, TypeError):
            return None
        return note if note.encode() == slot else None

    def last(self, taken: int) -> int | None:
        """Start of the last interval that is reported, given how many records the spool has taken by now."""
        return self.reported if self.next is None or taken == self.taken else self.next


class Ledger:
    """The ledger of one sensor. One thread writes it; a disk that refuses is said once, and counting goes on.

    Args:
        path: of the file; made when absent.
        sensor: its name; what another one left is not believed.
        taken: records that the spool has ever taken, `uplink.spool.SpoolCounters.appended`, right after it was opened.
    """

    def __init__(self, path: Path, sensor: str, taken: int) -> None:
        self._path = path
        self._descriptor = -1
        self._refused = False
        found = read_note(path)
        if found is None or found.sensor != sensor:
            found = Note(sensor)
            self._make()
        self._note = found
        self._reported = found.last(taken)
        self.settle()  # the decision, before anything else changes the spool's count

    @property
    def reported(self) -> float | None:
        """Start of the last interval that was reported, seconds since 1970; None when there is none."""
        return None if self._reported is None else float(self._reported)

    def begin(self, start: float, taken: int) -> None:
        """Note, durably, that the record of the interval from ``start`` is about to go into the spool."""
        self._try(Note(self._note.sensor, self._note.turn + 1, self._reported, int(start), taken))

    def end(self, *, durable: bool) -> None:
        """The spool has it. Where not durably, it may be sent from RAM all the same: it counts as reported at once."""
        self._reported = self._note.next
        if not durable:
            self.settle()

    def settle(self) -> None:
        """Write down that nothing is under way."""
        self._try(Note(self._note.sensor, self._note.turn + 1, self._reported))

    def close(self) -> None:
        """Settle, and let go of the file."""
        self.settle()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    # -- inside

    def _make(self) -> None:
        try:
            write_atomic(self._path, bytes(SLOT_PLACES[-1] + SLOT_BYTES))
        except OSError as error:
            self._complain(error)

    def _try(self, note: Note) -> None:
        self._note = note
        try:
            if self._descriptor < 0:
                self._descriptor = os.open(self._path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            self._write(note)
        except OSError as error:
            self._complain(error)
        else:
            self._refused = False

    def _write(self, note: Note) -> None:
        data, place = note.encode(), SLOT_PLACES[note.turn % 2]
        if os.pwrite(self._descriptor, data, place) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fdatasync(self._descriptor)

    def _complain(self, error: OSError) -> None:
        if not self._refused:
            log.warning("%s: cannot be written: %s", self._path, error.strerror)
        self._refused = True


def read_note(path: Path) -> Note | None:
    """The newest whole note of a ledger; None when there is none."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    notes = [note for place in SLOT_PLACES if (note := Note.decode(data[place : place + SLOT_BYTES])) is not None]
    return max(notes, key=lambda note: note.turn, default=None)
