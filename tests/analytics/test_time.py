"""Minutes, local days and measuring hours."""

from __future__ import annotations

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.domain.time import (
    Calendar,
    date_of,
    day_bounds,
    day_number,
    fill_runs,
    local_grid,
    minute_of,
    moment_of,
    runs,
)

AMSTERDAM = ZoneInfo("Europe/Amsterdam")


@pytest.mark.parametrize(
    ("day", "minutes"),
    [
        (date(2026, 3, 29), 23 * 60),  # summer time begins
        (date(2026, 10, 25), 25 * 60),  # and ends
        (date(2028, 2, 29), 24 * 60),
        (date(2026, 12, 31), 24 * 60),
    ],
)
def test_a_local_day_has_the_minutes_it_has(day: date, minutes: int) -> None:
    start, end = day_bounds(day, AMSTERDAM)
    grid = local_grid(AMSTERDAM, start, end - start)
    assert end - start == minutes
    assert set(grid.day.tolist()) == {day_number(day)}
    assert grid.minute[0] == 0
    assert grid.minute[-1] == 1439


@given(
    st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2049, 12, 31)),
    st.sampled_from(["Europe/Amsterdam", "America/St_Johns", "Asia/Kathmandu", "Australia/Lord_Howe", "UTC"]),
)
def test_every_minute_has_the_local_fields_that_the_standard_library_gives(moment: datetime, name: str) -> None:
    zone = ZoneInfo(name)
    start = minute_of(moment.replace(tzinfo=UTC))
    grid = local_grid(zone, start, 2_000)
    for offset in (0, 1, 719, 1439, 1999):
        local = moment_of(start + offset).astimezone(zone)
        assert date_of(int(grid.day[offset])) == local.date()
        assert int(grid.minute[offset]) == local.hour * 60 + local.minute
        assert int(grid.weekday[offset]) == local.weekday()


def test_a_week_of_the_default_hours_is_75_hours_also_when_summer_time_changes() -> None:
    for monday in (date(2026, 3, 23), date(2026, 10, 19), date(2026, 6, 1)):
        start, end = day_bounds(monday, AMSTERDAM, date_of(day_number(monday) + 6))
        grid = local_grid(AMSTERDAM, start, end - start)
        assert Calendar(AMSTERDAM).open(grid).sum() == 75 * 60


def test_closed_days_and_periods() -> None:
    calendar = Calendar(AMSTERDAM, periods=(("week 1", 10, 16), ("all", 0, 99)))
    start, end = day_bounds(date(2026, 4, 27), AMSTERDAM)  # King's Day, a Monday
    grid = local_grid(AMSTERDAM, start, end - start)
    assert calendar.open(grid).any()
    assert not calendar.with_closed([day_number(date(2026, 4, 27))]).open(grid).any()
    assert [calendar.period_of(day) for day in (9, 10, 16, 17, 100)] == ["all", "week 1", "week 1", "all", ""]


@pytest.mark.parametrize("hours", [((),) * 6, (((600, 500),),) * 7, (((0, 1441),),) * 7, (((0, 60), (30, 90)),) * 7])
def test_wrong_measuring_hours_are_refused(hours: tuple[tuple[tuple[int, int], ...], ...]) -> None:
    with pytest.raises(ValueError, match="measuring hours"):
        Calendar(AMSTERDAM, hours)


def test_a_naive_time_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        minute_of(datetime(2026, 1, 1))


@given(st.lists(st.booleans(), max_size=60))
def test_runs_and_fill_runs_are_inverse(values: list[bool]) -> None:
    mask = np.array(values, dtype=np.bool_)
    starts, ends = runs(mask)
    assert (fill_runs(mask.size, starts, ends) == mask).all()
    assert (starts < ends).all()
