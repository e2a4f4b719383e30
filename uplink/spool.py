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

import fcntl
import itertools
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from uplink.codec import JSON_TYPE, encode_batch
from uplink.keyfiles import make_private_folder
from uplink.messages import MAX_RECORDS_PER_BATCH, BatchAnswer, CountRecord
from uplink.sealing import SEALED_TYPE, SealError, SegmentHeader, SegmentSealer, encode_sealed_batch
from uplink.segment import (
    FileOps,
    SegmentFile,
    SegmentWriter,
    SystemFileOps,
    read_frames,
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


@dataclass(frozen=True, slots=True)
class SpoolBatch:
    """Records on their way: what to post, and what to tell `Spool.acknowledge` of."""

    tickets: tuple[int, ...]
    body: bytes
    content_type: str
    content_encoding: str

    def __len__(self) -> int:
        return len(self.tickets)


@dataclass(slots=True)
class _Segment:
    number: int
    path: Path
    header: SegmentHeader
    count: int
    size: int  # bytes on the disk
    sealer: SegmentSealer | None = None  # None: written by an earlier process, unreadable here
    done: set[int] = field(default_factory=set)

    @property
    def finished(self) -> bool:
        return len(self.done) == self.count


@dataclass(slots=True)
class _Entry:
    """Where a waiting record is: at a place in a segment, or in RAM."""

    segment: _Segment | None = None
    place: int = 0
    record: CountRecord | None = None


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
        self._entries: OrderedDict[int, _Entry] = OrderedDict()  # the oldest first
        self._in_ram: OrderedDict[int, _Entry] = OrderedDict()  # those of them that no disk holds yet
        self._segments: dict[int, _Segment] = {}
        self._writer: tuple[SegmentWriter, _Segment] | None = None
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
            ValueError: a record of another sensor.
        """
        taken = list(records)
        for record in taken:
            if record.sensor_id != self.sensor_id:
                raise ValueError(f"sensor_id: {record.sensor_id!r} in the spool of {self.sensor_id!r}")
        with self._mutex:
            for record in taken:
                ticket = next(self._tickets)
                entry = _Entry(record=record)
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
            while tickets := self._choose(limit, newest, skip, unreadable):
                batch = self._build(tickets, unreadable)
                if batch is not None:
                    self._in_flight = frozenset(batch.tickets)
                    return batch
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
                path.unlink()
                continue
            known, done = state.take(found.header.segment_id)
            lost = (found.damaged | set(range(found.count, known))) - done
            damaged += len(lost)
            segment = _Segment(number, path, found.header, max(found.count, known), found.trim(), done=done | lost)
            self._segments[number] = segment
            for place in range(segment.count):
                if place not in segment.done:
                    self._entries[next(self._tickets)] = _Entry(segment, place)
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

    def _open_writer(self) -> tuple[SegmentWriter, _Segment]:
        if self._writer is not None and self._writer[0].room == 0:
            self._retire()
        if self._writer is None:
            number = max([number for number, _ in segment_paths(self.folder)] + list(self._segments), default=0) + 1
            sealer = SegmentSealer(self.sensor_id, self._seal_public_key)
            path = segment_path(self.folder, number)
            writer = SegmentWriter(path, sealer.header, self._ops)
            segment = _Segment(number, path, sealer.header, 0, writer.size, sealer)
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

    def _forget(self, tickets: list[int]) -> None:
        touched: dict[int, _Segment] = {}
        for ticket in tickets:
            entry = self._entries.pop(ticket)
            self._in_ram.pop(ticket, None)
            if entry.segment is not None:
                entry.segment.done.add(entry.place)
                touched[entry.segment.number] = entry.segment
        self._delete_finished(list(touched.values()))

    def _delete_finished(self, segments: list[_Segment], *, changed: bool = False) -> None:
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

    # -- batches ------------------------------------------------------------------------------------------------

    def _choose(self, limit: int, newest: bool, skip: Set[int], unreadable: set[int]) -> list[int]:
        """Tickets of one kind, in the order of their age."""
        order = reversed(self._entries.items()) if newest else iter(self._entries.items())
        tickets: list[int] = []
        kind: bool | None = None
        for ticket, entry in order:
            if ticket in skip or (entry.segment is not None and entry.segment.number in unreadable):
                continue
            readable = entry.segment is None or entry.segment.sealer is not None
            if kind is not None and readable != kind:
                break
            kind = readable
            tickets.append(ticket)
            if len(tickets) >= limit:
                break
        return sorted(tickets)

    def _build(self, tickets: list[int], unreadable: set[int]) -> SpoolBatch | None:
        """The batch of these tickets, less what the disk does not give back; None when that is all of them."""
        records: dict[int, CountRecord] = {}
        sections: list[tuple[SegmentHeader, list[bytes]]] = []
        sealed: list[int] = []
        for _, run in itertools.groupby(tickets, lambda ticket: getattr(self._entries[ticket].segment, "number", 0)):
            group = list(run)
            segment = self._entries[group[0]].segment
            if segment is None:
                waiting = ((ticket, self._entries[ticket].record) for ticket in group)
                records.update((ticket, record) for ticket, record in waiting if record is not None)
                continue
            frames = self._frames(segment, group, unreadable)
            if segment.sealer is not None:
                records.update(self._opened(segment.sealer, frames))
            elif frames:
                sections.append((segment.header, list(frames.values())))
                sealed += frames
        if records:
            return SpoolBatch(tuple(records), encode_batch(list(records.values())), JSON_TYPE, "gzip")
        if sealed:
            return SpoolBatch(tuple(sealed), encode_sealed_batch(sections), SEALED_TYPE, "")
        return None

    def _frames(self, segment: _Segment, tickets: list[int], unreadable: set[int]) -> dict[int, bytes]:
        """Frames by ticket. What the disk has damaged is counted and forgotten; what it cannot read now is kept."""
        places = [self._entries[ticket].place for ticket in tickets]
        try:
            frames = read_frames(segment.path, places)
        except FileNotFoundError:
            frames = [None] * len(tickets)
        except OSError as error:
            _LOG.error("%s: cannot be read now, and is kept: %s", segment.path.name, error.strerror)
            unreadable.add(segment.number)
            return {}
        self._damaged([ticket for ticket, frame in zip(tickets, frames, strict=True) if frame is None])
        return {ticket: frame for ticket, frame in zip(tickets, frames, strict=True) if frame is not None}

    def _opened(self, sealer: SegmentSealer, frames: dict[int, bytes]) -> dict[int, CountRecord]:
        records: dict[int, CountRecord] = {}
        forged: list[int] = []
        for ticket, frame in frames.items():
            try:
                records[ticket] = sealer.open(frame)
            except SealError:
                forged.append(ticket)
        self._damaged(forged)
        return records

    def _damaged(self, tickets: list[int]) -> None:
        if tickets:
            _LOG.error("%d records in the spool were damaged and are lost", len(tickets))
            self._counters.damaged += len(tickets)
            self._forget(tickets)
            self._save()


def _lock(folder: Path) -> int:
    """Take the folder for this process; the lock ends with the process, however it ends."""
    descriptor = os.open(folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise SpoolBusyError(f"{folder}: another process has the spool open; it sends by itself") from None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
