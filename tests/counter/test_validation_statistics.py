"""The figures of a validation: truth tables, properties, and a check against SciPy."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counter.types import Direction
from counter.validation.statistics import Event, Verdict, equivalence, evaluate, match_events, wape
from counter.validation.student import t_cdf, t_quantile

IN, OUT = Direction.ENTERED, Direction.LEFT
EVENTS = st.lists(st.builds(Event, st.integers(0, 60).map(lambda k: k / 4), st.sampled_from([IN, OUT])), max_size=9)


def entered(*times: float) -> list[Event]:
    return [Event(t, IN) for t in times]


# -- Student's t


@pytest.mark.parametrize("df", [1, 2, 3.5, 9, 29, 500, 1e6])
@pytest.mark.parametrize("t", [-40.0, -3.0, -1e-3, 0.0, 0.5, 1.96, 12.0])
def test_t_as_scipy_has_it(df: float, t: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    assert t_cdf(t, df) == pytest.approx(stats.t.cdf(t, df), rel=1e-9, abs=1e-14)


@given(st.floats(1e-6, 1 - 1e-6), st.floats(1, 1e4))
def test_quantile_is_the_inverse(p: float, df: float) -> None:
    assert t_cdf(t_quantile(p, df), df) == pytest.approx(p, rel=1e-7)


def test_t_refuses_nonsense() -> None:
    for call in (lambda: t_cdf(1.0, 0.0), lambda: t_cdf(math.nan, 3), lambda: t_quantile(1.0, 3)):
        with pytest.raises(ValueError, match="expected"):
            call()
    assert (t_cdf(math.inf, 3), t_cdf(-math.inf, 3)) == (1.0, 0.0)


# -- matching


@pytest.mark.parametrize(
    ("truth", "counted", "pairs"),
    [
        ([], [], []),
        (entered(1.0), entered(1.9), [(0, 0)]),
        (entered(1.0), entered(2.0), [(0, 0)]),  # the tolerance belongs to it
        (entered(1.0), entered(2.01), []),
        (entered(1.0), [Event(1.0, OUT)], []),  # the other way is another event
        (entered(1.0, 1.3), entered(1.1), [(0, 0)]),  # one event is one person
        (entered(0.0, 1.0), entered(1.0, 2.0), [(0, 0), (1, 1)]),  # two pairs, not one perfect one
        (entered(0.0, 0.8), entered(0.9), [(1, 0)]),  # the nearer one
    ],
)
def test_matching(truth: list[Event], counted: list[Event], pairs: list[tuple[int, int]]) -> None:
    assert match_events(truth, counted, 1.0) == pairs


@settings(max_examples=150, deadline=None)
@given(EVENTS, EVENTS, st.sampled_from([0.0, 0.25, 1.0, 3.0]))
def test_matching_is_the_best_there_is(truth: list[Event], counted: list[Event], tolerance: float) -> None:
    pairs = match_events(truth, counted, tolerance)
    assert len({i for i, _ in pairs}) == len(pairs) == len({j for _, j in pairs})
    for i, j in pairs:
        assert truth[i].direction == counted[j].direction
        assert abs(truth[i].t - counted[j].t) <= tolerance
    ours = -len(pairs), sum(abs(truth[i].t - counted[j].t) for i, j in pairs)
    best = _assignment(truth, counted, tolerance)
    assert ours == (best[0], pytest.approx(best[1]))


def _assignment(truth: list[Event], counted: list[Event], tolerance: float) -> tuple[int, float]:
    """The same by a general solver: a pair is worth more than all differences together."""
    optimise = pytest.importorskip("scipy.optimize")
    if not truth or not counted:
        return 0, 0.0
    none = 1e6
    cost = [
        [abs(a.t - b.t) if a.direction is b.direction and abs(a.t - b.t) <= tolerance else none for b in counted]
        for a in truth
    ]
    rows, columns = optimise.linear_sum_assignment(cost)
    taken = [cost[i][j] for i, j in zip(rows, columns, strict=True) if cost[i][j] < none]
    return -len(taken), sum(taken)


@settings(deadline=None)
@given(EVENTS, st.floats(-0.9, 0.9), st.permutations(range(9)))
def test_a_constant_lag_within_the_tolerance_changes_nothing(events: list[Event], lag: float, order: list[int]) -> None:
    shifted = [Event(events[k].t + lag, events[k].direction) for k in order if k < len(events)]
    assert len(match_events(events, shifted, 1.0)) == len(events)


# -- equivalence


def test_equivalence_by_hand() -> None:
    """Differences 1, 0, -1, 2 of truths of 10: mean 0.5, variance 5/3, standard error 0.645; t(0.95, 3) = 2.353."""
    test = equivalence([10, 10, 10, 10], [11, 10, 9, 12], margin=0.05)
    assert test.bias == pytest.approx(0.05)
    assert test.low == pytest.approx(0.05 - 2.3534 * 0.06455, abs=1e-4)
    assert test.high == pytest.approx(0.05 + 2.3534 * 0.06455, abs=1e-4)
    assert test.verdict is Verdict.UNDECIDED


@pytest.mark.parametrize(
    ("truth", "counted", "verdict"),
    [
        ([5] * 30, [5] * 30, Verdict.PASSED),
        ([1] * 3, [1] * 3, Verdict.UNDECIDED),  # three people without an error show nothing
        ([1] * 34, [1] * 34, Verdict.PASSED),  # the fewest that do at 5 %: t(0.95, 33) / 34 = 4.98 %
        ([1] * 33, [1] * 33, Verdict.UNDECIDED),
        ([5] * 30, [4] * 30, Verdict.FAILED),  # always too few, and surely so
        ([5] * 30, [6] * 30, Verdict.FAILED),
        ([5] * 30, [0, 10] * 15, Verdict.UNDECIDED),  # right in the sum, wild in between
        ([], [], Verdict.UNDECIDED),
        ([0] * 9, [1] * 9, Verdict.UNDECIDED),  # nobody came: there is no relative bias
        ([8], [8], Verdict.UNDECIDED),
    ],
)
def test_verdicts(truth: list[int], counted: list[int], verdict: Verdict) -> None:
    assert equivalence(truth, counted).verdict is verdict


COUNTS = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=2, max_size=40)


@given(COUNTS, st.floats(0.01, 0.5), st.floats(0.01, 0.2))
def test_interval_and_tests_agree(rows: list[tuple[int, int]], margin: float, alpha: float) -> None:
    """The confidence interval lies inside the margin exactly when both one-sided tests reject."""
    truth, counted = [a for a, _ in rows], [b for _, b in rows]
    test = equivalence(truth, counted, margin, alpha)
    if test.p_value is None:
        assert sum(truth) == 0
        return
    assert test.low is not None
    assert test.bias is not None
    assert test.high is not None
    assert test.low < test.bias < test.high
    if abs(test.p_value - alpha) > 1e-9:
        assert (test.verdict is Verdict.PASSED) == (test.p_value < alpha)
    if test.verdict is Verdict.PASSED:  # a wider margin never takes a pass back
        assert equivalence(truth, counted, margin + 0.1, alpha).verdict is Verdict.PASSED


@given(COUNTS)
def test_too_many_is_the_mirror_of_too_few(rows: list[tuple[int, int]]) -> None:
    truth, counted = [a for a, _ in rows], [b for _, b in rows]
    mirrored = equivalence(truth, [2 * a - b for a, b in rows])
    test = equivalence(truth, counted)
    if test.bias is not None and test.low is not None and test.high is not None:
        assert mirrored.bias == pytest.approx(-test.bias)
        assert mirrored.low == pytest.approx(-test.high)
    assert mirrored.verdict is test.verdict


def test_the_risk_is_kept() -> None:
    """A sensor whose bias is exactly the margin passes in about alpha of all windows, never much more."""
    chance = random.Random(4)
    passed = 0
    for _ in range(800):
        truth = [chance.randint(2, 8) for _ in range(25)]
        counted = [sum(chance.random() >= 0.1 for _ in range(people)) for people in truth]  # misses 10 %
        passed += equivalence(truth, counted, margin=0.10).verdict is Verdict.PASSED
    assert passed / 800 < 0.08


def test_needed_is_enough() -> None:
    """As many more intervals of the same kind as it asks for do decide it."""
    truth, counted = [3, 4, 2, 5] * 3, [3, 4, 3, 5, 3, 3, 2, 5, 3, 4, 2, 5]
    test = equivalence(truth, counted)
    assert test.verdict is Verdict.UNDECIDED
    assert test.needed is not None
    times = math.ceil(test.needed / len(truth))
    assert equivalence(truth * times, counted * times).verdict is Verdict.PASSED


@pytest.mark.parametrize("wrong", [{"margin": 0.0}, {"margin": 1.0}, {"alpha": 0.5}, {"alpha": 0.0}])
def test_wrong_numbers(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected margin"):
        equivalence([1], [1], **wrong)
    with pytest.raises(ValueError, match="intervals of truth"):
        equivalence([1], [1, 2])


# -- a whole window


def test_a_window() -> None:
    truth = [*entered(5.0, 30.0, 59.9, 100.0), Event(70.0, OUT)]
    counted = [*entered(5.4, 60.2, 100.4, 110.0), Event(70.3, OUT)]
    result = evaluate(truth, counted, 0.0, 120.0)
    assert (result.agreement.matched, result.agreement.missed, result.agreement.extra) == (4, 1, 1)
    assert result.agreement.precision == pytest.approx(4 / 5)
    assert result.per_direction[OUT].recall == 1.0
    assert result.agreement.lag == pytest.approx(0.35)
    # The one at 59.9 was seen at 60.2: a matched pair is filed where the person saw it, and is no error.
    assert [(r.truth_entered, r.counted_entered) for r in result.intervals] == [(3, 2), (1, 2)]
    assert result.wape_per_direction[IN] == pytest.approx(2 / 4)
    assert result.wape == pytest.approx(2 / 5)


def test_edges_of_the_window_are_no_errors() -> None:
    """A tap at 10.0 begins inside, its event just before; a tap after the end is nobody's miss."""
    result = evaluate(entered(10.0, 70.2), entered(9.6, 69.9), 10.0, 70.0)
    assert (result.agreement.matched, result.agreement.missed, result.agreement.extra) == (1, 0, 0)
    result = evaluate([], entered(9.6, 70.4), 10.0, 70.0)
    assert result.agreement.extra == 0


