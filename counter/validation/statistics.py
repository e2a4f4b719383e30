"""How far a sensor agrees with a person who counted beside it. Pure arithmetic: two lists of events in, figures out.

Three questions, three answers:

* *Did it see the same passages?* Events are matched one to one, within a tolerance and of the same direction; precision
  is the share of the sensor's events that the person saw too, recall the share of the person's events that the sensor
  saw too.
* *How wrong is an interval?* WAPE, the sum of absolute differences over the sum of the truth.
* *Does it count too many or too few in the long run?* The signed bias, with a test of equivalence: not "no difference
  was found", which a short window always reaches, but "the bias was shown to lie inside the agreed margin" (two
  one-sided tests, Schuirmann 1987; for passenger counters, relative to the mean truth of an interval: Siebert and
  Ellenberger, "Validation of automatic passenger counting", Transportation 47, 2020).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from counter.types import Direction
from counter.validation.student import t_cdf, t_quantile

DEFAULT_TOLERANCE = 1.0
DEFAULT_MARGIN = 0.05
DEFAULT_ALPHA = 0.05
DEFAULT_INTERVAL = 60.0


@dataclass(frozen=True, slots=True, order=True)
class Event:
    """One passage: when, in seconds since 1970 by the sensor's clock, and which way."""

    t: float
    direction: Direction


def match_events(truth: Sequence[Event], counted: Sequence[Event], tolerance: float) -> list[tuple[int, int]]:
    """Pairs of indexes (of ``truth``, of ``counted``), each event in at most one pair.

    As many pairs as possible; among those, the smallest sum of time differences. Two events pair when their directions
    are equal and their times differ by at most ``tolerance`` seconds.
    """
    pairs: list[tuple[int, int]] = []
    for direction in Direction:
        ours = sorted((e.t, i) for i, e in enumerate(truth) if e.direction is direction)
        theirs = sorted((e.t, i) for i, e in enumerate(counted) if e.direction is direction)
        for left, right in _clusters(ours, theirs, tolerance):
            found = _pair_up([t for t, _ in left], [t for t, _ in right], tolerance)
            pairs += [(left[i][1], right[j][1]) for i, j in found]
    return sorted(pairs)


Timed = list[tuple[float, int]]


def _clusters(ours: Timed, theirs: Timed, tolerance: float) -> list[tuple[Timed, Timed]]:
    """Groups that a pause longer than the tolerance parts: no pair spans two of them."""
    merged = sorted([(t, 0, i) for t, i in ours] + [(t, 1, i) for t, i in theirs])
    groups: list[tuple[Timed, Timed]] = []
    before = -math.inf
    for t, side, index in merged:
        if t - before > tolerance:
            groups.append(([], []))
        groups[-1][side].append((t, index))
        before = t
    return [group for group in groups if group[0] and group[1]]


def _pair_up(ours: list[float], theirs: list[float], tolerance: float) -> list[tuple[int, int]]:
    """Dynamic programming over sorted times: some best pairing never crosses (crossing pairs can swap partners)."""
    rows, columns = len(ours), len(theirs)
    best = [[(0, 0.0)] * (columns + 1) for _ in range(rows + 1)]  # (pairs, minus the sum of differences)
    for i in range(1, rows + 1):
        for j in range(1, columns + 1):
            choice = max(best[i - 1][j], best[i][j - 1])
            apart = abs(ours[i - 1] - theirs[j - 1])
            if apart <= tolerance:
                pairs, cost = best[i - 1][j - 1]
                choice = max(choice, (pairs + 1, cost - apart))
            best[i][j] = choice
    found = []
    i, j = rows, columns
    while i and j:
        if best[i][j] == best[i - 1][j]:
            i -= 1
        elif best[i][j] == best[i][j - 1]:
            j -= 1
        else:
            i, j = i - 1, j - 1
            found.append((i, j))
    return found[::-1]


