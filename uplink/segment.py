"""Segments as files: a header twice, then frames of 64 bytes at fixed places.

Fixed places and sizes make damage local: one damaged byte costs at most the record it hit. The file grows in extents
of zeros, so that almost every write overwrites blocks that exist: then ``fdatasync`` writes the data and no metadata,
and the disk is full when an extent is asked for, never between two frames of one. All zeros means: not written.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Protocol

from uplink.keyfiles import sync_folder
from uplink.sealing import FRAME_BYTES, HEADER_BYTES, SealError, SegmentHeader, frame_is_whole

FIRST_FRAME = 2 * HEADER_BYTES
EXTENT_BYTES = 16 * 1024
MAX_FRAMES = (256 * 1024 - FIRST_FRAME) // FRAME_BYTES
_SUFFIX = ".segment"
_PAGE = 4096


class FileOps(Protocol):
    """The few calls that change files, so that tests can make them fail half-way or cut the power."""

    def create(self, path: Path) -> int:
        """A new file of mode 0600; it must not exist. Returns a descriptor."""

    def pwrite(self, descriptor: int, data: bytes, offset: int) -> int:
        """Write at a place; may write less."""

    def sync(self, descriptor: int) -> None:
        """Make what was written durable."""

    def sync_folder(self, folder: Path) -> None:
        """Make a new file's name durable."""


class SystemFileOps:
    """The system's calls."""

    def create(self, path: Path) -> int:
        return os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def pwrite(self, descriptor: int, data: bytes, offset: int) -> int:
        return os.pwrite(descriptor, data, offset)

    def sync(self, descriptor: int) -> None:
        os.fdatasync(descriptor)

    def sync_folder(self, folder: Path) -> None:
        sync_folder(folder)


class SegmentWriter:
    """Writes the frames of one segment. After any OSError it is finished: make a new one, with a new key."""

    def __init__(self, path: Path, header: SegmentHeader, ops: FileOps) -> None:
        """Create the file with its header and first extent; they are durable when the first `append` returns.

        Raises:
            OSError: disk full or failing; nothing of the file is left.
        """
        self._ops = ops
        self._descriptor = ops.create(path)
        try:
            encoded = header.encode()
            self._write((encoded + encoded).ljust(EXTENT_BYTES, b"\0"), 0)
            ops.sync_folder(path.parent)  # the name; header and zeros become durable with the first frames
        except BaseException:
            os.close(self._descriptor)
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        self.size = self.bytes_written = EXTENT_BYTES
        self.count = 0

    @property
    def room(self) -> int:
        """Frames that still fit."""
        return MAX_FRAMES - self.count

    def append(self, frames: list[bytes]) -> None:
        """Write the frames that follow and return when they are durable.

        Raises:
            OSError: none of them may be taken as written, and the segment must not be written to again.
        """
        data = b"".join(frames)
        offset = FIRST_FRAME + self.count * FRAME_BYTES
        end = offset + len(data)
        if end > self.size:
            grown = -(-end // EXTENT_BYTES) * EXTENT_BYTES
            data = data.ljust(grown - offset, b"\0")
            self._write(data, offset)
            self.size = grown
        else:
            self._write(data, offset)
        self._ops.sync(self._descriptor)
        self.bytes_written += len(data)
        self.count += len(frames)

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _write(self, data: bytes, offset: int) -> None:
        view = data
        while view:
            # By pages: one long write may be cached as one large unit, which a later 64 bytes would make dirty whole.
            written = self._ops.pwrite(self._descriptor, view[: _PAGE - offset % _PAGE], offset)
            if written <= 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            view, offset = view[written:], offset + written


class SegmentFile:
    """A segment on the disk, as found: its header and which frames are whole, damaged or missing."""

    def __init__(self, path: Path) -> None:
        """Read the whole file, at most 256 KiB.

        Raises:
            OSError: it cannot be read.
        """
        self.path = path
        with path.open("rb") as file:
            data = file.read(FIRST_FRAME + MAX_FRAMES * FRAME_BYTES)
        self.header = _header(data)
        slots = _slots(data)
        self.count = len(slots)
        """Places up to the last one that was written."""
        self.damaged = {number for number, frame in enumerate(slots) if not frame_is_whole(frame, number)}

    def trim(self) -> int:
        """Cut off the unused extent of a segment that nobody writes to any more. Returns the file's size."""
        size = FIRST_FRAME + self.count * FRAME_BYTES
        found = self.path.stat().st_size
        if found > size:
            with contextlib.suppress(OSError):
                os.truncate(self.path, size)
        return min(found, size)


def read_frames(path: Path, numbers: list[int]) -> list[bytes | None]:
    """The frames with these numbers, None for a damaged one. Raises OSError."""
    frames: list[bytes | None] = []
    with path.open("rb", buffering=0) as file:
        data = file.read(FIRST_FRAME + MAX_FRAMES * FRAME_BYTES)
    for number in numbers:
        offset = FIRST_FRAME + number * FRAME_BYTES
        frame = data[offset : offset + FRAME_BYTES]
        frames.append(frame if frame_is_whole(frame, number) else None)
    return frames


def segment_path(folder: Path, number: int) -> Path:
    """Where the segment with this number lies; the lowest number is the oldest."""
    return folder / f"{number:010d}{_SUFFIX}"


def segment_paths(folder: Path) -> list[tuple[int, Path]]:
    """All segments in a folder, the oldest first."""
    return sorted(
        (int(path.stem), path)
        for path in folder.glob(f"*{_SUFFIX}")
        if path.stem.isascii() and path.stem.isdigit() and not path.is_symlink() and path.is_file()
    )


def _header(data: bytes) -> SegmentHeader | None:
    """The first of the two copies that is whole."""
    for place in (0, HEADER_BYTES):
        with contextlib.suppress(SealError):
            return SegmentHeader.decode(data[place : place + HEADER_BYTES])
    return None


def _slots(data: bytes) -> list[bytes]:
    """The frames up to the last that is not blank; a last one that was cut short counts."""
    slots = [data[at : at + FRAME_BYTES] for at in range(FIRST_FRAME, len(data), FRAME_BYTES)]
    while slots and slots[-1].count(0) == len(slots[-1]):
        slots.pop()
    return slots