@settings(max_examples=60, deadline=None)
@given(EVENTS, EVENTS, st.floats(1.0, 20.0))
def test_sums_fit(truth: list[Event], counted: list[Event], interval: float) -> None:
    """Whatever the intervals: the table's sums are the agreement's."""
    result = evaluate(truth, counted, 2.0, 13.0, interval=interval)
    parts = result.per_direction.values()
    assert sum(p.matched + p.missed for p in parts) == sum(r.truth_entered + r.truth_left for r in result.intervals)
    assert sum(p.matched + p.extra for p in parts) == sum(r.counted_entered + r.counted_left for r in result.intervals)
    for share in (result.agreement.precision, result.agreement.recall):
        assert share is None or 0.0 <= share <= 1.0


def test_a_direction_nobody_took_is_not_held_against() -> None:
    truth = entered(*range(0, 600, 10))
    assert evaluate(truth, truth, 0.0, 600.0).verdict is Verdict.PASSED
    ghosts = [*truth, Event(33.0, OUT)]
    assert evaluate(truth, ghosts, 0.0, 600.0).verdict is Verdict.UNDECIDED


def test_wape_of_nothing_is_unknown() -> None:
    assert wape([0, 0], [1, 0]) is None
    assert wape([2, 2], [1, 3]) == pytest.approx(0.5)


def test_speed_of_a_crowd() -> None:
    """A pause-less hour of 4,000 passages still ends: one cluster is the worst case."""
    times = list(itertools.accumulate([0.9] * 1_000))
    assert len(match_events(entered(*times), entered(*[t + 0.2 for t in times]), 1.0)) == 1_000


def test_no_window() -> None:
    with pytest.raises(ValueError, match="start < end"):
        evaluate([], [], 5.0, 5.0)
