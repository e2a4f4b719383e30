"""What becomes of bookings: truth tables by hand, and what must hold for any room."""

from __future__ import annotations

from datetime import date
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics.domain.matching import Flag, Matches, Outcome, match_room
from analytics.domain.plan import Known, MatchRules, Plan, Version, clusters, known_at_start, own_windows
from analytics.domain.time import day_bounds, local_grid

NAN = np.float32("nan")
ORIGIN = 29_000_000


def people(*spans: tuple[int, int, float], length: int = 600) -> np.ndarray:
    """People per minute: ``(start, end, count)`` spans on an empty room."""
    series = np.zeros(length, dtype=np.float32)
    for start, end, count in spans:
        series[start:end] = count
    return series


def match(series: np.ndarray, *slots: tuple[int, int], rules: MatchRules | None = None, **plan: object) -> Matches:
    rows = [(ORIGIN + start, ORIGIN + end) for start, end in slots]
    return match_room(series, ORIGIN, Plan.of(rows, **plan), rules)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spans", "outcome"),
    [
        ([(118, 241, 20)], Outcome.HELD),
        ([], Outcome.NO_SHOW),
        ([(150, 153, 1)], Outcome.NO_SHOW),  # a caretaker looks in
        ([(140, 240, 20)], Outcome.LATE_START),
        ([(120, 200, 20)], Outcome.EARLY_END),
        ([(120, 262, 20)], Outcome.OVERRUN),
        ([(120, 240, 33)], Outcome.OVER_CAPACITY),
        ([(120, 240, 31)], Outcome.HELD),  # one more than there are seats is within what a sensor can tell
        ([(120, 240, NAN)], Outcome.UNKNOWN),
        ([(120, 180, NAN), (180, 240, 20)], Outcome.UNKNOWN),  # nobody saw whether it began
        ([(120, 240, 20), (260, 320, 25)], Outcome.HELD),  # others come later: no overrun
        ([(130, 230, 20)], Outcome.HELD),  # ten minutes are no fault
    ],
)
def test_truth_table(spans: list[tuple[int, int, float]], outcome: Outcome) -> None:
    found = match(people(*spans), (120, 240), capacity=30)
    assert Outcome(int(found.outcome[0])) is outcome
    assert found.reasons(0)


def test_attendance_is_the_plateau_and_neither_peak_nor_mean() -> None:
    series = people((120, 240, 40))
    series[120:135] = np.linspace(2, 40, 15)  # they come in one by one
    series[175:190] = 6  # a break
    series[239:243] = 70  # the next group pushes in
    found = match(series, (120, 240))
    assert found.attendance[0] == 40
    assert found.peak[0] == 70
    assert found.mean[0] < 36
    assert found.confidence[0] > 0.9


def test_begin_and_finish_are_where_half_of_the_people_come_and_go() -> None:
    found = match(people((131, 207, 20)), (120, 240))
    assert found.begin[0] - ORIGIN == pytest.approx(131, abs=0.5)
    assert found.finish[0] - ORIGIN == pytest.approx(207, abs=0.5)
    assert Flag(int(found.flags[0])) == Flag.LATE_START | Flag.EARLY_END
    assert [r.rule for r in found.reasons(0)][:2] == ["minutes_before_the_end", "minutes_after_the_start"]


def test_what_a_release_policy_could_give_back() -> None:
    assert match(people(), (120, 240)).release[0] == 110  # after ten minutes of grace
    assert match(people((120, 180, 9)), (120, 240)).release[0] == pytest.approx(60, abs=1)
    assert match(people((120, 225, 9)), (120, 240)).release[0] == 0  # too short to be worth it
    assert np.isnan(match(people((120, 240, NAN)), (120, 240)).release[0])


def test_the_academic_quarter_is_neither_late_nor_early() -> None:
    series = people((135, 240, 20))
    assert match(series, (120, 240)).outcome[0] == Outcome.LATE_START
    assert match(series, (120, 240), rules=MatchRules(start_offset=15)).outcome[0] == Outcome.HELD
    series = people((120, 225, 20))
    assert match(series, (120, 240), rules=MatchRules(end_offset=15)).outcome[0] == Outcome.HELD


