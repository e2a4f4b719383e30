"""What is measured: Headroom itself, and a peer made of ``trackers`` and ``supervision`` on the same model's boxes."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from counter.bench.dataset import Clip
from counter.bench.measures import Event, Floats, Ints
from counter.bench.tracking import FrameTracks
from counter.detector import open_model, resolve
from counter.pipeline import PeopleCounter
from counter.sources import TimedFrame, open_source
from counter.types import Direction

TRACKERS = ("headroom", "headroom-noskip", "bytetrack", "bytetrack-defaults")
OnFrame = Callable[[], None]


class PeerError(RuntimeError):
    """A system that cannot be run; the message says what to do."""


@dataclass(slots=True)
class Run:
    """What a system made of a clip.

    Attributes:
        times: seconds of each frame ``[F]``.
        present: people per frame ``[F]``.
        tracks: visible tracks per frame.
        stage_ms: milliseconds per stage and frame.
        seconds: wall clock of the whole run, decoding included.
        peak_mb: most memory that the process held during the run, in MiB; None where the system does not tell.
        inferred: share of the frames on which the network ran.
    """

    system: str
    model: str
    times: Floats
    present: Ints
    events: list[Event]
    tracks: list[FrameTracks]
    stage_ms: dict[str, list[float]]
    seconds: float
    peak_mb: float | None = None
    inferred: float = 1.0


class System(Protocol):
    """Something that counts people in a clip."""

    @property
    def name(self) -> str: ...
    def run(self, clip: Clip, on_frame: OnFrame) -> Run: ...


@dataclass(frozen=True, slots=True)
class Headroom:
    """The people counter as it ships."""

    model: str | None = None
    skip_still: bool = True
    threads: int | None = None

    @property
    def name(self) -> str:
        return f"{self.model or 'default'}+headroom{'' if self.skip_still else '-noskip'}"

    def run(self, clip: Clip, on_frame: OnFrame) -> Run:
        counter = PeopleCounter(
            self.model, clip.lines, clip.zones, clip.mode, skip_still=self.skip_still, threads=self.threads
        )
        log = _Log()
        with memory_peak() as peak:
            begin = time.perf_counter()
            for timed in frames_of(clip, log.stages):
                result = counter.update(timed.frame, timed.t)
                log.times.append(timed.t)
                log.present.append(result.presence[clip.zone])
                log.events += [Event(c.line, c.direction, c.t) for c in result.crossings]
                log.tracks.append(_visible([(t.id, t.box) for t in result.tracks if not t.hidden]))
                log.inferred += result.inferred
                for stage, ms in result.stage_ms.items():
                    log.stages.setdefault(stage, []).append(ms)
                on_frame()
            seconds = time.perf_counter() - begin
        counter.close()
        return log.finish(self.name, counter.model, seconds, peak())


@dataclass(frozen=True, slots=True)
class ByteTrack:
    """``trackers``' ByteTrack and ``supervision``'s LineZone, in the Python of an environment of their own.

    ``fitted``: ByteTrack's thresholds are set to the model's own and LineZone watches the centre of the box, as
    Headroom does; otherwise both are used as they come.
    """

    python: Path
    model: str | None = None
    fitted: bool = True
    threads: int | None = None

    @property
    def name(self) -> str:
        return f"{self.model or 'default'}+bytetrack{'' if self.fitted else '-defaults'}"

    def run(self, clip: Clip, on_frame: OnFrame) -> Run:
        if clip.zone:
            raise PeerError(f"clip {clip.name!r}: {self.name} knows no zones")
        detector, chosen = open_model(resolve(self.model, clip.mode), self.threads)
        log = _Log()
        detections = []
        size = (1, 1)
        with memory_peak() as peak:
            begin = time.perf_counter()
            for timed in frames_of(clip, log.stages):
                start = time.perf_counter()
                found = detector.detect(timed.frame)
                log.stages.setdefault("detect", []).append((time.perf_counter() - start) * 1e3)
                detections.append(np.column_stack([found.boxes, found.scores]).tolist())
                log.times.append(timed.t)
                size = (timed.frame.shape[1], timed.frame.shape[0])
                on_frame()
            seconds = time.perf_counter() - begin
        lines = [{"name": x.name, "start": x.start, "end": x.end} for x in clip.lines]
        rate = clip.fps or (len(log.times) - 1) / max(log.times[-1] - log.times[0], 1e-6)
        answer = _ask(
            self.python,
            {"width": size[0], "height": size[1], "fps": rate, "fitted": self.fitted, "threshold": chosen.threshold,
             "lines": lines, "detections": detections},
        )  # fmt: skip
        log.tracks = [_visible([(row[0], tuple(row[1:])) for row in rows]) for rows in answer["frames"]]
        log.present = [len(rows) for rows in answer["frames"]]
        log.events = [Event(name, Direction(way), log.times[frame]) for name, way, frame in answer["events"]]
        log.stages["track"] = answer["ms"]
        log.inferred = len(log.times)
        return log.finish(self.name, chosen.name, seconds + sum(answer["ms"]) / 1e3, peak())


def parse_system(text: str, python: Path | None, threads: int | None) -> System:
    """``MODEL``, ``MODEL+TRACKER`` or ``+TRACKER`` as a system.

    Raises:
        PeerError: the tracker is unknown, or its environment is not there.
    """
    model, _, tracker = text.partition("+")
    name = model or None
    tracker = tracker or "headroom"
    if tracker not in TRACKERS:
        raise PeerError(f"tracker {tracker!r} is not known; known: {', '.join(TRACKERS)}")
    if tracker.startswith("headroom"):
        return Headroom(name, tracker == "headroom", threads)
    if python is None or not python.is_file():
        raise PeerError(
            f"{tracker} needs an environment with the packages trackers and supervision "
            f"({python or '.venv-peers/bin/python'} is not there): run make bench, or name its Python with --peers"
        )
    return ByteTrack(python, name, tracker == "bytetrack", threads)


def frames_of(clip: Clip, stages: dict[str, list[float]]) -> Iterator[TimedFrame]:
    """The frames of a clip; what decoding them takes goes into ``stages["decode"]``."""
    source = open_source(clip.source, fps=clip.fps if Path(clip.source).is_dir() else None, field="source")
    try:
        iterator = iter(source)
        while True:
            begin = time.perf_counter()
            timed = next(iterator, None)
            if timed is None:
                return
            stages.setdefault("decode", []).append((time.perf_counter() - begin) * 1e3)
            yield timed
    finally:
        source.close()


@contextlib.contextmanager
def memory_peak() -> Iterator[Callable[[], float | None]]:
    """Watch the most memory that this process holds in the block; the yielded function gives it in MiB.

    Linux lets a process reset its own high-water mark (``/proc/self/clear_refs``, see proc(5)); elsewhere it is None.
    """
    reset = True
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        reset = False

    def peak() -> float | None:
        if not reset:
            return None
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        return None

    yield peak


@dataclass(slots=True)
class _Log:
    times: list[float] = field(default_factory=list)
    present: list[int] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    tracks: list[FrameTracks] = field(default_factory=list)
    stages: dict[str, list[float]] = field(default_factory=dict)
    inferred: int = 0

    def finish(self, system: str, model: str, seconds: float, peak: float | None) -> Run:
        share = self.inferred / len(self.times) if self.times else 0.0
        return Run(
            system, model, np.array(self.times, np.float64), np.array(self.present, np.int64), self.events, self.tracks,
            self.stages, seconds, peak, share,
        )  # fmt: skip


def _visible(rows: list[tuple[int, tuple[float, ...]]]) -> FrameTracks:
    return (
        np.array([k for k, _ in rows], np.int64),
        np.array([box for _, box in rows], np.float64).reshape(-1, 4),
    )


def _ask(python: Path, job: dict[str, Any]) -> dict[str, Any]:
    """Run the worker in the peers' environment."""
    worker = Path(__file__).with_name("peer_worker.py")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    # -P: the folder of the worker, with modules of ours, stays out of the way of theirs.
    done = subprocess.run(
        [str(python), "-P", str(worker)], input=json.dumps(job), capture_output=True, text=True, check=False,
        env=environment,
    )  # fmt: skip
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise PeerError(f"the peers' environment {python} failed: {last}; create it anew: make bench")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
