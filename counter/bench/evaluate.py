"""A run against the truth of its clip, and runs added up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from counter.bench.dataset import Clip
from counter.bench.measures import (
    Floats,
    Ints,
    Matches,
    Presence,
    Sums,
    durations,
    interval_events,
    interval_presence,
    match_events,
    presence,
    total_error,
)
from counter.bench.systems import Run
from counter.bench.tracking import FrameTracks, TrackingScores, track_scores

NOBODY: FrameTracks = (np.empty(0, np.int64), np.empty((0, 4), np.float64))


@dataclass(slots=True)
class Score:
    """How one system did on one clip (or on all, added up)."""

    system: str
    clip: str
    presence: Presence | None = None
    interval_presence: Sums | None = None
    interval_events: Sums | None = None
    events: Matches | None = None
    totals: Sums | None = None
    tracking: TrackingScores | None = None
    frames: int = 0
    seconds: float = 0.0
    peak_mb: float | None = None
    inferred: float = 1.0
    stage_ms: dict[str, list[float]] = field(default_factory=dict)
    series: tuple[Floats, Ints, Ints] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what was not measured is null."""
        return {
            "system": self.system,
            "clip": self.clip,
            "frames": self.frames,
            "fps": round(self.frames / self.seconds, 2) if self.seconds else None,
            "inferred_share": round(self.inferred, 4),
            "peak_mb": None if self.peak_mb is None else round(self.peak_mb, 1),
            "presence": None if self.presence is None else {
                "seconds": round(self.presence.seconds, 2),
                "exact": _share(self.presence.exact, self.presence.seconds),
                "within_one": _share(self.presence.within_one, self.presence.seconds),
                **_errors(self.presence.error),
            },
            "interval_presence": None if self.interval_presence is None else _errors(self.interval_presence),
            "interval_events": None if self.interval_events is None else _errors(self.interval_events),
            "events": None if self.events is None else {
                "hits": self.events.hits, "invented": self.events.invented, "missed": self.events.missed,
                "precision": self.events.precision, "recall": self.events.recall,
            },
            "event_totals": None if self.totals is None else {
                "true": self.totals.truth, "absolute_error": self.totals.absolute, "signed_error": self.totals.signed,
            },
            "tracking": None if self.tracking is None else {
                name: round(getattr(self.tracking, name), 4)
                for name in ("hota", "deta", "assa", "idf1", "mota", "switches")
            },
            "stage_ms": {
                name: {"median": round(float(np.median(ms)), 3), "p95": round(float(np.percentile(ms, 95)), 3)}
                for name, ms in self.stage_ms.items() if ms
            },
        }  # fmt: skip


def _share(part: float, whole: float) -> float | None:
    return round(part / whole, 4) if whole else None


def _errors(total: Sums) -> dict[str, float | None]:
    def short(value: float | None) -> float | None:
        return None if value is None else round(value, 4)

    return {"n": round(total.n, 2), "mae": short(total.mae), "wape": short(total.wape), "bias": short(total.bias)}


def score(clip: Clip, run: Run, interval: float) -> Score:
    """Compare a run with the truth of its clip, per frame and per interval of ``interval`` seconds."""
    frames = len(run.times)
    result = Score(
        run.system, clip.name, frames=frames, seconds=run.seconds, peak_mb=run.peak_mb, inferred=run.inferred,
        stage_ms=run.stage_ms,
    )  # fmt: skip
    true = clip.truth.presence(frames)
    if (true >= 0).any():
        result.presence = presence(run.times, run.present, true)
        result.interval_presence = interval_presence(run.times, run.present, true, interval)
        result.series = (run.times, run.present, true)
    if clip.lines:
        timed = clip.truth.timed_events(run.times)
        result.totals = total_error(run.events, clip.truth.totals)
        if len(timed) == sum(clip.truth.totals.values()):
            end = float(run.times[-1] + durations(run.times)[-1]) if frames else 0.0
            result.events = match_events(run.events, timed)
            result.interval_events = interval_events(run.events, timed, end, interval)
    if clip.truth.boxes is not None:
        result.tracking = track_scores([clip.truth.boxes.get(k, NOBODY) for k in range(frames)], run.tracks)
    return result


def together(scores: Sequence[Score]) -> Score:
    """Add up the scores of one system over its clips. Tracking scores are weighted by frames."""
    total = Score(scores[0].system, "all clips")
    for one in scores:
        total.frames += one.frames
        total.seconds += one.seconds
        total.presence = _plus(total.presence, one.presence)
        total.interval_presence = _plus(total.interval_presence, one.interval_presence)
        total.interval_events = _plus(total.interval_events, one.interval_events)
        total.events = _plus(total.events, one.events)
        total.totals = _plus(total.totals, one.totals)
        for name, ms in one.stage_ms.items():
            total.stage_ms.setdefault(name, []).extend(ms)
    peaks = [one.peak_mb for one in scores if one.peak_mb is not None]
    total.peak_mb = max(peaks, default=None)
    total.inferred = sum(one.inferred * one.frames for one in scores) / max(total.frames, 1)
    tracked = [(one.tracking, one.frames) for one in scores if one.tracking is not None]
    if tracked:
        weight = sum(frames for _, frames in tracked)

        def mean(name: str) -> float:
            return float(sum(getattr(t, name) * frames for t, frames in tracked) / weight)

        total.tracking = TrackingScores(
            hota=mean("hota"), deta=mean("deta"), assa=mean("assa"), idf1=mean("idf1"), mota=mean("mota"),
            switches=sum(t.switches for t, _ in tracked),
        )  # fmt: skip
    return total


def _plus(a: Any, b: Any) -> Any:
    return a if b is None else b if a is None else a + b
