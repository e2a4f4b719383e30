"""The ways people take through the portal, in a real browser, against a real service that starts from nothing.

One story in order: the first account, a room, a timetable, a sensor whose counts fill the day, a booking to which
nobody came, the figures in a spreadsheet, and a colleague who may see less. Each step is a fixture that the next one
builds on and a test that looks at it.
"""

from __future__ import annotations

import csv
import io
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import requests

from tests.browser.watching import Running, Watched, accept, chromium, free_port, person, running, speak
from tests.timetable_adapters.fake import FakeSystem, Reply, Request
from tests.timetable_adapters.fake import running as running_system
from uplink.codec import JSON_TYPE, encode_batch
from uplink.enrolment import EnrolmentCode, request_grant
from uplink.keys import SensorKey
from uplink.messages import CountRecord
from uplink.signing import sign_request
from uplink.wgkeys import PrivateKey

pytestmark = pytest.mark.browser
ZONE = ZoneInfo("Europe/Amsterdam")
COLLEAGUE = "collega@campus.example"


def last_working_day() -> datetime:
    """Midnight of the last whole day, Monday to Friday, local."""
    day = datetime.now(ZONE).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
    while day.weekday() > 4:
        day -= timedelta(days=1)
    return day


@dataclass(frozen=True)
class Meeting:
    title: str
    start: datetime
    end: datetime


class Calendar(FakeSystem):
    """A room's calendar feed (iCalendar) on this machine: yesterday's bookings and one that is under way."""

    def __init__(self) -> None:
        super().__init__()
        day, now = last_working_day(), datetime.now(ZONE)
        self.meetings = [
            Meeting("Statistics", day + timedelta(hours=9), day + timedelta(hours=11)),
            Meeting("Nobody's meeting", day + timedelta(hours=13), day + timedelta(hours=15)),
            Meeting("Under way", now - timedelta(minutes=30), now + timedelta(hours=1)),
        ]

    def settings(self) -> dict[str, object]:
        return {"feeds": {"1.01": f"{self.url}/1.01.ics"}}

    def respond(self, request: Request) -> Reply:
        events = "".join(
            f"BEGIN:VEVENT\r\nUID:{number}@calendar\r\nDTSTAMP:20260101T000000Z\r\nSUMMARY:{one.title}\r\n"
            f"DTSTART:{_utc(one.start)}\r\nDTEND:{_utc(one.end)}\r\nEND:VEVENT\r\n"
            for number, one in enumerate(self.meetings)
        )
        text = f"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//test//EN\r\n{events}END:VCALENDAR\r\n"
        return Reply.text(text, "text/calendar; charset=utf-8")


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


@dataclass
class Sensor:
    """An enrolled sensor without a camera: it signs and posts what a test says it saw."""

    key: SensorKey
    url: str

    def saw(self, start: datetime, people: list[int]) -> None:
        """One count a minute from ``start`` on."""
        begin = start.astimezone(UTC).replace(second=0, microsecond=0)
        records = [
            CountRecord(
                sensor_id=self.key.sensor_id, start=begin + timedelta(minutes=i), seconds=60, present=count,
                present_max=count, entered=0, left=0, coverage=1.0,
            )
            for i, count in enumerate(people)
        ]  # fmt: skip
        for at in range(0, len(records), 900):
            body = encode_batch(records[at : at + 900])
            claim = sign_request(
                self.key, method="POST", path="/v1/counts", body=body, now=time.time(), content_type=JSON_TYPE,
                content_encoding="gzip",
            )  # fmt: skip
            headers = {"Authorization": claim.header(), "Content-Type": JSON_TYPE, "Content-Encoding": "gzip"}
            answer = requests.post(f"{self.url}/v1/counts", data=body, headers=headers, timeout=15)
            assert answer.status_code == 200, answer.text


# --- the story --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def service(browser: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("service") / "data"
    with running("serve", "--data", str(folder), "--port", str(free_port())) as started:
        yield started


@pytest.fixture(scope="module")
def chief(browser: object, service: Running) -> Iterator[Watched]:
    """Whoever read the printed link first."""
    with person(browser, service.url) as watched:  # type: ignore[arg-type]
        page = watched.page()
        accept(page, service.link, "chief@campus.example", "Chief")
        page.wait_for_url("**/o/default/now")
        speak(page, service.url, "en")
        yield watched


@pytest.fixture(scope="module")
def room(chief: Watched) -> str:
    """A room, added by hand."""
    page = chief.page()
    page.goto(f"{chief.base}/o/default/now")
    page.get_by_role("button", name="Manage").click()
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Settings").click()
    page.get_by_label("Building").fill("Main")
    page.get_by_label("Number").fill("1.01")
    page.get_by_label("Seats").fill("30")
    page.get_by_role("button", name="Add", exact=True).click()
    link = page.get_by_role("link", name="Change 1.01").get_attribute("href")
    assert link is not None
    return link.rpartition("/")[2]


