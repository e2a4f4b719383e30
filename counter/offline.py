"""Counting a source from its first frame to its last: what ``headroom count`` does, without the command line."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from counter.outputs import RecordSink, record_row
from counter.pipeline import MAX_GAP_SECONDS, PeopleCounter
from counter.preview import Painter, Totals
from counter.preview_writer import PreviewSink
from counter.scene import MaskPainter
from counter.sources import FrameSource, LiveSource, SourceError, TimedFrame
from counter.types import Direction, FrameResult
from uplink.messages import CountRecord


@dataclass(slots=True)
class Summary:
    """What a whole run counted. Presence is weighted with time; it is None where no frame was seen."""

    source: str
    model: str
    mode: str
    frames: int = 0
    inferred: int = 0
    seconds: float = 0.0
    wall_seconds: float = 0.0
    present_final: int | None = None
    present_max: int | None = None
    totals: Totals = field(default_factory=Totals)
    zones: dict[str, int] = field(default_factory=dict)
    records: list[CountRecord] = field(default_factory=list)
    _person_seconds: float = 0.0
    _held: float = 0.0

    @property
    def fps(self) -> float:
        """Frames a second of this run, decoding and preview included."""
        return self.frames / self.wall_seconds if self.wall_seconds > 0 else 0.0

    @property
    def present_mean(self) -> float | None:
        if self._held > 0:
            return self._person_seconds / self._held
        return None if self.present_final is None else float(self.present_final)

    def hold(self, seconds: float) -> None:
        """The number of people now was there for so long."""
        if self.present_final is not None and seconds > 0:
            self._person_seconds += self.present_final * seconds
            self._held += seconds

    def add(self, result: FrameResult, present: int) -> None:
        self.frames += 1
        self.inferred += result.inferred
        self.present_final = self.totals.present = present
        self.present_max = max(self.present_max or 0, present)
        for crossing in result.crossings:
            entered, left = self.totals.per_line.get(crossing.line, (0, 0))
            inwards = crossing.direction is Direction.ENTERED
            self.totals.per_line[crossing.line] = (entered + inwards, left + (not inwards))
            self.totals.entered += inwards
            self.totals.left += not inwards
        self.zones = {name: count for name, count in result.presence.items() if name}

    def as_json(self) -> dict[str, Any]:
        """Plain data, in the words of the design."""
        mean = self.present_mean
        return {
            "source": self.source,
            "model": self.model,
            "mode": self.mode,
            "frames": self.frames,
            "inferred": self.inferred,
            "seconds": round(self.seconds, 3),
            "entered": self.totals.entered,
            "left": self.totals.left,
            "present_final": self.present_final,
            "present_max": self.present_max,
            "present_mean": None if mean is None else round(mean, 3),
            "lines": {name: {"entered": e, "left": x} for name, (e, x) in self.totals.per_line.items()},
            "zones": self.zones,
            "records": [record_row(r) | {"health": sorted(r.health)} for r in self.records],
            "fps": round(self.fps, 1),
        }


@dataclass(frozen=True, slots=True)
class Viewer:
    """Where painted frames go."""

    painter: Painter
    sinks: list[PreviewSink]

    def show(self, item: TimedFrame, result: FrameResult, totals: Totals) -> None:
        picture = self.painter.paint(item.frame, result, totals)
        for sink in self.sinks:
            sink.write(picture, item.t)


def count_source(
    source: FrameSource,
    counter: PeopleCounter,
    *,
    sink: RecordSink,
    masks: MaskPainter | None = None,
    viewer: Viewer | None = None,
    max_seconds: float | None = None,
    on_frame: Callable[[Summary], None] | None = None,
    patience: float = 15.0,
) -> Summary:
    """Count to the end of a recording, to ``max_seconds``, or until interrupted; Ctrl-C is the normal end of a live
    source and an error in a recording.

    Args:
        sink: gets each record as soon as it is finished. It is neither committed nor aborted here.
        masks: painted over each frame before anything looks.
        max_seconds: of the source's own time.
        on_frame: called after each frame, for a progress display.
        patience: seconds in which a live source must give its first frame; later it may be away for ever.

    Raises:
        SourceError: see :mod:`counter.sources`.
        KeyboardInterrupt: a recording was interrupted.
    """
    summary = Summary(source.name, counter.model, counter.mode)
    summary.totals.per_line = {line.name: (0, 0) for line in counter.lines}

    def deliver(records: list[CountRecord]) -> None:
        for record in records:
            sink.write(record)
            summary.records.append(record)

    begun = time.perf_counter()
    first = last = None
    step = 0.0
    try:
        for item in _frames(source, counter, max_seconds, patience):
            if first is None:
                first = item.t
            elif max_seconds is not None and item.t - first >= max_seconds:
                break
            if last is not None:
                step = item.t - last
                summary.hold(step)
            frame = masks(item.frame) if masks is not None else item.frame
            result = counter.update(frame, item.t, item.utc)
            summary.add(result, counter.present(result))
            last = item.t
            summary.seconds = last - first + (step or 1.0 / (source.fps or 25.0))
            summary.wall_seconds = time.perf_counter() - begun
            deliver(counter.records())
            if viewer is not None:
                viewer.show(item, result, summary.totals)
            if on_frame is not None:
                on_frame(summary)
    except KeyboardInterrupt:
        if not source.live:
            raise
    summary.hold(step)
    deliver(counter.close())
    summary.wall_seconds = time.perf_counter() - begun
    return summary


def _frames(
    source: FrameSource, counter: PeopleCounter, max_seconds: float | None, patience: float
) -> Iterator[TimedFrame]:
    """The frames; while a live source is away, time passes for the counter all the same."""
    if not isinstance(source, LiveSource):
        yield from source
        return
    begun = source.clock()
    seen: float | None = None
    while True:
        item = source.read(0.5)
        now = source.clock()
        if item is not None:
            seen = now
            yield item
        elif seen is None and now - begun >= patience:
            why = source.failure or "no answer"
            raise SourceError("SOURCE", source.name, f"no picture within {patience:g} s: {why}", usage=False)
        elif seen is not None and now - seen > MAX_GAP_SECONDS[counter.mode]:
            # A camera of one picture a second is not away between two of them.
            counter.tick(now, datetime.now(UTC))
        if seen is not None and max_seconds is not None and now - begun >= max_seconds + patience:
            return
