"""The tally page, its server, and `headroom sensor validate` from the first tap to the report."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from counter.agent.state import StateServer
from counter.types import Direction
from counter.validation import cli
from counter.validation.collect import CollectError, Collector
from counter.validation.data import DataError, Window, load_window, save_window
from counter.validation.presence import Heads
from counter.validation.server import TallyPage
from counter.validation.statistics import Event
from counter.validation.tally import Tally, TallyError

CHROMIUM = Path("/usr/bin/chromium")
IN, OUT = Direction.ENTERED, Direction.LEFT
PHONE = "a-secret-of-this-phone"


def tap(name: str, t: float, direction: str = "entered", *, undone: bool = False) -> dict[str, Any]:
    return {"id": name, "t": t, "direction": direction, "undone": undone}


@pytest.fixture
def page() -> Iterator[TallyPage]:
    opened = TallyPage("127.0.0.1", 0, name="hall-3", clock=lambda: 1_000_000.0)
    opened.seconds = 60.0
    yield opened
    opened.close()


def ask(page: TallyPage, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(page.authority, timeout=10)
    sent = {"Host": page.authority, "Origin": f"http://{page.authority}", "X-Tally": PHONE}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("GET" if body is None else "POST", path, None if body is None else json.dumps(body), sent)
    answer = connection.getresponse()
    content = answer.status, answer.read()
    connection.close()
    return content


# -- the taps


def test_the_same_taps_twice_are_one() -> None:
    tally = Tally()
    assert tally.merge([tap("a", 1.0), tap("b", 2.0, "left")]) == 2
    assert tally.merge([tap("a", 1.0), tap("b", 2.0, "left"), tap("c", 3.0)]) == 3
    assert tally.events() == [Event(1.0, IN), Event(2.0, OUT), Event(3.0, IN)]
    tally.merge([tap("c", 3.0, undone=True)])
    tally.merge([tap("c", 3.0)])  # an old message comes late: what was undone stays undone
    assert tally.events() == [Event(1.0, IN), Event(2.0, OUT)]


@given(st.permutations(range(6)), st.lists(st.integers(1, 6), max_size=6))
def test_any_order_of_messages_gives_the_same(order: list[int], sizes: list[int]) -> None:
    taps = [tap(f"t{k}", float(k), undone=k % 3 == 0) for k in range(6)]
    tally = Tally()
    for size in [*sizes, 6]:
        tally.merge([taps[k] for k in order[:size]])
    assert [event.t for event in tally.events()] == [1.0, 2.0, 4.0, 5.0]


@pytest.mark.parametrize(
    ("data", "names"),
    [
        ({}, "list"),
        ([1], r"taps\[0\]"),
        ([tap("a b", 1.0)], r"taps\[0\].id"),
        ([tap("a", float("nan"))], r"taps\[0\].t"),
        ([tap("a", 10**400)], r"taps\[0\].t"),
        ([tap("a", 1.0), tap("b", True)], r"taps\[1\].t"),
        ([tap("a", 1.0, "sideways")], "entered, left or present"),
        ([tap("a", 1.0, [])], "entered, left or present"),
        ([tap("a", 1.0) | {"undone": 1}], "undone"),
        ([tap("a", 1.0, "present")], r"taps\[0\].people"),
        ([tap("a", 1.0, "present") | {"people": -1}], r"taps\[0\].people"),
        ([tap("a", 1.0, "present") | {"people": True}], r"taps\[0\].people"),
        ([tap("a", 1.0, "present") | {"people": 1.5}], r"taps\[0\].people"),
    ],
)
def test_what_is_no_tap_is_refused_whole(data: Any, names: str) -> None:
    tally = Tally()
    with pytest.raises(TallyError, match=names):
        tally.merge(data)
    assert tally.events() == []


def test_counts_of_heads_are_kept_beside_the_passages() -> None:
    tally = Tally()
    heads = [tap("h", 5.0, "present") | {"people": 12}, tap("i", 9.0, "present", undone=True) | {"people": 99}]
    tally.merge([tap("a", 1.0), *heads])
    tally.merge([*heads, tap("j", 2.0, "present") | {"people": 0}])
    assert tally.events() == [Event(1.0, IN)]
    assert tally.heads() == [Heads(2.0, 0), Heads(5.0, 12)]


# -- the server


def test_one_phone_counts(page: TallyPage) -> None:
    path = f"/{page.token}/sync"
    assert page.window is None
    status, body = ask(page, path, {"taps": [], "begin": True})
    assert (status, json.loads(body)["window"]) == (200, [1_000_000.0, 1_000_060.0])
    assert ask(page, path, {"taps": [tap("a", 1_000_003.0)]})[0] == 200
    assert ask(page, path, {"taps": [tap("x", 1_000_004.0)]}, X_Tally="another-phones-secret")[0] == 409
    assert page.tally.events() == [Event(1_000_003.0, IN)]
    ask(page, path, {"taps": [], "done": True})
    assert page.done.is_set()
    assert page.window == (1_000_000.0, 1_000_000.0)  # finished earlier: the rest was not counted


def test_who_is_let_in(page: TallyPage) -> None:
    token = page.token
    assert ask(page, f"/{token}/")[0] == 200
    assert ask(page, f"/{token[:-1]}/")[0] == 404
    assert ask(page, "/")[0] == 404
    assert ask(page, f"/{token}/../server.py")[0] == 404
    assert ask(page, f"/{token}/", Host="evil.example")[0] == 404
    assert ask(page, f"/{token}/sync", {}, Origin="http://evil.example")[0] == 403
    assert ask(page, f"/{token}/sync", {}, X_Tally="short")[0] == 409
    assert ask(page, f"/{token}/sync", [])[0] == 400
    assert ask(page, f"/{token}/sync", {"taps": [1]})[0] == 400
    assert not page.done.is_set()


def test_guessing_ends(page: TallyPage) -> None:
    for _ in range(200):
        assert not page.admits("wrong")
    assert not page.admits(page.token)


def test_it_tells_nothing_of_the_sensor(page: TallyPage) -> None:
    """Time, window, number of taps, and a name: a person who saw the sensor's count would count differently."""
    answer = json.loads(ask(page, f"/{page.token}/sync", {})[1])
    assert set(answer) == {"name", "now", "window", "known"}