@dataclass(frozen=True, slots=True)
class Agreement:
    """How the events of a window paired up."""

    matched: int
    missed: int
    """Seen by the person, not by the sensor."""
    extra: int
    """Counted by the sensor, not by the person."""
    lag: float | None
    """Median of the sensor's time less the person's, seconds: reaction and clocks. None without a pair."""

    @property
    def precision(self) -> float | None:
        """None when the sensor counted nothing."""
        return _share(self.matched, self.matched + self.extra)

    @property
    def recall(self) -> float | None:
        """None when the person counted nothing."""
        return _share(self.matched, self.matched + self.missed)


class Verdict(StrEnum):
    """What a test of equivalence showed."""

    PASSED = "passed"  # the bias lies inside the margin
    FAILED = "failed"  # the bias lies outside the margin
    UNDECIDED = "undecided"  # the window was too short to tell


@dataclass(frozen=True, slots=True)
class Equivalence:
    """The signed bias of a sensor, relative to the truth, and whether it was shown to lie inside the margin.

    Attributes:
        bias: (counted - truth) / truth over all intervals; above 0: too many. None when the person counted nothing.
        low, high: confidence interval of the bias at level 1 - 2 alpha, the one that decides the test.
        p_value: the larger of the two one-sided tests' p; below alpha is a pass.
        intervals: independent intervals that went in.
        needed: intervals that would decide it, were the rest like these; None when decided, or when more of the same
            would not pass.
    """

    bias: float | None
    low: float | None
    high: float | None
    p_value: float | None
    margin: float
    alpha: float
    intervals: int
    people: int
    verdict: Verdict
    needed: int | None = None


def equivalence(
    truth: Sequence[int], counted: Sequence[int], margin: float = DEFAULT_MARGIN, alpha: float = DEFAULT_ALPHA
) -> Equivalence:
    """Two one-sided t tests on the differences per interval, relative to the mean truth of an interval.

    A window without any error has no variance, and would pass with three people in it. At least the variance of one
    single miscount is therefore taken for granted: with a margin of 5 % even a flawless window needs some 35 people.

    Args:
        truth: what the person counted, per interval.
        counted: what the sensor counted, the same intervals.
        margin: largest bias that is agreed to be harmless, as a share: 0.05 is 5 %.
        alpha: risk of passing a sensor whose bias lies outside the margin.

    Raises:
        ValueError: the lists differ in length, or margin or alpha are no shares.
    """
    if len(truth) != len(counted):
        raise ValueError(f"{len(truth)} intervals of truth, but {len(counted)} of counts")
    if not 0.0 < margin < 1.0 or not 0.0 < alpha < 0.5:
        raise ValueError(f"expected margin in (0, 1) and alpha in (0, 0.5), got {margin} and {alpha}")
    n, people = len(truth), sum(truth)
    bias = _share(sum(counted) - people, people)
    if bias is None or n < 2:
        return Equivalence(bias, None, None, None, margin, alpha, n, people, Verdict.UNDECIDED)
    mean = people / n
    differences = [c - t for t, c in zip(truth, counted, strict=True)]
    average = sum(differences) / n
    variance = sum((d - average) ** 2 for d in differences) / (n - 1)
    error = math.sqrt(max(variance, 1.0 / n) / n) / mean
    reach = t_quantile(1.0 - alpha, n - 1) * error
    low, high = bias - reach, bias + reach
    p_value = max(1.0 - t_cdf((bias + margin) / error, n - 1), 1.0 - t_cdf((margin - bias) / error, n - 1))
    if low > -margin and high < margin:
        verdict = Verdict.PASSED
    elif low >= margin or high <= -margin:
        verdict = Verdict.FAILED
    else:
        verdict = Verdict.UNDECIDED
    needed = None
    if verdict is Verdict.UNDECIDED and abs(bias) < margin:
        needed = max(n + 1, math.ceil(n * (reach / (margin - abs(bias))) ** 2))
    return Equivalence(bias, low, high, p_value, margin, alpha, n, people, verdict, needed)


