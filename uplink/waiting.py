"""Which of the waiting records go into a batch, and the batch made of them. Reads the disk, changes nothing."""

from __future__ import annotations

import itertools
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

from uplink.codec import JSON_TYPE, encode_batch
from uplink.messages import CountRecord
from uplink.sealing import SEALED_TYPE, SealError, SegmentHeader, SegmentSealer, encode_sealed_batch
from uplink.segment import read_frames

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SpoolBatch:
    """Records on their way: what to post, and what to tell `uplink.spool.Spool.acknowledge` of."""

    tickets: tuple[int, ...]
    body: bytes
    content_type: str
    content_encoding: str

    def __len__(self) -> int:
        return len(self.tickets)


@dataclass(slots=True)
class Segment:
    """A segment on the disk and what is done of it. Without a sealer it was written by an earlier process."""

    number: int
    path: Path
    header: SegmentHeader
    count: int
    size: int  # bytes on the disk
    sealer: SegmentSealer | None = None
    done: set[int] = field(default_factory=set)

    @property
    def finished(self) -> bool:
        """Nothing in it waits."""
        return len(self.done) == self.count


@dataclass(slots=True)
class Entry:
    """Where a waiting record is: at a place in a segment, or in RAM."""

    segment: Segment | None = None
    place: int = 0
    record: CountRecord | None = None


@dataclass(frozen=True, slots=True)
class Built:
    """A batch, or None; tickets of records that the disk has damaged; numbers of segments that it cannot read now."""

    batch: SpoolBatch | None
    damaged: Sequence[int]
    unreadable: Set[int]


def choose(
    entries: OrderedDict[int, Entry], limit: int, *, newest: bool, skip: Set[int], unreadable: Set[int]
) -> list[int]:
    """Up to `limit` tickets from one end, all readable here or all sealed, in the order of their age."""
    tickets: list[int] = []
    kind: bool | None = None
    for ticket, entry in reversed(entries.items()) if newest else iter(entries.items()):
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


def build(entries: Mapping[int, Entry], tickets: Sequence[int]) -> Built:
    """The batch of these tickets, all of one kind, less what the disk does not give back."""
    records: dict[int, CountRecord] = {}
    sections: list[tuple[SegmentHeader, list[bytes]]] = []
    sealed: list[int] = []
    damaged: list[int] = []
    unreadable: set[int] = set()
    for number, run in itertools.groupby(tickets, lambda ticket: getattr(entries[ticket].segment, "number", 0)):
        group = list(run)
        segment = entries[group[0]].segment
        if segment is None:
            waiting = ((ticket, entries[ticket].record) for ticket in group)
            records.update((ticket, record) for ticket, record in waiting if record is not None)
            continue
        frames = _read(segment, [entries[ticket].place for ticket in group])
        if frames is None:
            unreadable.add(number)
            continue
        whole = {ticket: frame for ticket, frame in zip(group, frames, strict=True) if frame is not None}
        damaged += [ticket for ticket in group if ticket not in whole]
        if segment.sealer is None:
            if whole:
                sections.append((segment.header, list(whole.values())))
                sealed += whole
            continue
        for ticket, frame in whole.items():
            try:
                records[ticket] = segment.sealer.open(frame)
            except SealError:
                damaged.append(ticket)
    batch = None
    if records:
        batch = SpoolBatch(tuple(records), encode_batch(list(records.values())), JSON_TYPE, "gzip")
    elif sealed:
        batch = SpoolBatch(tuple(sealed), encode_sealed_batch(sections), SEALED_TYPE, "")
    return Built(batch, damaged, unreadable)


def _read(segment: Segment, places: list[int]) -> Sequence[bytes | None] | None:
    """Frames, None for a damaged one; None for all when the disk does not give them now: they are kept."""
    try:
        return read_frames(segment.path, places)
    except FileNotFoundError:
        return [None] * len(places)
    except OSError as error:
        _LOG.error("%s: cannot be read now, and is kept: %s", segment.path.name, error.strerror)
        return None