# -- what the agent remembers


def agent(*, state: str = "counting", health: str = "ok", events: list[dict[str, Any]] | None = None) -> Any:
    cameras = [{"sensor_id": "hall-3", "state": state, "health": [health], "present": 4}]
    found = [] if events is None else events
    return lambda _, what: {"cameras": cameras} if what == "status" else {"hall-3": found}


def crossing(utc: float, direction: str = "entered") -> dict[str, Any]:
    return {"utc": utc, "line": "door", "direction": direction}


def test_an_agent_that_restarts_forgets_and_we_do_not() -> None:
    told = [crossing(1.0), crossing(1.0), crossing(2.0)]
    collector = Collector(Path("x"), ask=agent(events=told))
    collector.look()
    collector.look()
    told[:] = [crossing(5.0, "left")]
    collector.look()
    assert collector.events(0.0, 9.0) == [Event(1.0, IN), Event(1.0, IN), Event(2.0, IN), Event(5.0, OUT)]


@pytest.mark.parametrize(
    ("health", "covered"), [("ok", 1.0), ("overloaded", 1.0), ("dark", 0.0), ("moved", 0.0), ("no_signal", 0.0)]
)
def test_a_busy_board_is_judged_by_what_it_counts_and_a_faulty_view_is_not_judged(health: str, covered: float) -> None:
    collector = Collector(Path("x"), ask=agent(health=health))
    assert collector.look() is bool(covered)
    assert collector.coverage == covered
    assert len(collector.present(0.0, 1e12)) == int(covered)