@dataclass(frozen=True, slots=True)
class Interval:
    """What both said about one interval, which begins at ``start`` (seconds since 1970)."""

    start: float
    truth_entered: int = 0
    counted_entered: int = 0
    truth_left: int = 0
    counted_left: int = 0


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything the report says about a window."""

    start: float
    end: float
    tolerance: float
    agreement: Agreement
    per_direction: dict[Direction, Agreement]
    intervals: tuple[Interval, ...]
    seconds: float
    wape: float | None
    wape_per_direction: dict[Direction, float | None]
    equivalence: dict[Direction, Equivalence]

    @property
    def verdicts(self) -> list[Verdict]:
        """Of the directions. One of which both saw nobody is left out."""
        return [
            test.verdict
            for direction, test in self.equivalence.items()
            if test.people or self.per_direction[direction].extra
        ]

    @property
    def verdict(self) -> Verdict:
        """Both directions must pass; one that failed fails it."""
        return together(self.verdicts)


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """All must pass; one that failed fails all; none at all decide nothing."""
    if Verdict.FAILED in verdicts:
        return Verdict.FAILED
    return Verdict.PASSED if verdicts and set(verdicts) == {Verdict.PASSED} else Verdict.UNDECIDED


def evaluate(
    truth: Sequence[Event],
    counted: Sequence[Event],
    start: float,
    end: float,
    *,
    tolerance: float = DEFAULT_TOLERANCE,
    interval: float = DEFAULT_INTERVAL,
    margin: float = DEFAULT_MARGIN,
    alpha: float = DEFAULT_ALPHA,
) -> Evaluation:
    """Compare two lists of events over the window ``[start, end)``, seconds since 1970.

    An event that the person tapped just after the window, or the sensor just before it, may be the partner of one
    inside: a pair belongs to the window when the person's event does, and counts in that event's interval, so that the
    edges of windows and intervals are no errors.

    Raises:
        ValueError: the window is empty, or a number is out of its bounds.
    """
    if not start < end or not interval > 0 or not tolerance >= 0:
        raise ValueError(f"expected start < end, interval > 0, tolerance >= 0; got {start}, {end}, {interval}")
    pairs = match_events(truth, counted, tolerance)
    partner = {j: i for i, j in pairs}
    paired = {i for i, _ in pairs}
    inside = [start <= event.t < end for event in truth]
    # Each counted event has one moment by which it is filed: its partner's, or its own.
    filed = [truth[partner[j]].t if j in partner else event.t for j, event in enumerate(counted)]
    counted_inside = [start <= t < end for t in filed]

    def agreement(directions: set[Direction]) -> Agreement:
        ours = [i for i, e in enumerate(truth) if inside[i] and e.direction in directions]
        theirs = [j for j, e in enumerate(counted) if counted_inside[j] and e.direction in directions]
        lags = sorted(counted[j].t - truth[partner[j]].t for j in theirs if j in partner)
        matched = sum(i in paired for i in ours)
        return Agreement(matched, len(ours) - matched, len(theirs) - matched, _median(lags))

    starts = [start + k * interval for k in range(max(1, math.ceil((end - start) / interval - 1e-9)))]
    tables = {direction: ([0] * len(starts), [0] * len(starts)) for direction in Direction}
    for event, is_inside in zip(truth, inside, strict=True):
        if is_inside:
            tables[event.direction][0][bisect_right(starts, event.t) - 1] += 1
    for event, moment, is_inside in zip(counted, filed, counted_inside, strict=True):
        if is_inside:
            tables[event.direction][1][bisect_right(starts, moment) - 1] += 1
    entered, left = tables[Direction.ENTERED], tables[Direction.LEFT]
    return Evaluation(
        start=start,
        end=end,
        tolerance=tolerance,
        agreement=agreement(set(Direction)),
        per_direction={direction: agreement({direction}) for direction in Direction},
        intervals=tuple(Interval(*row) for row in zip(starts, *entered, *left, strict=True)),
        seconds=interval,
        wape=wape(entered[0] + left[0], entered[1] + left[1]),
        wape_per_direction={direction: wape(*tables[direction]) for direction in Direction},
        equivalence={direction: equivalence(*tables[direction], margin, alpha) for direction in Direction},
    )


def wape(truth: Sequence[int], counted: Sequence[int]) -> float | None:
    """Sum of absolute differences over the sum of the truth; None when the truth is zero throughout."""
    return _share(sum(abs(c - t) for t, c in zip(truth, counted, strict=True)), sum(truth))


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _median(values: Sequence[float]) -> float | None:
    """Of sorted values."""
    if not values:
        return None
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2
