"""The people counter: from frames to counts, where detector, tracker, lines, zones and intervals are put together."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from counter.counting import IntervalCounter
from counter.detector import CallableDetector, Detector, Mode, open_model, resolve
from counter.lines import Line, LineCounter
from counter.occupancy import Occupancy
from counter.stillness import StillnessGate
from counter.tracker import Tracker, TrackerResult, TrackerSettings, tracks_of
from counter.types import Crossing, Detections, Direction, Frame, FrameResult
from counter.zones import WHOLE_VIEW, Zone, ZoneCounter
from uplink.messages import CountRecord, Health

log = logging.getLogger(__name__)

MAX_RECORDS = 10_080  # a week of minutes: what is not fetched is forgotten, oldest first

TRACKING: dict[Mode, TrackerSettings] = {
    "door": TrackerSettings(),
    # One or two frames a second, people who sit: seldom seen, long kept.
    "room": TrackerSettings(
        confirm_seconds=0.5,
        hidden_seconds=3.0,
        count_seconds=2.0,
        covered_seconds=5.0,
        still_seconds=30.0,
        weak_seconds=10.0,
    ),
}
# How long the network rests at first while nothing moves, and at most.
REST_SECONDS: dict[Mode, tuple[float, float]] = {"door": (10.0, 30.0), "room": (30.0, 120.0)}
MAX_GAP_SECONDS: dict[Mode, float] = {"door": 2.0, "room": 10.0}
CALM_SPEED = 0.15  # person sizes a second


class PeopleCounter:
    """Counts people in the frames of one camera.

    >>> counter = PeopleCounter(lines=["0.1,0.6,0.9,0.6"])          # doctest: +SKIP
    >>> for t, frame in frames:                                     # doctest: +SKIP
    ...     result = counter.update(frame, t)
    ...     print(result.presence[""], result.crossings)
    >>> counter.close()                                             # doctest: +SKIP

    Args:
        model: name in the registry, path of an ONNX file, a :class:`Detector`, a function ``frame -> Detections``, or
            None for the default of the mode.
        lines: door lines, each a :class:`Line` or ``"x1,y1,x2,y2"``.
        zones: parts of the view in which people are counted, each a :class:`Zone`; without any, the whole view.
        mode: ``door`` (people walk, 10 to 25 frames/s) or ``room`` (people sit, 1 to 2 frames/s).
        threshold: score from which a detection may begin a track; default: the model's own.
        tracking: how the tracker decides; default: by mode. ``threshold`` and the model's thresholds go before it.
        skip_still: whether the network rests while nothing moves.
        max_rest: seconds after which it runs all the same; default: 10 (door) or 30 (room) after a motion, and up to
            30 (door) or 120 (room) while it finds nothing new.
        interval: seconds of a count record.
        sensor_id: of the records.
        start: wall clock of ``t = 0`` for sources without one; default: 1970-01-01T00:00Z, so that records of a file
            count from its beginning.
        on_record: called with each finished record. Without it, records wait for :meth:`records`.
        threads: of one inference; default: the usable CPUs, at most 4.

    Raises:
        DetectorError: the model is unknown, missing or damaged.
        ValueError: a line, zone or number is wrong; the message names it.
    """

    def __init__(
        self,
        model: str | Path | Detector | Callable[[Frame], Detections] | None = None,
        lines: Sequence[Line | str] = (),
        zones: Sequence[Zone] = (),
        mode: Mode = "door",
        *,
        threshold: float | None = None,
        tracking: TrackerSettings | None = None,
        skip_still: bool = True,
        max_rest: float | None = None,
        interval: int = 60,
        sensor_id: str = "camera",
        start: datetime | None = None,
        on_record: Callable[[CountRecord], None] | None = None,
        threads: int | None = None,
    ) -> None:
        if mode not in TRACKING:
            raise ValueError(f"mode: expected door or room, got {mode!r}")
        self.mode: Mode = mode
        self.lines = tuple(
            Line.parse(x, f"line {i}" if len(lines) > 1 else "line") if isinstance(x, str) else x
            for i, x in enumerate(lines, 1)
        )
        self.zones = tuple(zones)
        _check_names([x.name for x in self.lines], "line")
        _check_names([x.name for x in self.zones], "zone")
        self._intervals = IntervalCounter(sensor_id, interval, MAX_GAP_SECONDS[mode])
        settings = tracking or TRACKING[mode]
        self.detector, self.model, settings = _detector(model, mode, threads, settings)
        if threshold is not None:
            settings = replace(settings, threshold=threshold, low_threshold=min(settings.low_threshold, threshold))
        self.settings = settings
        self._tracker = Tracker(settings)
        self._line_counters = [LineCounter(line) for line in self.lines]
        self._zone_counters = [ZoneCounter(zone) for zone in self.zones]
        sees_room = bool(self.zones) or mode == "room"
        self._occupancy = Occupancy(sees_room) if self.lines else None
        self._sees_room = sees_room
        first, most = REST_SECONDS[mode]
        most = most if max_rest is None else max_rest
        self._gate = StillnessGate(most, min(first, most)) if skip_still else None
        self._start = start or datetime.fromtimestamp(0, UTC)
        self._on_record = on_record
        self._records: list[CountRecord] = []
        self._in_zones: set[int] = set()
        self._last: FrameResult | None = None
        self._t: float | None = None
        self._shape: tuple[int, ...] | None = None

    def update(self, frame: Frame, t: float, utc: datetime | None = None, health: Iterable[Health] = ()) -> FrameResult:
        """Count the people of one frame.

        A frame of another size than the one before ends all tracks (their pixels mean nothing any more) and counts no
        crossing for them; lines and zones are relative and go on. A pause of more than 2 s (door) or 10 s (room) does
        the same.

        Args:
            frame: uint8 ``[height, width, 3]``, BGR.
            t: monotonic seconds, later than that of the frame before.
            utc: wall clock of the frame, where the source has one.
            health: faults of the view, for the record; none is ok.

        Raises:
            ValueError: the frame is none, or ``t`` does not go forward.
        """
        begin = time.perf_counter()
        self._check(frame, t)
        height, width = frame.shape[:2]
        rest = self._may_rest(frame, t)
        moved = time.perf_counter()
        if rest:
            detections, tracked = Detections.empty(), self._tracker.hold(t)
        else:
            detections = self.detector.detect(frame)
        detected = time.perf_counter()
        if not rest:
            tracked = self._tracker.update(detections, t, width, height)
        associated = time.perf_counter()
        result = self._count(detections, tracked, t, width, height, inferred=not rest)
        if self._gate is not None and not rest:
            self._gate.ran(t, news=self._last is None or result.presence != self._last.presence)
        self._report(result, utc, health)
        end = time.perf_counter()
        self._t = t
        self._last = replace(
            result,
            utc=utc,
            stage_ms={
                "motion": (moved - begin) * 1e3,
                "detect": (detected - moved) * 1e3,
                "track": (associated - detected) * 1e3,
                "count": (end - associated) * 1e3,
            },
        )
        return self._last

    def records(self) -> list[CountRecord]:
        """The records finished since the last call, oldest first. At most a week of minutes waits here."""
        records, self._records = self._records, []
        return records

    def tick(self, t: float, utc: datetime | None = None) -> None:
        """Let time pass without a frame, as while a camera is away: intervals end, and say that nobody looked."""
        self._deliver(self._intervals.advance(t, self._wall(t, utc)))

    def close(self) -> list[CountRecord]:
        """End: finish the interval that has begun. Returns what :meth:`records` would."""
        self._deliver(self._intervals.close())
        return self.records()

    def _check(self, frame: Frame, t: float) -> None:
        if not isinstance(frame, np.ndarray) or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
            raise ValueError(f"frame: expected uint8 [height, width, 3], got {getattr(frame, 'shape', type(frame))}")
        if frame.dtype != np.uint8:
            raise ValueError(f"frame: expected uint8, got {frame.dtype}")
        if not np.isfinite(t) or (self._t is not None and t <= self._t):
            raise ValueError(f"t: expected seconds after {self._t}, got {t}")
        if self._shape is not None and frame.shape != self._shape:
            log.warning("frame size changed from %s to %s: all tracks begin anew", self._shape[:2], frame.shape[:2])
            self._restart()
        elif self._t is not None and t - self._t > MAX_GAP_SECONDS[self.mode]:
            self._restart()
        self._shape = frame.shape

    def _restart(self) -> None:
        self._tracker.reset()
        for line in self._line_counters:
            line.reset()
        for zone in self._zone_counters:
            zone.reset()
        if self._gate is not None:
            self._gate.reset()
        if self._occupancy is not None:
            self._occupancy.restart()

    def _may_rest(self, frame: Frame, t: float) -> bool:
        return self._gate is not None and self._gate.may_rest(frame, t) and self._tracker.calm(CALM_SPEED)

    def _count(
        self,
        detections: Detections,
        tracked: TrackerResult,
        t: float,
        width: int,
        height: int,
        *,
        inferred: bool,
    ) -> FrameResult:
        if not inferred and self._last is not None:
            # Nothing moved: what the last frame said still holds.
            occupancy = None
            if self._occupancy is not None:
                occupancy = self._occupancy.update(t, self._seen_inside(self._last), 0, 0)
            return replace(
                self._last,
                t=t,
                detections=detections,
                crossings=(),
                occupancy=occupancy,
                inferred=False,
            )
        confirmed, tentative = tracks_of(tracked.confirmed, t), tracks_of(tracked.tentative, t)
        crossings: list[Crossing] = []
        if self._line_counters:
            velocities = dict(
                zip(tracked.confirmed.ids.tolist(), tracked.confirmed.state.velocity.tolist(), strict=True)
            )
            for line in self._line_counters:
                crossings += line.update(confirmed, tentative, t, width, height, velocities)
        present = tuple(track for track in confirmed if track.id not in tracked.lost)
        presence = {WHOLE_VIEW: len(present)}
        self._in_zones = set()
        for zone in self._zone_counters:
            inside = zone.update(confirmed, t, width, height) - tracked.lost
            presence[zone.zone.name] = len(inside)
            self._in_zones |= inside
        result = FrameResult(t, detections, present, tentative, tuple(crossings), presence)
        if self._occupancy is None:
            return result
        entered, left = _directions(crossings)
        return replace(result, occupancy=self._occupancy.update(t, self._seen_inside(result), entered, left))

    def _seen_inside(self, result: FrameResult) -> int:
        """People seen inside: in the zones, or, without any, on the inner side of every line."""
        if self.zones:
            return len(self._in_zones)
        return sum(
            not any(line.side(track.id) < 0 for line in self._line_counters)
            and any(line.side(track.id) > 0 for line in self._line_counters)
            for track in result.tracks
        )

    def present(self, result: FrameResult) -> int:
        """What the record calls present: people in the zones, in rooms with a line held against the crossings."""
        if self._sees_room and result.occupancy is not None:
            return result.occupancy
        return len(self._in_zones) if self.zones else result.presence[WHOLE_VIEW]

    def _report(self, result: FrameResult, utc: datetime | None, health: Iterable[Health]) -> None:
        entered, left = _directions(result.crossings)
        self._deliver(
            self._intervals.add(result.t, self._wall(result.t, utc), self.present(result), entered, left, health)
        )

    def _deliver(self, records: list[CountRecord]) -> None:
        for record in records:
            if self._on_record is not None:
                self._on_record(record)
            else:
                self._records.append(record)
        del self._records[:-MAX_RECORDS]

    def _wall(self, t: float, utc: datetime | None) -> datetime:
        return utc if utc is not None else self._start + timedelta(seconds=t)


def _directions(crossings: Iterable[Crossing]) -> tuple[int, int]:
    entered = left = 0
    for crossing in crossings:
        if crossing.direction is Direction.ENTERED:
            entered += 1
        else:
            left += 1
    return entered, left


def _detector(
    model: str | Path | Detector | Callable[[Frame], Detections] | None,
    mode: Mode,
    threads: int | None,
    settings: TrackerSettings,
) -> tuple[Detector, str, TrackerSettings]:
    """The detector, its name, and the settings with the model's own thresholds."""
    if model is None or isinstance(model, str | Path):
        detector, chosen = open_model(resolve(model, mode), threads)
        return (
            detector,
            chosen.name,
            replace(settings, threshold=chosen.threshold, low_threshold=chosen.low_threshold),
        )
    if hasattr(model, "detect"):
        return model, str(getattr(model, "name", type(model).__name__)), settings
    if callable(model):
        return CallableDetector(model), getattr(model, "__name__", type(model).__name__), settings
    raise ValueError(f"model: expected a name, a path, a detector or a function, got {type(model).__name__}")


def _check_names(names: Sequence[str], kind: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{kind} {name!r}: the name is given twice")
