"""Counts of heads beside the sensor's, the verdict of both together, and the report in two languages."""

from __future__ import annotations

import ast
import json
import re
import statistics
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from counter.types import Direction
from counter.validation import cli, pages, report
from counter.validation.data import Window, load_window, save_window
from counter.validation.language import Language, catalogue
from counter.validation.presence import NEAR_SECONDS, Heads, compare
from counter.validation.report import Findings, conclusion
from counter.validation.statistics import Event, Verdict, evaluate, together
from counter.validation.student import t_quantile

START, END = 1_000_000.0, 1_003_600.0
MARGIN, ALPHA = 0.05, 0.05


def moments(*people: int, every: float = 100.0) -> list[Heads]:
    return [Heads(START + 50.0 + every * i, count) for i, count in enumerate(people)]


def test_by_hand() -> None:
    presence = compare(moments(10, 12, 8, 10), moments(10, 11, 8, 12), START, END, MARGIN, ALPHA)
    assert presence is not None
    assert [(m.truth, m.counted) for m in presence.moments] == [(10, 10), (12, 11), (8, 8), (10, 12)]
    assert presence.error is not None
    assert presence.bias is not None
    assert (presence.error.value, presence.bias.value) == (0.75, 0.25)
    assert (presence.exact, presence.within_one, presence.wape) == (0.5, 0.75, 3 / 40)
    reach = t_quantile(0.95, 3) * statistics.stdev([0, -1, 0, 2]) / 2.0
    assert (presence.bias.low, presence.bias.high) == (pytest.approx(0.25 - reach), pytest.approx(0.25 + reach))
    assert presence.error.low == 0.0  # an error is never below nothing
    assert presence.test.bias == pytest.approx(0.25 / 10.0)
    assert presence.test.low == pytest.approx((0.25 - reach) / 10.0)
    assert presence.sure == pytest.approx(0.9)


def test_the_looks_around_a_moment_speak_for_it() -> None:
    at = START + 100.0
    looks = [Heads(at + d, n) for d, n in ((-5.1, 90), (-4.0, 3), (-2.0, 4), (0.0, 4), (2.0, 9), (5.1, 90))]
    presence = compare([Heads(at, 4)], looks, START, END, MARGIN, ALPHA)
    assert presence is not None
    assert presence.moments[0].counted == 4
    assert presence.test.verdict is Verdict.UNDECIDED
    assert presence.bias is not None
    assert presence.bias.low is None


def test_moments_at_which_the_sensor_did_not_look_are_left_out_and_said() -> None:
    presence = compare(moments(5, 5, 5), moments(5, 5), START, END, MARGIN, ALPHA)
    assert presence is not None
    assert (presence.unknown, presence.test.intervals) == (1, 2)
    blind = compare(moments(5, 5), [], START, END, MARGIN, ALPHA)
    assert blind is not None
    assert (blind.error, blind.bias, blind.exact, blind.wape) == (None, None, None, None)
    assert blind.test.verdict is Verdict.UNDECIDED


def test_nobody_counted_heads() -> None:
    assert compare([], moments(1, 2), START, END, MARGIN, ALPHA) is None
    assert compare([Heads(END, 1)], moments(1, 2), START, END, MARGIN, ALPHA) is None


PAIRS = st.lists(st.tuples(st.integers(0, 80), st.integers(0, 80)), min_size=2, max_size=30)


@given(PAIRS)
def test_what_must_hold_of_any_moments(pairs: list[tuple[int, int]]) -> None:
    truth, counted = [t for t, _ in pairs], [c for _, c in pairs]
    presence = compare(moments(*truth), moments(*counted), START, END, MARGIN, ALPHA)
    assert presence is not None
    error, bias = presence.error, presence.bias
    assert error is not None
    assert bias is not None
    assert error.value >= abs(bias.value) - 1e-9
    assert presence.exact is not None
    assert presence.within_one is not None
    assert 0.0 <= presence.exact <= presence.within_one <= 1.0
    for mean in (error, bias):
        assert mean.low is not None
        assert mean.high is not None
        assert mean.low <= mean.value <= mean.high
    mirror = compare(moments(*counted), moments(*truth), START, END, MARGIN, ALPHA)
    assert mirror is not None
    assert mirror.bias is not None
    assert mirror.bias.value == pytest.approx(-bias.value)


# -- the verdict


def passages(*, missed: int = 0, taps: int = 360) -> tuple[list[Event], list[Event]]:
    hand = [Event(START + 10 * k, Direction.ENTERED if k % 2 else Direction.LEFT) for k in range(taps)]
    return hand, [Event(event.t + 0.2, event.direction) for event in hand[: len(hand) - missed]]


