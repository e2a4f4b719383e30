"""Frames are overwritten when they have been counted, and nothing that could save one is switched on."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from counter._telemetry import VARIABLE as NO_TELEMETRY
from counter.privacy.report import LockReport
from counter.types import Frame

DEBUG_SWITCHES = (
    "LD_PRELOAD",
    "LD_AUDIT",
    "PYTHONINSPECT",
    "PYTHONBREAKPOINT",
    "GST_DEBUG_DUMP_DOT_DIR",
    "OPENCV_FFMPEG_DEBUG",
    "OPENCV_TRACE",
    "OPENCV_DUMP_CONFIG",
    "ORT_DEBUG_NODE_IO_DUMP_INPUT_DATA",
    "ORT_DEBUG_NODE_IO_DUMP_OUTPUT_DATA",
)
"""Variables of the environment that make a library of ours record or load what is not ours."""
_MOST_IN_WORK = 16  # one a camera


class _Ledger:
    """Frames so far, of all cameras' threads."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self.used = self.wiped = 0

    def take(self) -> None:
        with self._mutex:
            self.used += 1

    def done(self) -> None:
        with self._mutex:
            self.wiped += 1


_ledger = _Ledger()


@contextmanager
def in_use(frame: Frame) -> Iterator[Frame]:
    """The frame for the time of the block; afterwards its pixels are zero, whatever happened.

    ``with in_use(timed.frame): counter.update(timed.frame, timed.t)``. Costs one pass over the buffer (a 1080p
    picture: under a millisecond), which the source writes over anyway.
    """
    _ledger.take()
    try:
        yield frame
    finally:
        frame.fill(0)
        _ledger.done()


def frames_report() -> LockReport:
    """How many frames were taken in and overwritten since the start; one may be in work."""
    used, wiped = _ledger.used, _ledger.wiped
    holds = used - wiped <= _MOST_IN_WORK
    return LockReport("frames", holds, f"each is overwritten when it has been counted ({wiped:,} of {used:,} so far)")


def debug_report() -> LockReport:
    """Whether the environment holds a switch that records or injects; the sensor has none of its own."""
    found = [name for name in DEBUG_SWITCHES if os.environ.get(name) and os.environ[name] != "0"]
    if found:
        return LockReport("debug switches", False, f"set in the environment: {', '.join(found)}; take them away")
    return LockReport("debug switches", True, "the sensor has no switch that saves a frame, and no library's is set")


def telemetry_report() -> LockReport:
    """Whether ONNX Runtime was told to report nothing before it was loaded."""
    if os.environ.get(NO_TELEMETRY, "") not in ("1", "true"):
        return LockReport("telemetry", False, f"{NO_TELEMETRY} is not 1: ONNX Runtime may report to its maker")
    return LockReport("telemetry", True, "ONNX Runtime's reports to its maker are off, and nothing else has any")
