"""Store and forward: count records wait here, sealed, until the service has answered for each of them.

* A record is durable when `Spool.append` returns True; a kill or a power cut after that does not lose it.
* It is forgotten when `Spool.acknowledge` is told of the service's answer, never before. A crash in between sends it
  again; the service knows it by its key, so it still counts once.
* The spool is bounded in records and bytes. The oldest go first and are counted as lost. No wall clock is looked at:
  a clock that jumps cannot make the spool throw anything away.
* When the disk is full or fails, records wait in RAM, bounded, and the disk is tried again at every append.
* Segments of this process can be read back (their key is in RAM) and go out as JSON. Those of an earlier process
  cannot be read by anyone but the service: their frames go out as they are.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence, Set
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from uplink.keyfiles import make_private_folder
from uplink.messages import MAX_RECORDS_PER_BATCH, BatchAnswer, CountRecord
from uplink.sealing import SegmentSealer, pack_record
from uplink.segment import (
    FileOps,
    SegmentFile,
    SegmentWriter,
    SystemFileOps,
    segment_path,
    segment_paths,
)
from uplink.spoolstate import (
    SpoolCounters,
    SpoolSettings,
    SpoolState,
    SpoolStatus,
    load_state,
    read_status,
    save_state,
)
from uplink.waiting import Entry, Segment, SpoolBatch, build, choose

__all__ = [
    "SPOOL_FOLDER",
    "Spool",
    "SpoolBatch",
    "SpoolBusyError",
    "SpoolCounters",
    "SpoolError",
    "SpoolSettings",
    "SpoolStatus",
    "read_status",
]

SPOOL_FOLDER = "spool"
_BLOCK = 4096  # what a file system gives at least
_LOG = logging.getLogger(__name__)


class SpoolBusyError(Exception):
    """Another process has the spool open."""


class SpoolError(Exception):
    """The spool's folder cannot be used. The text names it."""