def test_back_to_back_bookings_are_split_where_the_room_empties() -> None:
    found = match(people((118, 234, 20), (238, 360, 50)), (120, 240), (240, 360))
    boundary = found.own_end[0] - ORIGIN
    assert 234 <= boundary <= 238
    assert found.own_begin[1] == found.own_end[0]
    assert found.attendance.tolist() == [20, 50]
    assert (found.outcome == Outcome.HELD).all()


def test_a_no_show_between_two_full_classes_is_seen() -> None:
    found = match(people((120, 243, 40), (358, 480, 30)), (120, 240), (240, 360), (360, 480))
    assert [Outcome(int(o)) for o in found.outcome] == [Outcome.HELD, Outcome.NO_SHOW, Outcome.HELD]


def test_overlapping_bookings_are_one_cluster_that_counts_its_people_once() -> None:
    plan = Plan.of(
        [(ORIGIN + 120, ORIGIN + 240), (ORIGIN + 180, ORIGIN + 300), (ORIGIN + 180, ORIGIN + 300)],
        expected=[10, 20, 20], capacity=50,
    )  # fmt: skip
    found = match_room(people((120, 300, 30)), ORIGIN, plan)
    assert found.cluster.tolist() == [0, 0, 0]
    assert (found.flags & Flag.SHARED).all()
    assert found.attendance.tolist() == [30, 30, 30]
    assert found.clusters.expected.tolist() == [30]  # the same slot from two sources is one event


def test_touching_bookings_are_not_a_cluster() -> None:
    assert clusters(Plan.of([(0, 60), (60, 120)])).start.size == 2


def test_a_booking_without_length_is_unknown_with_its_reason_and_takes_no_minute() -> None:
    found = match(people((120, 240, 20)), (150, 150), (120, 240))
    assert found.outcome.tolist() == [Outcome.UNKNOWN, Outcome.HELD]
    assert found.reasons(0)[0].rule == "no_length"
    assert found.clusters.start.size == 1


def test_a_rest_of_a_drifting_counter_is_not_a_meeting() -> None:
    series = people((0, 600, 2))
    error = np.full(600, 3, dtype=np.float32)
    plan = Plan.of([(ORIGIN + 120, ORIGIN + 240)])
    assert match_room(series, ORIGIN, plan, error=error).outcome[0] == Outcome.NO_SHOW
    assert match_room(series, ORIGIN, plan).outcome[0] != Outcome.NO_SHOW


def test_single_lost_messages_change_nothing() -> None:
    series = people((120, 240, 20))
    series[::7] = NAN
    found = match(series, (120, 240))
    assert found.outcome[0] == Outcome.HELD
    assert found.attendance[0] == 20


def test_a_booking_outside_the_counts_is_unknown() -> None:
    found = match(people(), (5_000, 5_060), (-500, -440))
    assert (found.outcome == Outcome.UNKNOWN).all()
    empty = match_room(np.zeros(0, dtype=np.float32), ORIGIN, Plan.of([(ORIGIN, ORIGIN + 60)]))
    assert empty.outcome[0] == Outcome.UNKNOWN


def test_no_bookings_at_all() -> None:
    assert match(people()).outcome.size == 0


@pytest.mark.parametrize("day", [date(2026, 3, 29), date(2026, 10, 25), date(2028, 2, 29), date(2026, 12, 31)], ids=str)
def test_bookings_across_midnight_on_odd_days(day: date) -> None:
    zone = ZoneInfo("Europe/Amsterdam")
    start, end = day_bounds(day, zone)
    grid = local_grid(zone, start, end - start + 1_440)
    series = np.zeros(grid.length, dtype=np.float32)
    midnight = end - start
    series[midnight - 60 : midnight + 60] = 12
    series[60:240] = 7  # across the hour that is skipped or repeated
    plan = Plan.of([(end - 60, end + 60), (start + 60, start + 240)])
    found = match_room(series, start, plan)
    assert found.outcome.tolist() == [Outcome.HELD, Outcome.HELD]
    assert found.attendance.tolist() == [12, 7]


