"""The parts under the pages with figures: the cache, the filter in an address, the charts."""

from __future__ import annotations

import json
import threading
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import QueryParams

from analytics.assemble import Site
from analytics.domain.model import Building, Organisation, Period, Room
from analytics.web.portal import charts
from analytics.web.portal.language import Language
from analytics.web.portal.pages.figures_cache import FreshCache
from analytics.web.portal.pages.figures_filter import Filter, number_order, read_filter, usual_period
from analytics.web.portal.visit import Visit

T = Language("en", ZoneInfo("Europe/Amsterdam"))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_cache_computes_once_and_again_when_old() -> None:
    clock, made = Clock(), []
    cache = FreshCache(clock=clock, background=False)

    def make() -> int:
        made.append(1)
        return len(made)

    assert [cache.get("k", make, fresh=10, keep=60) for _ in range(3)] == [1, 1, 1]
    clock.now = 11
    assert cache.get("k", make, fresh=10, keep=60) == 2


def test_readers_get_the_old_value_while_a_new_one_is_made() -> None:
    clock, gate, done = Clock(), threading.Event(), threading.Event()
    cache = FreshCache(clock=clock)
    assert cache.get("k", lambda: "old", fresh=10, keep=60) == "old"
    clock.now = 20

    def slow() -> str:
        assert gate.wait(10)
        done.set()
        return "new"

    assert cache.get("k", slow, fresh=10, keep=60) == "old"
    assert cache.get("k", lambda: pytest.fail("two at once"), fresh=10, keep=60) == "old"
    gate.set()
    assert done.wait(10)
    for _ in range(1000):
        if cache.get("k", lambda: "new", fresh=10, keep=60) == "new":
            break
        threading.Event().wait(0.005)
    else:
        pytest.fail("the new value never came")


def test_nobody_gets_a_value_older_than_it_may_be() -> None:
    clock = Clock()
    cache = FreshCache(clock=clock)
    cache.get("k", lambda: "old", fresh=10, keep=60)
    clock.now = 60
    assert cache.get("k", lambda: "new", fresh=10, keep=60) == "new"


def test_a_fault_reaches_the_reader_and_is_not_kept() -> None:
    cache = FreshCache()

    def broken() -> int:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        cache.get("k", broken, fresh=1, keep=2)
    assert cache.get("k", lambda: 7, fresh=1, keep=2) == 7


def test_a_fault_in_the_background_leaves_the_old_value(caplog: pytest.LogCaptureFixture) -> None:
    clock, tried = Clock(), threading.Event()
    cache = FreshCache(clock=clock)
    cache.get("k", lambda: "old", fresh=10, keep=60)
    clock.now = 20

    def broken() -> str:
        tried.set()
        raise OSError("gone")

    assert cache.get("k", broken, fresh=10, keep=60) == "old"
    assert tried.wait(10)
    assert cache.get("k", lambda: "later", fresh=30, keep=60) == "old"


def test_the_least_read_values_go_first() -> None:
    cache = FreshCache(size=2, background=False)
    for key in ("a", "b", "a", "c"):
        cache.get(key, lambda key=key: key, fresh=99, keep=99)
    assert cache.get("a", lambda: "again", fresh=99, keep=99) == "a"
    assert cache.get("b", lambda: "again", fresh=99, keep=99) == "again"


def test_what_takes_long_is_not_waited_for() -> None:
    cache, gate = FreshCache(), threading.Event()
    assert cache.soon("k", lambda: gate.wait(10), fresh=9, keep=99, patience=0.02) is None
    assert cache.soon("k", lambda: pytest.fail("twice"), fresh=9, keep=99, patience=0.02) is None
    gate.set()
    assert cache.soon("k", lambda: True, fresh=9, keep=99, patience=10) is True


# --- filters -------------------------------------------------------------------------------------------------------

PERIODS = tuple(
    Period(f"Week {i}", date(2026, 9, 7) + timedelta(weeks=i), date(2026, 9, 14) + timedelta(weeks=i)) for i in range(4)
)
BUILDINGS = {b: Building("o", b, b.title()) for b in ("a b", "c&d", "é")}
ROOMS = {r: Room("o", r, "a b", r, room_class=c) for r, c in (("1", "small"), ("2", "a=b&c"))}
MASTER = Site(Organisation("o", "O", periods=PERIODS), BUILDINGS, ROOMS, [], {})


def visit() -> Visit:
    return Visit(None, None, MASTER.organisation, None, tuple(BUILDINGS.values()), T)  # type: ignore[arg-type]


days = st.dates(date(2020, 1, 1), date(2030, 1, 1))