class Spool:
    """The sensor's waiting records. One process at a time; its threads may share it.

    Args:
        folder: made with mode 0700 when absent.
        sensor_id: whose records these are.
        seal_public_key: the service's X25519 public key, 32 bytes.

    Raises:
        SpoolBusyError: another process has it open.
        SpoolError: the folder cannot be made or read.
    """

    def __init__(
        self,
        folder: Path,
        sensor_id: str,
        seal_public_key: bytes,
        settings: SpoolSettings | None = None,
        ops: FileOps | None = None,
    ) -> None:
        self.folder = folder
        self.sensor_id = sensor_id
        self.settings = settings or SpoolSettings()
        self._seal_public_key = seal_public_key
        self._ops = ops or SystemFileOps()
        self._mutex = threading.RLock()
        self._tickets = itertools.count()
        self._entries: OrderedDict[int, Entry] = OrderedDict()  # the oldest first
        self._in_ram: OrderedDict[int, Entry] = OrderedDict()  # those of them that no disk holds yet
        self._segments: dict[int, Segment] = {}
        self._writer: tuple[SegmentWriter, Segment] | None = None
        self._in_flight: frozenset[int] = frozenset()
        self._unsaved = 0
        self._unreadable = 0
        self._disk_error = ""
        self._pid = os.getpid()
        try:
            make_private_folder(folder)
            self._lock = _lock(folder)
        except OSError as error:
            raise SpoolError(f"{folder}: the spool cannot be used: {error.strerror}") from None
        try:
            self._recover()
        except BaseException as error:
            os.close(self._lock)
            if isinstance(error, OSError):
                raise SpoolError(f"{folder}: the spool cannot be read: {error.strerror}") from None
            raise

    def append(self, records: Iterable[CountRecord]) -> bool:
        """Take records. True when all that were ever taken are durable; False while some wait in RAM only.

        Never raises for a disk that is full or fails.

        Raises:
            ValueError: a record of another sensor, or one made past its own checks; none of them is taken.
        """
        taken = list(records)
        for record in taken:
            if record.sensor_id != self.sensor_id:
                raise ValueError(f"sensor_id: {record.sensor_id!r} in the spool of {self.sensor_id!r}")
            pack_record(record)  # what cannot be sealed must not get in: it would stand in the way of all that follow
        with self._mutex:
            for record in taken:
                ticket = next(self._tickets)
                entry = Entry(record=record)
                self._entries[ticket] = entry
                self._in_ram[ticket] = entry
            self._counters.appended += len(taken)
            if len(self._in_ram) >= self.settings.commit_records:
                self._commit()
            self._bound()
            return not self._in_ram

    def flush(self) -> bool:
        """Write what waits in RAM. True when nothing does any more."""
        with self._mutex:
            self._commit()
            self._bound()
            return not self._in_ram

    def __len__(self) -> int:
        """Records that wait."""
        return len(self._entries)

    def next_batch(
        self, limit: int = MAX_RECORDS_PER_BATCH, *, newest: bool = False, skip: Set[int] = frozenset()
    ) -> SpoolBatch | None:
        """Up to `limit` waiting records, the oldest, or those that came last; None when none can be had.

        They stay in the spool, and are safe from being dropped until the next call. A batch is either readable here
        (JSON) or not (sealed), by the first record that is chosen.

        Args:
            skip: tickets to leave out.
        """
        limit = min(limit, MAX_RECORDS_PER_BATCH)
        unreadable: set[int] = set()
        with self._mutex:
            while tickets := choose(self._entries, limit, newest=newest, skip=skip, unreadable=unreadable):
                built = build(self._entries, tickets)
                self._damaged(built.damaged)
                unreadable |= built.unreadable
                if built.batch is not None:
                    self._in_flight = frozenset(built.batch.tickets)
                    return built.batch
            self._in_flight = frozenset()
            return None

    def acknowledge(self, batch: SpoolBatch, answer: BatchAnswer) -> None:
        """Forget the records of a batch: the service has proven that it answers for them.

        Raises:
            ValueError: the answer speaks of another number of records; nothing is forgotten.
        """
        if answer.total != len(batch):
            raise ValueError(f"the answer speaks of {answer.total} records, the batch holds {len(batch)}")
        with self._mutex:
            known = [ticket for ticket in batch.tickets if ticket in self._entries]
            if len(known) != len(batch):  # a second answer for the same batch
                return
            self._counters.delivered += answer.new
            self._counters.duplicate += answer.duplicate
            self._counters.conflicting += answer.conflicting
            self._counters.rejected += len(answer.rejected)
            self._in_flight = frozenset()
            self._forget(known)
            self._unsaved += len(known)
            if self._unsaved >= self.settings.save_every:
                self._save()
        for rejection in answer.rejected:
            _LOG.warning("the service will never take a record: %s", rejection.reason)

    def status(self) -> SpoolStatus:
        """Figures for people and monitors."""
        with self._mutex:
            writing = self._writer[0].bytes_written if self._writer is not None else 0
            return SpoolStatus(
                waiting=len(self._entries),
                in_ram=len(self._in_ram),
                segments=len(self._segments),
                unreadable=self._unreadable,
                bytes_on_disk=self._bytes_on_disk(),
                disk_error=self._disk_error,
                counters=replace(self._counters, bytes_written=self._counters.bytes_written + writing),
            )

    def close(self) -> None:
        """Write what waits in RAM and what was acknowledged, and let go of the folder."""
        with self._mutex:
            if self._lock < 0:
                return
            self._commit()
            self._retire()
            self._save()
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- reading what an earlier process left -------------------------------------------------------------------

    def _recover(self) -> None:
        state = load_state(self.folder)
        self._counters = state.counters
        damaged = headless = 0
        for number, path in segment_paths(self.folder):
            try:
                found = SegmentFile(path)
            except OSError as error:
                self._unreadable += 1
                _LOG.error("%s: cannot be read now, and is kept: %s", path.name, error.strerror)
                continue
            if found.header is None:
                headless += found.count
                with contextlib.suppress(OSError):
                    path.unlink()
                continue
            known, done = state.take(found.header.segment_id)
            lost = (found.damaged | set(range(found.count, known))) - done
            damaged += len(lost)
            segment = Segment(number, path, found.header, max(found.count, known), found.trim(), done=done | lost)
            self._segments[number] = segment
            for place in range(segment.count):
                if place not in segment.done:
                    self._entries[next(self._tickets)] = Entry(segment, place)
        if not self._unreadable:
            damaged += state.waiting + max(0, headless - state.written)
        if damaged:
            _LOG.error("%d records in the spool were damaged and are lost", damaged)
            self._counters.damaged += damaged
        self._counters.appended = self._counters.settled + len(self._entries)
        self._delete_finished(list(self._segments.values()), changed=damaged > 0)
        self._bound()

    # -- writing ------------------------------------------------------------------------------------------------

    def _commit(self) -> None:
        """Move what waits in RAM to the disk, as far as the disk takes it."""
        if os.getpid() != self._pid:
            raise SpoolError(f"{self.folder}: opened before a fork; two processes must never share a segment's key")
        try:
            while self._in_ram:
                writer, segment = self._open_writer()
                chosen = list(itertools.islice(self._in_ram.items(), writer.room))
                assert segment.sealer is not None
                frames = [segment.sealer.seal(entry.record) for _, entry in chosen if entry.record is not None]
                place = writer.count
                writer.append(frames)
                segment.count, segment.size = writer.count, writer.size
                for offset, (ticket, entry) in enumerate(chosen):
                    entry.segment, entry.place, entry.record = segment, place + offset, None
                    del self._in_ram[ticket]
            self._note_disk("")
        except OSError as error:
            # Part of it may have reached the disk under a nonce: that key is never used again.
            self._retire()
            self._note_disk(error.strerror or str(error))

    def _open_writer(self) -> tuple[SegmentWriter, Segment]:
        if self._writer is not None and self._writer[0].room == 0:
            self._retire()
        if self._writer is None:
            number = max([number for number, _ in segment_paths(self.folder)] + list(self._segments), default=0) + 1
            sealer = SegmentSealer(self.sensor_id, self._seal_public_key)
            path = segment_path(self.folder, number)
            writer = SegmentWriter(path, sealer.header, self._ops)
            segment = Segment(number, path, sealer.header, 0, writer.size, sealer)
            self._segments[number] = segment
            self._writer = (writer, segment)
        return self._writer

    def _retire(self) -> None:
        """Stop writing to the present segment."""
        if self._writer is None:
            return
        writer, segment = self._writer
        self._writer = None
        writer.close()
        self._counters.bytes_written += writer.bytes_written
        self._delete_finished([segment])

    def _note_disk(self, problem: str) -> None:
        if problem and not self._disk_error:
            _LOG.error("the spool's disk refuses (%s); records wait in RAM", problem)
        if self._disk_error and not problem:
            _LOG.warning("the spool's disk takes records again")
        self._disk_error = problem

    # -- bounds -------------------------------------------------------------------------------------------------

    def _bound(self) -> None:
        """Drop the oldest beyond the bounds, and count them."""
        over = len(self._entries) - self.settings.max_records
        if over > 0:
            self._drop([ticket for ticket in self._entries if ticket not in self._in_flight][:over])
        over = len(self._in_ram) - max(self.settings.max_in_ram, self.settings.commit_records)
        if over > 0:
            self._drop([ticket for ticket in self._in_ram if ticket not in self._in_flight][:over])
        while len(self._segments) > 1 and self._bytes_on_disk() > self.settings.max_bytes:
            oldest = self._segments[min(self._segments)]
            self._drop([ticket for ticket, entry in self._entries.items() if entry.segment is oldest])
            if oldest.number in self._segments:
                break

    def _drop(self, tickets: list[int]) -> None:
        if not tickets:
            return
        if self._counters.dropped == 0 or len(tickets) > 1:
            _LOG.error("the spool is full: %d of the oldest records are lost", len(tickets))
        self._counters.dropped += len(tickets)
        self._forget(tickets)
        self._unsaved += len(tickets)
        if self._unsaved >= self.settings.save_every:
            self._save()

    def _forget(self, tickets: Sequence[int]) -> None:
        touched: dict[int, Segment] = {}
        for ticket in tickets:
            entry = self._entries.pop(ticket)
            self._in_ram.pop(ticket, None)
            if entry.segment is not None:
                entry.segment.done.add(entry.place)
                touched[entry.segment.number] = entry.segment
        self._delete_finished(list(touched.values()))

    def _delete_finished(self, segments: list[Segment], *, changed: bool = False) -> None:
        """Delete the segments of which nothing waits. What was counted of them is written down before."""
        active = self._writer[1] if self._writer is not None else None
        finished = [segment for segment in segments if segment.finished and segment is not active]
        if finished or changed:
            self._save()
        for segment in finished:
            del self._segments[segment.number]
            try:
                segment.path.unlink(missing_ok=True)
            except OSError as error:
                _LOG.warning("%s: cannot be deleted: %s", segment.path.name, error.strerror)

    def _bytes_on_disk(self) -> int:
        return sum(-(-segment.size // _BLOCK) * _BLOCK for segment in self._segments.values())

    def _save(self) -> None:
        """Write down what is acknowledged. A disk that refuses costs nothing but duplicates later."""
        segments = {each.header.segment_id: (each.count, each.done) for each in self._segments.values() if each.count}
        try:
            self._counters.bytes_written += save_state(self.folder, SpoolState(self._counters, segments))
        except OSError as error:
            _LOG.warning("the spool's state cannot be written: %s", error.strerror)
        else:
            self._unsaved = 0

    def _damaged(self, tickets: Sequence[int]) -> None:
        """Count and forget what the disk has spoiled since it was written."""
        if tickets:
            _LOG.error("%d records in the spool were damaged and are lost", len(tickets))
            self._counters.damaged += len(tickets)
            self._forget(tickets)
            self._save()


def _lock(folder: Path) -> int:
    """Take the folder for this process; the lock ends with the process, however it ends, and needs no space."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise SpoolBusyError(f"{folder}: another process has the spool open; it sends by itself") from None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