def test_coverage_is_what_the_sensor_saw() -> None:
    answers = [agent(), agent(), agent(state="away"), agent(health="dark")]
    turn = iter(range(100))
    collector = Collector(Path("x"), ask=lambda s, w: answers[min(next(turn) // 2, 3)](s, w) if w else None)
    assert collector.sensor_id == "hall-3"
    collector = Collector(Path("x"), ask=agent())
    assert collector.coverage is None
    for reply in answers:
        collector._ask = reply
        collector.look()
    assert collector.coverage == 0.5


def test_which_agent_and_which_sensor(tmp_path: Path) -> None:
    with pytest.raises(CollectError, match="headroom sensor run"):
        Collector(tmp_path)
    with pytest.raises(CollectError, match="it has hall-3"):
        Collector(tmp_path, "hall-4", ask=agent())
    two = {"cameras": [{"sensor_id": "a"}, {"sensor_id": "b"}]}
    with pytest.raises(CollectError, match="--sensor"):
        Collector(tmp_path, ask=lambda *_: two)


# -- the command


@pytest.fixture
def running(tmp_path: Path) -> Iterator[list[dict[str, Any]]]:
    """A state folder whose agent answers on its real socket; the list is what it remembers."""
    events: list[dict[str, Any]] = []
    ask_agent = agent(events=events)
    server = StateServer(
        tmp_path, {"status": lambda: ask_agent(None, "status"), "events": lambda: ask_agent(None, "events")}
    )
    server.start()
    yield events
    server.close()


def run(args: list[str]) -> Result:
    return CliRunner().invoke(cli.validate, args, prog_name="headroom sensor validate")


def test_from_the_first_tap_to_the_report(
    tmp_path: Path, running: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pages: list[TallyPage] = []

    def opened(*args: Any, **kwargs: Any) -> TallyPage:
        pages.append(TallyPage(*args, **kwargs))
        return pages[-1]

    monkeypatch.setattr(cli, "TallyPage", opened)
    monkeypatch.setattr(cli, "_LOOK_SECONDS", 0.02)
    saved, report = tmp_path / "hall.json", tmp_path / "hall.html"
    results: list[Result] = []
    options = ["--state", str(tmp_path), "--json", "--save", str(saved), "--html", str(report)]
    thread = threading.Thread(target=lambda: results.append(run(options)))
    thread.start()
    until = time.monotonic() + 20
    while not pages and time.monotonic() < until:
        time.sleep(0.01)
    path = f"/{pages[0].token}/sync"
    now = json.loads(ask(pages[0], path, {"begin": True})[1])["now"]
    time.sleep(1.1)
    running += [crossing(now + 0.3), crossing(now + 0.6, "left"), crossing(now + 0.9, "left")]
    taps = [tap("a", now + 0.2), tap("b", now + 0.5, "left"), tap("c", now + 0.8, undone=True)]
    taps += [tap("d", now + 0.7, "present") | {"people": 5}]
    ask(pages[0], path, {"taps": taps, "begin": True, "done": True})
    thread.join(20)
    (result,) = results
    assert result.exit_code == 3, result.output
    document = json.loads(result.stdout)
    assert document["verdict"] == "undecided"  # two people prove nothing
    assert document["events"]["all"]["matched"] == 2
    assert document["events"]["left"]["extra"] == 1
    assert document["coverage"] == 1.0
    (moment,) = document["present"]["moments"]
    assert (moment["truth"], moment["counted"]) == (5, 4)
    assert document["present"]["mean_absolute_error"]["value"] == 1.0
    assert "Validation of sensor hall-3" in report.read_text()
    assert len(load_window(saved).sensor) == 3
    again = run(["--from", str(saved), "--tolerance", "0.05", "--json"])
    assert json.loads(again.stdout)["events"]["all"]["matched"] == 0
    assert json.loads(again.stdout)["present"] == document["present"]


def window(flaw: int = 0) -> Window:
    hand = [Event(1_000_000.0 + 5 * k, IN if k % 2 else OUT) for k in range(360)]
    sensor = [Event(event.t + 0.2, event.direction) for event in hand[: len(hand) - flaw]]
    return Window("<hall&3>", 1_000_000.0, 1_001_800.0, tuple(hand), tuple(sensor), 1.0)


def test_words_and_exit_code(tmp_path: Path) -> None:
    save_window(window(), tmp_path / "good.json")
    result = run(["--from", str(tmp_path / "good.json")])
    assert result.exit_code == 0
    assert "Passed" in result.output
    assert "inside the agreed ±5.0 %" in " ".join(result.output.split())
    rows = {line.split("  ")[0].strip(): line.split()[-2:] for line in result.output.splitlines()}
    assert rows["by hand"] == rows["sensor"] == rows["matched"] == ["180", "180"]
    assert rows["verdict"] == ["passed", "passed"]
    assert max(map(len, result.output.splitlines())) <= 80
    save_window(window(120), tmp_path / "bad.json")
    page = tmp_path / "bad.html"
    result = run(["--from", str(tmp_path / "bad.json"), "--html", str(page)])
    assert result.exit_code == 3
    assert "Passed" not in result.output
    assert "<hall&3>" not in page.read_text()
    assert "&lt;hall&amp;3&gt;" in page.read_text()


@pytest.mark.parametrize(
    ("args", "names"),
    [
        (["--listen", "0.0.0.0:8180"], "own IPv4 address"),
        (["--listen", "hall:8180"], "ADDRESS:PORT"),
        (["--listen", "192.0.2.1:99999"], "ADDRESS:PORT"),
        (["--margin", "0"], "--margin"),
        (["--save", "/no/such/folder/x.json"], "--save"),
        (["--from", "/no/such/file"], "--from"),
    ],
)
def test_bad_options(args: list[str], names: str, tmp_path: Path) -> None:
    result = run([*args, "--state", str(tmp_path)])
    assert result.exit_code == 2
    assert names in result.output


def test_no_agent(tmp_path: Path) -> None:
    result = run(["--state", str(tmp_path)])
    assert result.exit_code == 1
    assert "headroom sensor run" in result.output


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("{", "not JSON"),
        ("[]", "object"),
        ('{"start": 5, "end": 5, "hand": [], "sensor": []}', "end 5.0"),
        ('{"start": 5, "end": "6", "hand": [], "sensor": []}', "end = '6'"),
        ('{"start": 5, "end": 1e300, "hand": [], "sensor": []}', "end = 1e+300"),
        ('{"start": 5, "end": 6, "hand": [{"t": 5}], "sensor": []}', r"hand[0]"),
        ('{"start": 5, "end": 6, "hand": [], "sensor": [{"t": NaN, "direction": "left"}]}', r"sensor[0].t"),
        ('{"start": 5, "end": 6, "coverage": 2, "hand": [], "sensor": []}', "coverage"),
        ('{"start": 5, "end": 6, "hand": [], "sensor": [], "hand_present": [{"t": 5}]}', "hand_present[0]"),
        ('{"start": 5, "end": 6, "hand": [], "sensor": [], "sensor_present": {}}', "sensor_present"),
    ],
)
def test_a_file_that_is_no_window(text: str, names: str, tmp_path: Path) -> None:
    (tmp_path / "w.json").write_text(text)
    with pytest.raises(DataError) as error:
        load_window(tmp_path / "w.json")
    assert names in str(error.value)
    assert "w.json" in str(error.value)


# -- on the phone


@pytest.mark.browser
def test_a_phone_that_loses_its_connection() -> None:
    if not CHROMIUM.exists():
        pytest.skip("/usr/bin/chromium is not installed (Debian package chromium)")
    from playwright.sync_api import sync_playwright

    page = TallyPage("127.0.0.1", 0, name="hall-3", clock=lambda: time.time() + 3600.0)  # the phone's clock is wrong
    page.seconds = 600.0
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
            context = browser.new_context(viewport={"width": 390, "height": 780}, has_touch=True, locale="en-GB")
            tab = context.new_page()
            problems: list[str] = []
            tab.on("pageerror", lambda error: problems.append(str(error)))
            tab.on("dialog", lambda dialog: dialog.accept())
            tab.goto(page.url)
            tab.click("#begin")
            tab.wait_for_selector("#entered:visible")
            tab.tap("#entered")
            context.set_offline(True)
            tab.tap("#entered")
            tab.tap("#left")
            tab.tap("#left")
            tab.click("#undo")
            tab.fill("#people", "17")
            tab.press("#people", "Enter")
            tab.wait_for_selector("#state.away")
            begin = time.time()
            assert tab.inner_text("#entered output") == "2"
            context.set_offline(False)
            tab.wait_for_selector("#state:not(.away)")
            tab.reload()  # what was tapped survives it
            tab.wait_for_selector("#entered:visible")
            assert tab.inner_text("#left output") == "1"
            other = browser.new_context().new_page()
            other.goto(page.url)
            other.get_by_text("another device").locator("visible=true").first.wait_for()
            tab.click("#done")
            assert page.done.wait(15)
            tab.get_by_text("Done").locator("visible=true").first.wait_for()
            browser.close()
        events = page.tally.events()
        assert [event.direction for event in events] == [IN, IN, OUT]
        assert [one.people for one in page.tally.heads()] == [17]
        moments = [one.t for one in (*events, *page.tally.heads())]
        assert all(abs(t - (begin + 3600.0)) < 10.0 for t in moments), "moments are of the sensor's clock"
        assert problems == []
    finally:
        page.close()
