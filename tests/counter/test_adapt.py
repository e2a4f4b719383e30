"""The pace: full while something moves, low while nothing does, never more than board and temperature allow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counter.agent.adapt import Pace


def drive(
    pace: Pace, begin: float, seconds: float, *, work: float, moves: bool, offered: float | None = None
) -> list[float]:
    """Look whenever it is due, or as soon as the last look is over; gives the moments."""
    looks, now = [], begin
    while now < begin + seconds:
        now = max(now, pace.due(now))
        looks.append(now)
        pace.looked(now, now + work, inferred=moves, offered=offered)
        now += work
    return looks


def rate(looks: list[float]) -> float:
    return (len(looks) - 1) / (looks[-1] - looks[0])


def test_the_rate_follows_motion() -> None:
    pace = Pace(15.0, 3.0, 5.0)
    assert 2.9 < rate(drive(pace, 0.0, 10.0, work=0.01, moves=False)) < 3.1
    busy = drive(pace, 10.0, 10.0, work=0.01, moves=True)
    assert rate(busy[3:]) > 14.0
    calm = drive(pace, 20.0, 20.0, work=0.01, moves=False)
    assert rate([t for t in calm if t > 26.0]) < 3.1


def test_somebody_who_comes_is_looked_at_again_at_once() -> None:
    pace = Pace(15.0, 2.0, 5.0)
    pace.looked(0.0, 0.01, inferred=False)
    assert pace.due(0.0) == 0.5
    pace.looked(0.5, 0.51, inferred=True)
    assert pace.due(0.5) < 0.5 + 0.07


def test_a_slow_network_lowers_the_rate_and_is_reported_after_ten_seconds() -> None:
    pace = Pace(15.0, 5.0, 5.0, share=1.0)
    drive(pace, 0.0, 8.0, work=0.4, moves=True)
    assert not pace.overloaded
    looks = drive(pace, 8.0, 10.0, work=0.4, moves=True)
    assert pace.overloaded
    assert rate(looks) < 2.6
    drive(pace, 20.0, 60.0, work=0.01, moves=True)
    assert not pace.overloaded


def test_the_share_of_the_cpu_is_kept() -> None:
    pace = Pace(15.0, 5.0, 1.0, share=0.5)
    looks = drive(pace, 0.0, 20.0, work=0.1, moves=True)
    assert 4.8 < rate(looks[20:]) < 5.1


def test_heat_lowers_the_rate_to_a_quarter_and_says_so() -> None:
    pace = Pace(16.0, 5.0, 5.0, warm=75.0, hot=85.0)
    for heat, expected in ((None, 16.0), (60.0, 16.0), (80.0, 10.0), (85.0, 4.0), (99.0, 4.0)):
        pace.temperature = heat
        assert abs(pace.affordable() - expected) < 1e-9
    drive(pace, 0.0, 30.0, work=0.01, moves=True)
    assert pace.overloaded  # four a second are too few at a door
    pace.temperature = 60.0
    drive(pace, 30.0, 30.0, work=0.01, moves=True)
    assert not pace.overloaded


@pytest.mark.parametrize(
    ("asked", "offered", "reached", "overloaded"),
    [
        # asked for, the camera gives, the board manages (looks/s; the least at a door is 5)
        (10.0, 15.0, 9.8, False),
        (10.0, 15.0, 9.1, False),  # nine tenths are enough
        (10.0, 15.0, 8.9, True),
        (10.0, 15.0, 8.5, True),  # what 14 cameras got on two cores: more than the least, less than was asked for
        (10.0, 9.0, 8.9, False),  # the camera gives no more
        (10.0, 9.0, 8.0, True),
        (10.0, None, 8.5, False),  # not known what it gives: the least holds
        (10.0, None, 4.4, True),
        (10.0, 4.0, 4.0, True),  # too few at a door, whoever is to blame
        (None, 15.0, 6.0, False),  # nobody asked for a rate: as many as the board can do
        (None, 15.0, 4.6, False),
        (None, 15.0, 4.4, True),
        (3.0, 15.0, 2.8, False),  # fewer than the least were asked for
        (3.0, 15.0, 2.6, True),
    ],
)
def test_overloaded_is_below_nine_tenths_of_what_counting_needs_and_of_what_was_asked_for(
    asked: float | None, offered: float | None, reached: float, overloaded: bool
) -> None:
    most = asked or 15.0
    pace = Pace(most, most, min(5.0, most), share=1.0, asked=asked)
    drive(pace, 0.0, 9.0, work=1.0 / reached, moves=True, offered=offered)
    assert not pace.overloaded  # not before ten seconds of motion
    drive(pace, 9.0, 12.0, work=1.0 / reached, moves=True, offered=offered)
    assert pace.overloaded is overloaded
    assert pace.reached is not None
    assert abs(pace.reached - reached) < 0.2


def test_motion_in_pieces_is_judged_together() -> None:
    pace = Pace(10.0, 2.0, 5.0, share=1.0, asked=10.0)
    for minute, overloaded in enumerate((False, False, True)):  # four seconds of somebody a minute
        drive(pace, 60.0 * minute, 4.2, work=0.125, moves=True, offered=15.0)
        assert pace.overloaded is overloaded
        drive(pace, 60.0 * minute + 5.0, 50.0, work=0.01, moves=False, offered=15.0)
    assert pace.overloaded  # a look still costs too much
    pace.work = 0.01
    drive(pace, 180.0, 10.0, work=0.01, moves=False, offered=15.0)
    assert not pace.overloaded


def test_a_camera_that_is_away_is_no_overload() -> None:
    pace = Pace(15.0, 5.0, 5.0)
    drive(pace, 0.0, 20.0, work=0.4, moves=True)
    pace.pause()
    assert not pace.overloaded
    assert pace.due(100.0) == 100.0


@given(
    st.floats(0.2, 30.0),
    st.floats(0.0, 2.0),
    st.floats(0.1, 1.0),
    st.one_of(st.none(), st.floats(-20.0, 150.0)),
    st.lists(st.booleans(), min_size=1, max_size=60),
)
def test_the_rate_is_never_above_the_wish_and_looks_never_queue_up(
    most: float, work: float, share: float, heat: float | None, moves: list[bool]
) -> None:
    pace = Pace(most, most / 2, most / 4, share)
    pace.temperature = heat
    now = 0.0
    for move in moves:
        due = pace.due(now)
        assert due <= now + 1.0 / 0.05 + 1e-6  # and it never stops looking
        now = max(now, due)
        pace.looked(now, now + work, inferred=move)
        assert pace.rate(now) <= most + 1e-9
        assert pace.due(now) >= now + 1.0 / most - 1e-9
        now += work