@given(
    days,
    st.integers(1, 700),
    st.lists(st.sampled_from(sorted(BUILDINGS)), unique=True),
    st.sampled_from(["", "small", "a=b&c"]),
    st.lists(st.integers(0, 6), unique=True, max_size=6),
    st.lists(st.sampled_from([p.name for p in PERIODS]), unique=True),
    st.lists(days, unique=True, max_size=5),
    st.sampled_from(["", "a_"]),
)
def test_a_link_brings_the_same_choice_back(
    start: date, length: int, buildings: list[str], room_class: str, weekdays: list[int], periods: list[str],
    without: list[date], prefix: str,
) -> None:  # fmt: skip
    choice = Filter(
        start, start + timedelta(days=length), tuple(buildings), room_class, tuple(sorted(weekdays)), tuple(periods),
        tuple(sorted(without)),
    )  # fmt: skip
    usual = (date(2026, 1, 5), date(2026, 2, 2))
    assert read_filter(QueryParams(choice.query(prefix)), visit(), MASTER, usual, prefix=prefix) == choice


@given(st.text(max_size=60), st.sampled_from(["from", "to", "class", "weekday", "period", "without"]))
def test_nothing_in_an_address_breaks_a_page(text: str, name: str) -> None:
    usual = (date(2026, 1, 5), date(2026, 2, 2))
    found = read_filter(QueryParams([(name, text)]), visit(), MASTER, usual)
    assert found.start < found.end
    assert found.days <= 731


@given(days, st.none() | st.tuples(days, days).map(lambda pair: (min(pair), max(pair))))
def test_the_usual_period_is_whole_weeks_that_are_over(today: date, measured: tuple[date, date] | None) -> None:
    start, end = usual_period(today, measured)
    assert start.weekday() == 0
    assert start < end
    if measured is None or measured[0] < today - timedelta(days=7):
        assert (end - start) == timedelta(weeks=4) or measured is not None
        assert end <= today


def test_a_newcomer_sees_the_days_there_are() -> None:
    wednesday = date(2026, 9, 30)
    assert usual_period(wednesday, (wednesday, wednesday)) == (date(2026, 9, 28), date(2026, 10, 1))
    assert usual_period(wednesday, (date(2026, 9, 28), wednesday)) == (date(2026, 9, 28), wednesday)
    assert usual_period(wednesday, (date(2026, 9, 21), wednesday)) == (date(2026, 8, 31), date(2026, 9, 28))


def test_rooms_are_sorted_as_people_count() -> None:
    numbers = ["2.10", "2.9", "1.1", "A12", "A2", "10", "9"]
    assert sorted(numbers, key=number_order) == ["1.1", "2.9", "2.10", "9", "10", "A2", "A12"]


# --- charts --------------------------------------------------------------------------------------------------------


def test_gaps_stay_gaps_and_above_100_percent_is_shown() -> None:
    figure = charts.lines(
        T, ["wk 1", "wk 2"], [("planned", [0.5, None], "#000", "dash"), ("m", [1.4, 0.1], "#111", "solid")]
    )
    assert figure["data"][0]["y"] == [0.5, None]
    assert figure["data"][0]["connectgaps"] is False
    assert figure["layout"]["yaxis"]["range"][1] > 1.4
    low = charts.lines(T, ["wk 1"], [("m", [0.2], "#111", "solid")])
    assert low["layout"]["yaxis"]["range"] == [0, 1.0]


def test_a_heat_map_has_one_scale_and_empty_cells() -> None:
    figure = charts.heat(T, [7, 8], [[None, 0.5]] * 7)
    trace = figure["data"][0]
    assert (trace["type"], trace["zmin"], trace["zmax"], trace["hoverongaps"]) == ("heatmap", 0, 1, False)
    assert trace["z"][0] == [None, 0.5]
    light = [sum(int(colour[i : i + 2], 16) for i in (1, 3, 5)) for _, colour in charts.SCALE]
    assert light == sorted(light, reverse=True), "told apart by light alone"
    assert charts.NO_DATA not in [colour for _, colour in charts.SCALE]


def test_a_day_draws_steps_blocks_and_the_limit() -> None:
    line = charts.DayLine(
        [0, 10, 20], [3, None, 5], ["07:00", "07:10", "07:20"], [(0, "07:00")], (0, 60), 30,
        [charts.Block(0, 30, 25, "x"), charts.Block(30, 60, None, "y")],
    )  # fmt: skip
    figure = charts.day(T, line)
    traces = {trace.get("name"): trace for trace in figure["data"]}
    assert traces["measured"]["line"]["shape"] == "hv"
    assert traces["measured"]["connectgaps"] is False
    assert traces["seats"]["y"] == [30, 30]
    assert max(v for v in traces["planned (people expected)"]["y"] if v is not None) == 25
    assert traces["planned (size not known)"]["line"]["dash"] == "dot"
    assert json.dumps(figure, allow_nan=False)


def test_the_ids_that_keep_plotly_from_writing_styles_are_found() -> None:
    assert charts.style_ids()
    assert all(len(found) == 64 for found in charts.style_ids())