def test_breaks_of_the_site_are_no_attendance() -> None:
    zone = ZoneInfo("UTC")
    start, end = day_bounds(date(2026, 3, 2), zone)
    rules = MatchRules(breaks=((600, 720),))
    grid = local_grid(zone, start, end - start)
    series = np.zeros(grid.length, dtype=np.float32)
    series[540:800] = 30
    series[600:720] = 16  # a long lunch that most of the room leaves
    plan = Plan.of([(start + 540, start + 800)])
    assert match_room(series, start, plan, rules, breaks=rules.break_mask(grid)).attendance[0] == 30


V = Version


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        ([V(0, None, 100, True)], [(0, Known.PLANNED)]),
        ([V(0, 50, 100, True), V(50, None, 100, False)], [(0, Known.WITHDRAWN)]),
        ([V(0, 50, 100, True)], [(0, Known.WITHDRAWN)]),  # moved to another room: it has no follower here
        ([V(0, 150, 100, True), V(150, None, 100, False)], [(0, Known.WITHDRAWN_LATE)]),
        ([V(0, 50, 100, True), V(50, None, 300, True)], [(1, Known.PLANNED)]),
        ([V(0, 150, 100, True), V(150, None, 100, True)], [(0, Known.PLANNED)]),  # rewritten afterwards
        ([V(0, 150, 100, True), V(150, None, 300, True)], [(0, Known.WITHDRAWN_LATE), (1, Known.PLANNED)]),
        ([V(500, None, 100, True)], [(0, Known.PLANNED)]),  # a first pull that looks back
        ([V(500, None, 100, False)], []),
        ([V(0, 20, 100, True), V(20, 40, 100, False), V(40, None, 100, True)], [(2, Known.PLANNED)]),
    ],
)
def test_the_plan_is_the_one_known_when_a_booking_started(
    versions: list[Version], expected: list[tuple[int, Known]]
) -> None:
    assert known_at_start(versions) == expected


@pytest.mark.parametrize("wrong", [{"margin_before": -1}, {"min_people": 0}, {"min_coverage": 0.0}])
def test_wrong_rules_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MatchRules(**wrong)  # type: ignore[arg-type]


slots = st.lists(st.tuples(st.integers(0, 900), st.integers(0, 200)), max_size=12)


@settings(max_examples=150, deadline=None)
@given(slots, st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_in_any_room_minutes_belong_to_one_booking_at_most_and_figures_are_in_range(
    spans: list[tuple[int, int]], seed: int, lost: float
) -> None:
    rng = np.random.default_rng(seed)
    series = np.repeat(rng.integers(0, 4, 120), 10).astype(np.float32)
    series[rng.random(series.size) < lost] = NAN
    plan = Plan.of([(ORIGIN + start, ORIGIN + start + length) for start, length in spans], capacity=2)
    found = match_room(series, ORIGIN, plan)
    order = np.argsort(found.own_begin)
    assert (found.own_begin[order][1:] >= found.own_end[order][:-1]).all()
    begin, end = own_windows(series, ORIGIN, found.clusters, found.rules)
    assert (begin <= end).all()
    known = found.outcome != Outcome.UNKNOWN
    assert (np.isnan(found.attendance) == ~known).all()
    assert ((found.confidence >= 0) & (found.confidence <= 1.0001)).all()
    assert ((found.coverage >= 0) & (found.coverage <= 1)).all()
    assert (found.attendance[found.outcome == Outcome.NO_SHOW] == 0).all()
    assert (found.attendance[known & (found.outcome != Outcome.NO_SHOW)] >= 1).all()
    for i in range(plan.size):
        assert found.reasons(i)


@settings(max_examples=50, deadline=None)
@given(slots, st.integers(0, 2**32 - 1), st.permutations(range(12)))
def test_the_order_in_which_bookings_are_listed_does_not_matter(
    spans: list[tuple[int, int]], seed: int, order: list[int]
) -> None:
    rng = np.random.default_rng(seed)
    series = np.repeat(rng.integers(0, 5, 120), 10).astype(np.float32)
    rows = [(ORIGIN + start, ORIGIN + start + length) for start, length in spans]
    order = [i for i in order if i < len(rows)]
    one, other = (
        match_room(series, ORIGIN, Plan.of(rows)),
        match_room(series, ORIGIN, Plan.of([rows[i] for i in order])),
    )
    np.testing.assert_array_equal(one.outcome[order], other.outcome)
    np.testing.assert_array_equal(one.attendance[order], other.attendance)