@pytest.fixture(scope="module")
def source(chief: Watched, room: str) -> Iterator[str]:
    """A timetable: the calendar feed of that room, tested and pulled."""
    with running_system(Calendar()) as system:
        page = chief.page()
        page.goto(f"{chief.base}/o/default/settings/sources")
        page.get_by_role("link", name=re.compile("iCal", re.IGNORECASE)).click()
        page.get_by_label("Name of this source").fill("calendar")
        page.locator("textarea").first.fill(f"1.01 = {system.system.url}/1.01.ics")
        page.get_by_role("button", name="Save").click()
        page.get_by_role("button", name="Test").click()
        assert page.get_by_text("It works").is_visible()
        page.get_by_role("button", name="Pull now").click()
        yield page.locator("main").inner_text()


@pytest.fixture(scope="module")
def sensor(chief: Watched, room: str) -> Sensor:
    """A sensor: added in the portal, enrolled with the codes that the page shows once."""
    page = chief.page()
    page.goto(f"{chief.base}/o/default/sensors")
    page.get_by_label("Id", exact=True).fill("hall-1")
    page.get_by_label("Room").select_option(room)
    page.get_by_label("It watches").select_option("room")
    page.get_by_role("button", name="Make a code").click()
    code, verification = (page.locator(f"#{name}").inner_text() for name in ("code", "verification"))
    assert code not in page.content().replace(page.locator("#code").inner_text(), "", 2)
    grant = request_grant(
        chief.base, EnrolmentCode.parse(code), wireguard_public_key=PrivateKey.generate().public,
        verification=verification,
    )  # fmt: skip
    return Sensor(grant.sensor_key(), chief.base)


@pytest.fixture(scope="module")
def yesterday(sensor: Sensor, source: str) -> datetime:
    """A day measured in full: people at the first booking, nobody at the second."""
    day = last_working_day()
    people = [12 if 9 * 60 + 3 <= minute < 10 * 60 + 55 else 0 for minute in range(7 * 60, 22 * 60)]
    sensor.saw(day + timedelta(hours=7), people)
    return day


def test_the_first_account_is_made_with_the_printed_link_once(chief: Watched, service: Running) -> None:
    page = chief.page()
    page.goto(f"{service.url}/account")
    assert page.get_by_text("controller").is_visible()
    page.goto(service.link)
    assert page.get_by_role("heading", name="This link does not work").is_visible()


def test_a_room_is_added_and_says_what_is_missing(chief: Watched, room: str) -> None:
    page = chief.page()
    page.goto(f"{chief.base}/o/default/now")
    assert page.get_by_role("link", name="1.01").is_visible()
    assert page.get_by_text("No sensor").first.is_visible()


def test_a_timetable_is_added_tested_and_pulled(source: str) -> None:
    assert "3 bookings in 1 rooms" in source


def test_a_day_fills_up_while_one_looks(chief: Watched, yesterday: datetime, sensor: Sensor) -> None:
    page = chief.page()
    page.clock.install()
    page.goto(f"{chief.base}/o/default/now")
    page.wait_for_selector("body[data-ready]")
    people = page.locator("li.room", has_text="1.01").locator(".room-people b")
    assert people.count() == 0, "nothing is known yet, and that is not 0"
    sensor.saw(datetime.now(UTC) - timedelta(minutes=1), [19])
    deadline = time.monotonic() + 60
    while people.all_inner_texts() != ["19"]:
        assert time.monotonic() < deadline, page.locator("main").inner_text()
        page.clock.fast_forward(31_000)  # the page asks by itself every half minute
        page.wait_for_timeout(500)
    assert page.locator("li.room", has_text="Under way").is_visible()
    assert chief.problems == []


