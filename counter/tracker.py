"""From detections to tracks: two-stage association in the line of ByteTrack and OC-SORT, in seconds.

Strong detections are matched first, weak ones may only support people who are known already (Zhang et al., *ByteTrack*,
ECCV 2022). Tentative and confirmed tracks live in two collections; only confirmed ones ever count. No appearance is
computed: a track is a place, a size and a velocity, nothing that could tell one person from another.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from counter import motion
from counter.association import Pair, assign, possible_pairs
from counter.boxes import area, at_edge, intersection, iou, uncut, usable, without_parts
from counter.motion import Array, MotionState
from counter.types import Detections, Track

HOME_SECONDS = 2.0
SOFT = 0.7  # share of the threshold from which somebody who walks may become a track
APART = 0.5  # share of either box; a faint box that shares more with somebody known is a part of them, or two at once
DOUBT_SECONDS = 2.0  # what has been tentative for longer is furniture that looks like somebody
WALKED = 0.25  # person sizes that tell walking from a box that shakes


@dataclass(frozen=True, slots=True)
class TrackerSettings:
    """How the tracker decides. Times in seconds, scores 0 to 1.

    Attributes:
        threshold: score from which a detection may begin a track; somebody who visibly walks needs only 0.7 of it.
            Lower finds more people and more ghosts.
        low_threshold: score from which a detection may continue a track.
        confirm_seconds: how long a track stays tentative. Longer keeps ghosts out, and misses people who are in view
            for a moment only.
        confirm_hits: detections that a track needs as well, the first included: what counts at low frame rates.
        hidden_seconds: how long somebody who walked when last seen is kept while unseen in the open.
        covered_seconds: the same behind somebody else.
        count_seconds: how long, of ``hidden_seconds``, such a person counts as present: who vanishes in the open has
            mostly left through a door, but may be recognised when that was wrong.
        still_seconds: the same for somebody who hardly moved, as seated people do. Longer carries them over
            occlusions; it also keeps those who got up unseen.
        exit_seconds: the same for somebody last seen at the edge of the picture and moving outwards.
        weak_seconds: how long weak detections alone may carry somebody who walks.
        max_tracks: bound on memory: most tracks of either kind.
    """

    threshold: float = 0.4
    low_threshold: float = 0.1
    confirm_seconds: float = 0.2
    confirm_hits: int = 2
    hidden_seconds: float = 0.6
    covered_seconds: float = 2.0
    still_seconds: float = 5.0
    exit_seconds: float = 0.2
    count_seconds: float = 0.2
    weak_seconds: float = 2.0
    max_tracks: int = 500

    def __post_init__(self) -> None:
        for name in ("threshold", "low_threshold"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name}: expected 0 to 1, got {getattr(self, name)}")
        if self.low_threshold > self.threshold:
            raise ValueError(f"low_threshold {self.low_threshold} is above threshold {self.threshold}")
        for kind in ("confirm", "hidden", "covered", "still", "exit", "count", "weak"):
            if not 0.0 <= getattr(self, f"{kind}_seconds") < float("inf"):
                raise ValueError(f"{kind}_seconds: expected 0 or more, got {getattr(self, f'{kind}_seconds')}")
        if self.confirm_hits < 1 or self.max_tracks < 1:
            raise ValueError("confirm_hits and max_tracks: expected 1 or more")


@dataclass(slots=True)
class TrackTable:
    """Tracks of one kind, one row each: a motion state and the bookkeeping beside it, ``[n]`` arrays.

    ``hits`` counts strong detections and ``evidence`` sums their scores, ``misses`` counts frames without one after the
    first; ``soft_hits`` and ``last_strong`` count from a lower score on. ``home`` ``[n, 2]`` is where a tentative track
    began, and follows the centre of a confirmed one slowly: far from home means walking.
    """

    state: MotionState
    ids: NDArray[np.int64]
    scores: Array
    first_seen: Array
    last_seen: Array
    last_strong: Array
    hits: NDArray[np.int64]
    soft_hits: NDArray[np.int64]
    misses: NDArray[np.int64]
    evidence: Array
    home: Array

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> TrackTable:
        return TrackTable(
            motion.take(self.state, rows),
            self.ids[rows],
            self.scores[rows],
            self.first_seen[rows],
            self.last_seen[rows],
            self.last_strong[rows],
            self.hits[rows],
            self.soft_hits[rows],
            self.misses[rows],
            self.evidence[rows],
            self.home[rows],
        )

    def join(self, other: TrackTable) -> TrackTable:
        return TrackTable(
            motion.join(self.state, other.state),
            np.concatenate((self.ids, other.ids)),
            np.concatenate((self.scores, other.scores)),
            np.concatenate((self.first_seen, other.first_seen)),
            np.concatenate((self.last_seen, other.last_seen)),
            np.concatenate((self.last_strong, other.last_strong)),
            np.concatenate((self.hits, other.hits)),
            np.concatenate((self.soft_hits, other.soft_hits)),
            np.concatenate((self.misses, other.misses)),
            np.concatenate((self.evidence, other.evidence)),
            np.concatenate((self.home, other.home)),
        )

    @classmethod
    def born(cls, boxes: Array, scores: Array, t: float, ids: Sequence[int], threshold: float) -> TrackTable:
        n = len(boxes)
        strong = scores >= threshold
        state = motion.start(boxes, scores)
        return cls(
            state,
            np.array(ids, np.int64),
            scores.astype(np.float64),
            np.full(n, t),
            np.full(n, t),
            np.full(n, t),
            strong.astype(np.int64),
            np.ones(n, np.int64),
            np.zeros(n, np.int64),
            np.where(strong, scores, 0.0),
            state.centre.copy(),
        )


@dataclass(frozen=True, slots=True)
class TrackerResult:
    """The tracks after one frame, the ids of confirmed tracks that ended with it, and of those that no longer count."""

    confirmed: TrackTable
    tentative: TrackTable
    ended: tuple[int, ...] = ()
    lost: frozenset[int] = frozenset()


@dataclass(slots=True)
class Tracker:
    """Follows people over time. One instance a camera: ids are its own and count up from 1.

    Memory is bounded: a track lives only while it is seen or within its hidden time.
    """

    settings: TrackerSettings = field(default_factory=TrackerSettings)
    _confirmed: TrackTable = field(init=False)
    _tentative: TrackTable = field(init=False)
    _t: float | None = field(init=False, default=None)
    _began: float = field(init=False, default=math.inf)
    _frame: tuple[int, int] = field(init=False, default=(1, 1))
    _ids: itertools.count[int] = field(init=False, default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.reset()

    @property
    def _soft(self) -> float:
        return max(SOFT * self.settings.threshold, self.settings.low_threshold)

    def reset(self) -> None:
        """Forget every track. Ids are not used again."""
        self._began = math.inf
        self._confirmed = _empty()
        self._tentative = _empty()

    def hold(self, t: float) -> TrackerResult:
        """The picture is as it was: every track stays as it is, and time does not count against the hidden."""
        if self._t is not None:
            for table in (self._confirmed, self._tentative):
                table.last_seen += t - self._t
                table.last_strong += t - self._t
        self._t = t
        return TrackerResult(self._confirmed, self._tentative)

    def calm(self, speed: float) -> bool:
        """Whether everybody is at rest: nobody new, nobody hidden, nobody faster than ``speed`` sizes a second."""
        table = self._confirmed
        if self._t is None or bool((table.last_seen < self._t).any()):
            return False
        if len(self._tentative) and bool((self._t - self._tentative.first_seen < DOUBT_SECONDS).any()):
            return False
        return bool((np.abs(table.state.velocity).max(axis=1, initial=0.0) <= speed * table.state.scale).all())

    def update(self, detections: Detections, t: float, width: int, height: int) -> TrackerResult:
        """Take the detections of one frame.

        Args:
            detections: boxes in pixels; those below ``low_threshold`` are ignored.
            t: monotonic seconds, later than that of the frame before.
            width: of the frame in pixels; with ``height`` it tells who is leaving the picture.
            height: of the frame in pixels.
        """
        s = self.settings
        dt = 0.0 if self._t is None else t - self._t
        self._t = t
        self._began = min(self._began, t)
        self._frame = (width, height)
        for table in (self._confirmed, self._tentative):
            motion.predict(table.state, dt, table.last_seen < t - dt - 1e-9)
        boxes, scores = without_parts(*usable(detections), s.low_threshold)
        free = self._associate(boxes, scores, t, dt)
        ended = self._expire(t)
        self._sort_tentative(t)
        self._begin(boxes, scores, free, t)
        self._drift_home(dt)
        return TrackerResult(self._confirmed, self._tentative, ended, self._lost(t))

    def _associate(self, boxes: Array, scores: Array, t: float, dt: float) -> NDArray[np.intp]:
        """Both stages. ``scores`` fall, so the strong detections come first. Returns those that may begin a track."""
        s = self.settings
        strong = int(np.count_nonzero(scores >= s.threshold))
        known, young = self._confirmed, self._tentative
        known_pairs = possible_pairs(known.state, boxes, self._frame, t - known.last_seen)
        young_pairs = possible_pairs(young.state, boxes, self._frame, t - young.last_seen)
        known_of: dict[int, int] = {}
        young_of: dict[int, int] = {}
        taken: set[int] = set()
        first = range(strong)
        _match(known_pairs, known_of, taken, first, 1.0)
        _match(young_pairs, young_of, taken, first, 0.9)
        if strong < len(boxes):
            second = range(strong, len(boxes))
            # Weak detections do not bring back who has been away for longer.
            away = known.last_seen < t - dt - s.hidden_seconds - 1e-9
            if away.any():
                known_pairs = [pair for pair in known_pairs if not away[pair[0]]]
            _match(known_pairs, known_of, taken, second, 0.45)
            _match(young_pairs, young_of, taken, second, 0.45)
        if len(young):
            young.misses[young.hits > 0] += 1
            young.misses[[row for row, found in young_of.items() if found < strong and young.hits[row]]] -= 1
        self._support(known, known_of, boxes, scores, t)
        self._support(young, young_of, boxes, scores, t)
        begin = int(np.count_nonzero(scores >= self._soft))
        return np.array([i for i in range(begin) if i not in taken], np.intp)

    def _support(self, table: TrackTable, found_of: dict[int, int], boxes: Array, scores: Array, t: float) -> None:
        """Correct and stamp the tracks that have a detection."""
        if not found_of:
            return
        matched = sorted(found_of.items())
        rows, found = np.array(matched, np.intp).T
        score = scores[found]
        seen = uncut(boxes.T.take(found, axis=1).T, table.state.data[2:4].take(rows, axis=1).T, self._frame)
        motion.correct(table.state, rows, seen, score)
        table.scores[rows] = score
        table.last_seen[rows] = t
        soft = rows[score >= self._soft]
        table.last_strong[soft] = t
        table.soft_hits[soft] += 1
        strong = score >= self.settings.threshold
        table.hits[rows] += strong
        table.evidence[rows] += score * strong

    def _sort_tentative(self, t: float) -> None:
        """Tentative tracks die when missed for too long and are confirmed when old and certain enough."""
        table = self._tentative
        if not len(table):
            return
        s = self.settings
        # A detector that is sure (1) needs next to no time, one at its threshold (0) all of it.
        sure = (table.evidence / np.maximum(table.hits, 1) - s.threshold) / max(1.0 - s.threshold, 1e-6)
        needed = s.confirm_seconds * np.clip(1.0 - 1.5 * sure, 0.0, 1.0)
        age = t - table.first_seen + 1e-6
        # Who is there in the first frame did not just appear.
        from_start = table.first_seen <= self._began
        certain = (table.hits >= s.confirm_hits) & (table.hits >= table.misses) & (from_start | (age >= needed))
        # Coats on chairs do not walk: who moves is believed with weaker scores.
        moved = np.abs(table.state.centre - table.home).max(axis=1) >= WALKED * table.state.scale
        walks = moved & (table.soft_hits > s.confirm_hits)
        grown = (table.last_strong >= t) & (certain | (walks & (age >= s.confirm_seconds)))
        alive = (t - table.last_seen <= s.confirm_seconds + 1e-6) & ~grown
        if grown.any():
            room = s.max_tracks - len(self._confirmed)
            self._confirmed = self._confirmed.join(table.take(np.flatnonzero(grown)[:room]))
        if not alive.all():
            self._tentative = table.take(alive)

    def _begin(self, boxes: Array, scores: Array, rows: NDArray[np.intp], t: float) -> None:
        """New tentative tracks, but not from the second box of somebody who has one already."""
        if not len(rows):
            return
        threshold = self.settings.threshold
        known = self._confirmed.state.boxes[self._confirmed.last_seen >= t]
        mine = area(boxes[rows])[:, None].clip(1e-9)
        if len(known):
            inside = (intersection(boxes[rows], known) / mine).max(axis=1)
            weak = scores[rows] < (threshold + 1.0) / 2
            again = (iou(boxes[rows], known).max(axis=1) > 0.6) | ((inside > 0.85) & weak)
            rows, mine = rows[~again], mine[~again]
        faint = scores[rows] < threshold
        others = np.concatenate((known, boxes[scores >= threshold])) if faint.any() else known[:0]
        if len(others):
            shared = intersection(boxes[rows], others)
            most = np.maximum(shared / mine, shared / area(others).clip(1e-9)).max(axis=1)
            rows = rows[~(faint & (most > APART))]
        rows = rows[: self.settings.max_tracks - len(self._tentative)]
        if len(rows):
            ids = [next(self._ids) for _ in rows]
            self._tentative = self._tentative.join(
                TrackTable.born(boxes[rows], scores[rows], t, ids, self.settings.threshold)
            )

    def _expire(self, t: float) -> tuple[int, ...]:
        """Drop confirmed tracks whose hidden time is over."""
        table = self._confirmed
        if not len(table):
            return ()
        if table.last_strong.min() >= t - min(self.settings.exit_seconds, self.settings.weak_seconds):
            return ()  # nor can any have been seen longer ago
        unseen = t - table.last_seen
        still = self._still(table)
        kept = unseen <= self._patience(table, still) + 1e-6
        # Weak detections alone carry those who sit, not those who walked: background is weak too.
        kept &= still | (t - table.last_strong <= self.settings.weak_seconds + 1e-6)
        if kept.all():
            return ()
        ended = tuple(int(i) for i in table.ids[~kept])
        self._confirmed = table.take(kept)
        return ended

    def _drift_home(self, dt: float) -> None:
        table = self._confirmed
        table.home += (1.0 - math.exp(-dt / HOME_SECONDS)) * (table.state.centre - table.home)

    def _still(self, table: TrackTable) -> NDArray[np.bool_]:
        """Who has been in one place for a while. Speed alone would take people who walk away from the camera."""
        away = np.abs(table.state.centre - table.home).max(axis=1, initial=0.0)
        settled: NDArray[np.bool_] = away < 0.15 * table.state.scale
        return settled & (table.last_seen - table.first_seen >= HOME_SECONDS)

    def _covered(self, table: TrackTable, boxes: Array) -> NDArray[np.bool_]:
        """Who is at least partly behind (or in front of) somebody seen now."""
        seen = table.last_seen >= table.last_seen.max()
        shared: NDArray[np.bool_] = intersection(boxes, boxes[seen]) > 0.3 * area(boxes)[:, None]
        others: NDArray[np.bool_] = np.count_nonzero(shared, axis=1) > seen
        return others

    def _lost(self, t: float) -> frozenset[int]:
        """Who walked and vanished in the open: kept to be recognised, not to be counted.

        Somebody seen weakly just before faded away, behind a wall or through a door, and counts half as long. At the
        edge of the picture scores fall because people are cut off, and say nothing.
        """
        table = self._confirmed
        if not len(table) or table.last_seen.min() >= t - 1e-9:
            return frozenset()
        boxes = table.state.boxes
        faded = (table.scores < self.settings.threshold) & ~at_edge(boxes, self._frame).any(axis=1)
        grace = self.settings.count_seconds * np.where(faded, 0.5, 1.0)
        unseen = table.last_seen < t - grace - 1e-6
        gone = unseen & ~self._still(table) & ~self._covered(table, boxes)
        return frozenset(table.ids[gone].tolist())

    def _patience(self, table: TrackTable, still: NDArray[np.bool_]) -> Array:
        """Seconds for which each track may stay unseen."""
        s = self.settings
        state = table.state
        boxes = state.boxes
        patience = np.where(self._covered(table, boxes), s.covered_seconds, s.hidden_seconds)
        patience = np.where(still, np.maximum(s.still_seconds, patience), patience)
        # Somebody seen twice is no reason to believe in a person for long.
        patience = np.minimum(patience, np.maximum(table.last_seen - table.first_seen, s.exit_seconds))
        v = state.velocity
        outwards = np.concatenate((v < 0, v > 0), axis=1)
        leaving = (at_edge(boxes, self._frame) & outwards).any(axis=1)
        return np.where(leaving & ~still, np.minimum(patience, s.exit_seconds), patience)


def tracks_of(table: TrackTable, t: float) -> tuple[Track, ...]:
    """The table's rows as values."""
    hidden = table.last_seen < t - 1e-9
    return tuple(
        Track(i, (b[0], b[1], b[2], b[3]), s, first, last, h)
        for i, b, s, first, last, h in zip(
            table.ids.tolist(),
            table.state.boxes.tolist(),
            table.scores.tolist(),
            table.first_seen.tolist(),
            table.last_seen.tolist(),
            hidden.tolist(),
            strict=True,
        )
    )


def _empty() -> TrackTable:
    return TrackTable.born(np.empty((0, 4)), np.empty(0), 0.0, [], 0.0)


def _match(pairs: Sequence[Pair], found_of: dict[int, int], taken: set[int], part: range, limit: float) -> None:
    """Assign detections of a ``part`` that nobody has taken to tracks that have none, writing both down."""
    new = assign(
        [pair for pair in pairs if pair[1] in part and pair[1] not in taken and pair[0] not in found_of], limit
    )
    found_of.update(new)
    taken.update(new.values())