ROOM = [20 + k % 9 for k in range(30)]
GOOD, BAD = ROOM, [people // 2 for people in ROOM]


@pytest.mark.parametrize(
    ("taps", "missed", "heads", "looks", "verdict"),
    [
        (360, 0, [], [], Verdict.PASSED),
        (360, 0, ROOM, GOOD, Verdict.PASSED),
        (360, 0, ROOM, BAD, Verdict.FAILED),
        (360, 200, ROOM, GOOD, Verdict.FAILED),
        (0, 0, ROOM, GOOD, Verdict.PASSED),  # heads alone were counted: nobody said that nobody passed
        (0, 0, ROOM, BAD, Verdict.FAILED),
        (0, 0, ROOM[:1], GOOD[:1], Verdict.UNDECIDED),
        (360, 0, ROOM[:1], GOOD[:1], Verdict.UNDECIDED),
        (0, 0, [], [], Verdict.UNDECIDED),
    ],
)
def test_all_that_was_counted_must_pass(
    taps: int, missed: int, heads: list[int], looks: list[int], verdict: Verdict
) -> None:
    hand, sensor = passages(missed=missed, taps=taps)
    if not taps:
        sensor = [Event(START + 30.0, Direction.ENTERED)]  # the sensor saw somebody
    presence = compare(moments(*heads), moments(*looks), START, END, MARGIN, ALPHA)
    assert Findings("hall", evaluate(hand, sensor, START, END), presence).verdict is verdict


def test_no_verdict_decides_nothing() -> None:
    assert together([]) is Verdict.UNDECIDED


# -- the report


def texts(module: object) -> set[str]:
    """The first argument of every call of ``t``."""
    source = Path(str(module.__file__)).read_text("utf-8")  # type: ignore[attr-defined]
    return {
        call.args[0].value
        for call in ast.walk(ast.parse(source))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == "t"
        and isinstance(call.args[0], ast.Constant)
        and isinstance(call.args[0].value, str)
    }


def test_every_text_has_a_dutch_one_with_the_same_gaps_and_none_is_left_over() -> None:
    used = texts(report) | texts(pages)
    assert used == set(catalogue("nl"))
    for english, dutch in catalogue("nl").items():
        assert set(re.findall(r"\{(\w+)\}", english)) == set(re.findall(r"\{(\w+)\}", dutch)), english


def test_numbers_as_they_are_read() -> None:
    nl, en = Language("nl"), Language("en")
    assert (nl.percent(0.0512), en.percent(0.0512)) == ("5,1 %", "5.1 %")
    assert (nl.percent(0.05, sign=True), nl.number(-1.25, 2, sign=True)) == ("+5,0 %", "-1,25")
    assert nl.percent(None) == en.number(None) == "–"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    hand, sensor = passages(missed=200)
    heads, looks = moments(*ROOM), moments(*GOOD[:-2])
    window = Window("<hal&3>", START, END, tuple(hand), tuple(sensor), 0.5, tuple(heads), tuple(looks))
    save_window(window, tmp_path / "hall.json")
    assert load_window(tmp_path / "hall.json") == window
    return tmp_path / "hall.json"


def test_the_report_in_dutch(saved: Path, tmp_path: Path) -> None:
    page = tmp_path / "rapport.html"
    options = ["--from", str(saved), "--language", "nl"]
    result = CliRunner().invoke(cli.validate, [*options, "--html", str(page)])
    assert result.exit_code == 3
    words = " ".join(result.output.split())
    assert "Niet geslaagd." in words
    assert "Mensen naar binnen: de sensor telt er te weinig: de structurele afwijking ligt tussen -" in words
    assert "buiten de afgesproken ±5,0 %" in words
    assert "Aanwezigen: de structurele afwijking ligt tussen" in words
    assert "Op 2 momenten keek de sensor niet" in words
    assert "De sensor keek maar 50,0 % van de tijd" in words
    assert max(map(len, result.output.splitlines())) <= 80
    told = page.read_text()
    assert '<html lang="nl">' in told
    assert "&lt;hal&amp;3&gt;" in told
    assert "<hal&3>" not in told
    english = re.compile(r"\b(the|people|entered|sensor's|verdict|undecided|average)\b", re.IGNORECASE)
    assert not english.search(re.sub(r"<style>.*?</style>|<[^>]+>", " ", told, flags=re.DOTALL))
    document = json.loads(CliRunner().invoke(cli.validate, [*options, "--json"]).stdout)
    assert document["verdict"] == "failed"  # for programs, as ever
    assert document["words"].startswith("Niet geslaagd.")


def test_the_report_in_english_says_the_same(saved: Path) -> None:
    result = CliRunner().invoke(cli.validate, ["--from", str(saved)])
    words = " ".join(result.output.split())
    assert "Not passed." in words
    assert "People present: the bias lies between" in words
    assert "At 28 moments the sensor was off by 0.00 people on average" in words
    assert "100 % were right" in words


def test_the_lag_of_a_slow_thumb_is_said() -> None:
    hand, _ = passages()
    late = [Event(event.t - 0.9, event.direction) for event in hand]
    said = conclusion(Findings("hall", evaluate(hand, late, START, END)), Language("nl"))
    assert "0,9 s of meer vóór de tikken; een tolerantie van 1,0 s is daarvoor krap" in said


def test_looks_are_near_enough_to_be_found_by_who_asks_every_two_seconds() -> None:
    assert NEAR_SECONDS > 2.0