def test_a_colleague_with_fewer_rights_sees_less(browser: object, chief: Watched, yesterday: datetime) -> None:
    page = chief.page()
    page.goto(f"{chief.base}/o/default/users")
    form = page.locator("form[action$='/users/invite']")
    form.get_by_label("Mail address").fill(COLLEAGUE)
    form.get_by_label("Role").select_option("viewer")
    form.get_by_label("Ask for a verification code as well").check()
    form.get_by_role("button", name="Make a link").click()
    link = page.locator("#link").inner_text()
    code = page.locator(".handout code.secret").nth(1).inner_text()
    with person(browser, chief.base) as colleague:  # type: ignore[arg-type]
        tab = colleague.page()
        accept(tab, link, COLLEAGUE, "Colleague", code=code)
        tab.wait_for_url("**/o/default/now")
        speak(tab, chief.base, "en")
        tab.goto(f"{chief.base}/o/default/now")
        menu = tab.get_by_role("navigation", name="Pages").inner_text()
        assert "Overview" in menu
        assert not {"Bookings", "Data", "Sensors", "Settings", "Users and rights", "Audit", "Manage"} & set(
            menu.split("\n")
        )
        assert "Under way" not in tab.content(), "names of events are for those who may see them"
        day = yesterday.date().isoformat()
        for path in ("bookings", "data", "users", "audit", "settings", "sensors"):
            answer = tab.goto(f"{chief.base}/o/default/{path}")
            assert answer is not None
            assert answer.status == 403
        tab.goto(f"{chief.base}/o/default/rooms/1.01?day={day}")
        assert "Nobody's meeting" not in tab.content()


def test_with_the_keyboard_alone_one_gets_in_and_around(browser: object, chief: Watched, room: str) -> None:
    """Log in, skip the menu, open the room: no mouse."""
    with person(browser, chief.base) as visitor:  # type: ignore[arg-type]
        tab = visitor.page()
        tab.goto(f"{chief.base}/login")
        tab.get_by_label("Mail address").focus()
        tab.keyboard.type("chief@campus.example")
        tab.keyboard.press("Tab")
        tab.keyboard.type("a bicycle on the canal")
        tab.keyboard.press("Enter")
        tab.wait_for_url("**/o/default/now")
        tab.keyboard.press("Tab")
        assert tab.locator(":focus").inner_text() == "Skip to the content"
        tab.keyboard.press("Enter")
        for _ in range(25):
            tab.keyboard.press("Tab")
            if "1.01" in tab.locator(":focus").inner_text():
                break
        tab.keyboard.press("Enter")
        tab.wait_for_url("**/rooms/**")


def test_a_booking_to_which_nobody_came_is_found(chief: Watched, yesterday: datetime, room: str) -> None:
    page = chief.page()
    day = yesterday.date().isoformat()
    deadline = time.monotonic() + 75
    while True:
        page.goto(f"{chief.base}/o/default/bookings?from={day}&to={day}&show=no_show")
        if page.get_by_role("rowheader", name="Nobody's meeting").count():
            break
        assert time.monotonic() < deadline, page.locator("main").inner_text()
        page.wait_for_timeout(1_000)
    assert not page.get_by_role("rowheader", name="Statistics").count()
    page.goto(f"{chief.base}/o/default/rooms/{room}?day={day}")
    page.wait_for_selector("body[data-ready]")
    text = page.locator("main").inner_text()
    assert "Statistics" in text
    assert "Nobody's meeting" in text
    assert page.locator("svg.main-svg").count() > 0, "the charts are drawn"


def test_the_figures_open_in_a_dutch_spreadsheet(
    chief: Watched, yesterday: datetime, room: str, tmp_path: Path
) -> None:
    """As Excel in Dutch reads it: byte order mark, semicolons, decimal commas, empty where nothing is known."""
    page = chief.page()
    day = yesterday.date().isoformat()
    page.goto(f"{chief.base}/o/default/data?from={day}&to={day}&unit=hour")
    with page.expect_download() as waiting:
        page.get_by_role("link", name="CSV, Dutch").click()
    path = tmp_path / "figures.csv"
    waiting.value.save_as(path)
    assert waiting.value.suggested_filename.endswith(".csv")
    raw = path.read_bytes()
    assert raw.startswith(b"\xef\xbb\xbf")
    rows = list(csv.DictReader(io.StringIO(raw.decode("utf-8-sig")), delimiter=";"))
    assert len(rows) == 15, "an hour a row, 07:00 to 22:00"
    by_hour = {i + 7: row for i, row in enumerate(rows)}
    frequency = {hour: float(row["frequency"].replace(",", ".")) for hour, row in by_hour.items() if row["frequency"]}
    assert frequency[9] == pytest.approx(57 / 60, abs=0.02)
    assert frequency[13] == 0
    assert "," in by_hour[9]["frequency"]
    fill = float(by_hour[9]["fill"].replace(",", "."))
    assert fill == pytest.approx(12 / 30, abs=0.01)
    page.goto(f"{chief.base}/o/default/audit")
    assert page.get_by_role("cell", name="file exported").first.is_visible()


def test_nothing_went_wrong_in_the_browser(chief: Watched) -> None:
    """No error on the console, no refusal by the policy, no request to anywhere else, in the whole story."""
    assert chief.problems == []
