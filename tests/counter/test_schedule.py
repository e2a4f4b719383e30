"""Measuring hours: right on every day of the year, over summer time, and whatever the clock does."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from counter.agent.schedule import DAYS, Hours, HoursException, Schedule

AMSTERDAM = ZoneInfo("Europe/Amsterdam")
YEAR = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
ZONES = ["Europe/Amsterdam", "UTC", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Casablanca"]


def at(text: str, zone: ZoneInfo = AMSTERDAM, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp()


@pytest.mark.parametrize(
    ("moment", "measured"),
    [
        ("2026-03-02T06:59:59", False),  # a Monday
        ("2026-03-02T07:00:00", True),
        ("2026-03-02T21:59:59", True),
        ("2026-03-02T22:00:00", False),
        ("2026-03-06T12:00:00", True),  # a Friday
        ("2026-03-07T12:00:00", False),  # a Saturday
        ("2026-03-08T12:00:00", False),
        ("2026-03-30T07:00:00", True),  # the Monday after the clocks went forward
        ("2026-03-30T06:59:59", False),
        ("2026-10-26T21:59:59", True),  # the Monday after they went back
        ("2026-10-26T22:00:00", False),
    ],
)
def test_the_default_is_monday_to_friday_seven_to_ten_on_the_sites_own_clock(moment: str, measured: bool) -> None:
    assert Schedule(Hours()).is_open(at(moment)) is measured


def test_a_window_over_the_hour_that_is_skipped_or_comes_twice() -> None:
    night = Schedule(Hours(sun=("02:15-02:45",)))  # type: ignore[arg-type]
    spring, autumn = at("2026-03-29T00:00:00"), at("2026-10-25T00:00:00")
    assert not any(night.is_open(spring + minute * 60) for minute in range(6 * 60))  # 02:15 is not on that day
    assert sum(night.is_open(autumn + minute * 60) for minute in range(6 * 60)) == 60  # and twice on that one


def test_exceptions_replace_the_day_and_the_last_one_holds() -> None:
    hours = Hours(
        exceptions=(
            HoursException(first=date(2026, 12, 21), last=date(2027, 1, 1)),
            HoursException(first=date(2026, 12, 23), windows=("09:00-12:00",)),  # type: ignore[arg-type]
            HoursException(first=date(2026, 12, 19), windows=("10:00-11:00",)),  # type: ignore[arg-type]
        )
    )
    schedule = Schedule(hours)
    assert not schedule.is_open(at("2026-12-22T10:00:00"))
    assert schedule.is_open(at("2026-12-23T10:00:00"))
    assert not schedule.is_open(at("2026-12-23T13:00:00"))
    assert schedule.is_open(at("2026-12-19T10:30:00"))  # a Saturday
    assert schedule.is_open(at("2027-01-04T10:30:00"))


minutes = st.integers(0, 24 * 60)
windows = st.lists(st.tuples(minutes, minutes).filter(lambda w: w[0] < w[1]), max_size=3).map(
    lambda found: tuple(w for i, w in enumerate(sorted(found)) if not i or w[0] >= max(x[1] for x in sorted(found)[:i]))
)
weeks = st.builds(
    lambda zone, days, gone: Hours(
        zone=zone,
        exceptions=(HoursException(first=gone),),
        **dict(zip(DAYS, days, strict=True)),
    ),
    st.sampled_from(ZONES),
    st.tuples(*[windows] * 7),
    st.dates(date(2026, 1, 1), date(2026, 12, 31)),
)


@settings(max_examples=60, deadline=None)
@given(weeks, st.integers(0, 365 * 24 * 3600))
def test_a_moment_is_open_exactly_when_the_wall_clock_says_so(hours: Hours, seconds: int) -> None:
    utc = YEAR + seconds
    wall = datetime.fromtimestamp(utc, ZoneInfo(hours.zone))
    minute = wall.hour * 60 + wall.minute
    assert Schedule(hours).is_open(utc) == any(b <= minute < e for b, e in hours.windows(wall.date()))


@settings(max_examples=30, deadline=None)
@given(weeks, st.integers(0, 300 * 24 * 3600))
def test_the_next_change_is_the_first(hours: Hours, seconds: int) -> None:
    schedule, utc = Schedule(hours), YEAR + seconds
    state, change = schedule.is_open(utc), schedule.next_change(utc)
    horizon = utc + 8 * 24 * 3600 if change is None else change
    assert change is None or (schedule.is_open(change) != state and schedule.is_open(change - 1) == state)
    moment = utc - utc % 60 + 60
    while moment < min(horizon - 60, utc + 3 * 24 * 3600):
        assert schedule.is_open(moment) == state
        moment += 60


@settings(max_examples=40, deadline=None)
@given(weeks, st.integers(0, 365 * 24), st.sampled_from([1, 60, 300, 3600]))
def test_an_interval_touches_the_hours_when_any_of_its_minutes_does(hours: Hours, hour: int, seconds: int) -> None:
    schedule, start = Schedule(hours), YEAR + hour * 3600
    expected = any(schedule.is_open(start + s) for s in range(0, seconds, min(seconds, 60)))
    assert schedule.touches(start, seconds) == expected


def test_both_changes_of_summer_time_give_days_of_23_and_25_hours() -> None:
    always = Schedule(Hours(**dict.fromkeys(DAYS[:6], ("00:00-24:00",))))  # type: ignore[arg-type]
    for day in ("2026-03-28", "2026-10-24"):  # Saturdays; the Sunday after is closed
        closes = always.next_change(at(f"{day}T12:00:00"))
        assert closes is not None
        opens = always.next_change(closes)
        assert opens is not None
        assert timedelta(seconds=opens - closes) == timedelta(hours=23 if day.startswith("2026-03") else 25)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"mon": ["22:00-07:00"]}, "ends before it begins"),
        ({"mon": ["07:00-12:00", "11:00-13:00"]}, "overlaps"),
        ({"mon": ["7-22"]}, "HH:MM"),
        ({"mon": ["07:00-24:30"]}, "from 00:00 to 24:00"),
        ({"zone": "Amsterdam"}, "did you mean Europe/Amsterdam"),
        ({"zone": "../../etc/passwd"}, "no such time zone"),
        ({"exceptions": [{"first": "2026-05-02", "last": "2026-05-01"}]}, "lies before"),
    ],
)
def test_hours_that_mean_nothing_are_refused_with_a_reason(values: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Hours.model_validate(values)
