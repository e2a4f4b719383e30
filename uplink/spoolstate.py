"""What a spool says of itself, and the small file in which it remembers what the service has answered for.

The file is a convenience, not a promise: without it, or with a damaged one, everything that is still on the disk is
sent again, and the service knows it by its key.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from uplink.keyfiles import write_atomic
from uplink.segment import MAX_FRAMES, SegmentFile, segment_paths

STATE_FILE = "state.json"
DAYS_KEPT = 7
_VERSION = 1
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SpoolSettings:
    """Bounds and habits.

    Attributes:
        max_records: most records that wait; the default is seven days of one-minute records.
        max_bytes: most bytes on the disk.
        max_in_ram: most records that wait in RAM while the disk refuses.
        commit_records: records per write. 1 makes each durable at once; more wear the flash less, and a power cut
            loses up to that many less one.
        save_every: acknowledged records after which their being acknowledged is written down. What a crash forgets of
            this is sent again and known by the service as duplicate.
    """

    max_records: int = DAYS_KEPT * 24 * 60
    max_bytes: int = 16 << 20
    max_in_ram: int = 2_880
    commit_records: int = 1
    save_every: int = 256

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 1:
                raise ValueError(f"{name}: {value}; expected 1 or more")


@dataclass(slots=True)
class SpoolCounters:
    """What became of the records, over all runs: ``appended`` is what waits and all others together (but the bytes).

    After a crash some of the delivered are sent again; they count once, as ``duplicate``.

    Attributes:
        appended: taken from the counter.
        delivered: new to the service.
        duplicate: the service had them already.
        conflicting: the service had another value under the same key, and keeps both apart.
        rejected: the service will never take them.
        dropped: lost because the spool was full.
        damaged: lost because the disk gave back something else than was written.
        bytes_written: to the disk, by the spool.
    """

    appended: int = 0
    delivered: int = 0
    duplicate: int = 0
    conflicting: int = 0
    rejected: int = 0
    dropped: int = 0
    damaged: int = 0
    bytes_written: int = 0

    @property
    def settled(self) -> int:
        """Records that wait no more."""
        return self.delivered + self.duplicate + self.conflicting + self.lost

    @property
    def lost(self) -> int:
        """Records that were counted and will never arrive."""
        return self.rejected + self.dropped + self.damaged


@dataclass(frozen=True, slots=True)
class SpoolStatus:
    """What waits and what became of the rest.

    Attributes:
        unreadable: segments that the disk does not give back at present; they are kept and tried again at every start.
        disk_error: why the disk refuses records now; empty when it takes them.
    """

    waiting: int
    in_ram: int
    segments: int
    unreadable: int
    bytes_on_disk: int
    disk_error: str
    counters: SpoolCounters


@dataclass(slots=True)
class SpoolState:
    """Counters, and per segment (by its id) how many frames were written and which of them are done."""

    counters: SpoolCounters = field(default_factory=SpoolCounters)
    segments: dict[bytes, tuple[int, set[int]]] = field(default_factory=dict)

    def take(self, segment_id: bytes) -> tuple[int, set[int]]:
        """Frames known to be written, and those of them that are done; the segment is found and taken out."""
        return self.segments.pop(segment_id, (0, set()))

    @property
    def written(self) -> int:
        """Frames in the segments that are not taken out: their files are gone, or no longer say which they are."""
        return sum(count for count, _ in self.segments.values())

    @property
    def waiting(self) -> int:
        """Those of them that were not done."""
        return sum(count - len(done) for count, done in self.segments.values())


def save_state(folder: Path, state: SpoolState) -> int:
    """Write the state whole or not at all; returns the bytes written. Raises OSError."""
    body = json.dumps(
        {
            "version": _VERSION,
            "counters": asdict(state.counters),
            "segments": {
                identity.hex(): {"count": count, "done": _bits(done)}
                for identity, (count, done) in state.segments.items()
            },
        },
        separators=(",", ":"),
    ).encode()
    data = body + b"\n%08x\n" % zlib.crc32(body)
    write_atomic(folder / STATE_FILE, data)
    return len(data)


def load_state(folder: Path) -> SpoolState:
    """Read the state; an absent or damaged one is an empty one."""
    path = folder / STATE_FILE
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return SpoolState()
    except OSError as error:
        _LOG.warning("%s: cannot be read (%s); what was acknowledged is sent again", path.name, error.strerror)
        return SpoolState()
    try:
        body, checksum, _ = data.split(b"\n")
        if int(checksum, 16) != zlib.crc32(body):
            raise ValueError
        return _parse(json.loads(body))
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error, RecursionError):
        _LOG.warning("%s: damaged; what was acknowledged is sent again", path.name)
        return SpoolState()


def read_status(folder: Path) -> SpoolStatus:
    """Figures of a spool that another process may have open. Changes nothing; figures may be some records old."""
    state = load_state(folder)
    waiting = size = count = unreadable = 0
    for _, path in segment_paths(folder):
        try:
            found = SegmentFile(path)
            size += path.stat().st_size
        except FileNotFoundError:
            continue  # delivered and deleted while we looked
        except OSError:
            unreadable += 1
            continue
        count += 1
        if found.header is not None:
            done = state.take(found.header.segment_id)[1] | found.damaged
            waiting += found.count - len([place for place in done if place < found.count])
    return SpoolStatus(waiting, 0, count, unreadable, size, "", state.counters)


def _parse(content: Any) -> SpoolState:
    if content["version"] != _VERSION:
        raise ValueError
    counters = SpoolCounters()
    for each in fields(SpoolCounters):
        setattr(counters, each.name, _natural(content["counters"].get(each.name, 0)))
    segments = {}
    for identity, entry in content["segments"].items():
        count = _natural(entry["count"])
        if count > MAX_FRAMES:
            raise ValueError
        done = {place for place in _places(entry["done"]) if place < count}
        segments[bytes.fromhex(identity)] = (count, done)
    return SpoolState(counters, segments)


def _natural(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError
    return value


def _bits(places: Iterable[int]) -> str:
    bits = 0
    for place in places:
        bits |= 1 << place
    return base64.b64encode(bits.to_bytes((bits.bit_length() + 7) // 8, "little")).decode()


def _places(text: str) -> list[int]:
    bits = int.from_bytes(base64.b64decode(text, validate=True), "little")
    return [place for place in range(bits.bit_length()) if bits >> place & 1]
