"""``headroom timetable``, without a running service and beside one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from analytics.cli.timetable import timetable
from analytics.domain.model import Building, Room
from analytics.runtime import ensure_organisation, open_store
from analytics.service_keys import load_or_create
from analytics.settings import load_settings
from tests.bench._service import free_port, start
from tests.timetable_adapters.fake import CANARY, SECRET, FakeServer, running, status
from tests.timetable_adapters.test_mytimetable import MyTimetable
from uplink.keyfiles import make_private_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = tmp_path / "service"
    make_private_folder(data)
    settings = load_settings(data)
    with open_store(settings, load_or_create(data, settings.keys)) as store:
        ensure_organisation(store, settings)
        store.put_buildings("default", [Building("default", "main", "Main")])
        for number in ("101", "102"):
            aliases = (f"2026!location!{number}",)
            store.put_rooms("default", [Room("default", f"main-{number}", "main", number, aliases=aliases)])
    (tmp_path / "token").write_text(SECRET + "\n")
    return data


@pytest.fixture
def system() -> Iterator[FakeServer]:
    with running(MyTimetable()) as server:
        yield server


def run(data: Path | None, *arguments: str, code: int = 0) -> str:
    where = [] if data is None else ["--data", str(data)]
    done = CliRunner().invoke(timetable, [*arguments, *where])
    assert done.exit_code == code, done.output + repr(done.exception)
    assert SECRET not in done.output
    assert CANARY not in done.output
    return done.stdout if code == 0 or not done.stderr else done.stderr


def add(data: Path, system: FakeServer, *more: str, code: int = 0) -> str:
    secret = data.parent / "token"
    base = ["add", "plan", "--kind", "mytimetable", "--set", f"base_url={system.system.url}", *more]
    return run(data, *base, "--secret", f"token={secret}", code=code)


def test_a_source_from_first_to_last(folder: Path, system: FakeServer) -> None:
    assert "no timetables yet" in run(folder, "list")
    assert "timetable check plan" in add(folder, system, "--look-back", "30")
    assert "already" in add(folder, system, code=1)
    assert "shows 2 rooms" in run(folder, "check", "plan")
    assert json.loads(run(folder, "check", "plan", "--json")) == {"rooms": 2, "remarks": []}
    report: dict[str, Any] = json.loads(run(folder, "pull", "--json"))
    assert report["plan"]["failure"] == ""
    assert report["plan"]["rooms_matched"] == 2
    (listed,) = json.loads(run(folder, "list", "--json"))
    assert (listed["id"], listed["kind"], listed["enabled"]) == ("plan", "mytimetable", True)
    assert datetime.fromisoformat(listed["next_pull"]) > datetime.now(UTC)
    assert "settings" not in listed
    assert "well" in run(folder, "list")
    assert "is removed" in run(folder, "remove", "plan")
    assert "no source 'plan'" in run(folder, "pull", "plan", code=1)


def test_a_failed_pull_ends_with_one_and_says_why(folder: Path, system: FakeServer) -> None:
    add(folder, system)
    system.fail(status(401))
    done = CliRunner().invoke(timetable, ["pull", "plan", "--data", str(folder)])
    assert done.exit_code == 1
    assert "the plan is as it was" in done.output
    assert SECRET not in done.output
    assert "failed" in run(folder, "list")
    assert "refused" in run(folder, "check", "plan", code=1) or system.requests


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["add", "plan", "--kind", "nothing"], "no adapter"),
        (["add", "plan", "--kind", "mytimetable", "--set", "token=abc"], "--secret token=FILE"),
        (["add", "plan", "--kind", "mytimetable", "--set", "colour=red"], "no setting"),
        (["add", "plan", "--kind", "mytimetable", "--secret", "token=/no/such/file"], "cannot be read"),
        (["add", "plan", "--kind", "mytimetable", "--set", "base_url=https://x.example"], "token is missing"),
        (["add", "plan", "--kind", "csv", "--set", "location=x.csv", "--set", "time_zone=Mars/Dust"], "time_zone"),
        (["add", "plan", "--kind", "csv"], "location"),
        (["kinds", "nothing"], "no adapter"),
    ],
)
def test_wrong_orders_are_usage_errors(folder: Path, arguments: list[str], words: str) -> None:
    said = " ".join(run(None if arguments[0] == "kinds" else folder, *arguments, code=2).split())
    assert words in said.replace(" │ │ ", " ")


def test_settings_from_a_file(folder: Path) -> None:
    (folder.parent / "feeds.toml").write_text(f'[feeds]\n101 = "https://x.example/{SECRET}.ics"\n')
    run(folder, "add", "feeds", "--kind", "ical", "--settings", str(folder.parent / "feeds.toml"))
    (folder.parent / "broken.toml").write_text("[feeds")
    assert "broken.toml" in run(
        folder, "add", "x", "--kind", "ical", "--settings", str(folder.parent / "broken.toml"), code=2
    )
    assert "no name of a source" in run(folder, "add", "Not-A-Name", "--kind", "csv", "--set", "location=x.csv", code=1)


def test_kinds_show_their_settings() -> None:
    assert "Microsoft 365" in run(None, "kinds")
    assert "secret" in run(None, "kinds", "zermelo")
    assert "token" in json.loads(run(None, "kinds", "zermelo", "--json"))["properties"]


def test_orders_reach_the_running_service(folder: Path, system: FakeServer) -> None:
    _, process = start(load_settings(folder), free_port())
    try:
        add(folder, system)
        assert "already" in add(folder, system, code=1)
        assert "shows 2 rooms" in run(folder, "check", "plan")
        assert json.loads(run(folder, "pull", "plan", "--json"))["plan"]["rooms_matched"] == 2
        assert "no source" in run(folder, "check", "other", code=1)
        assert "plan" in run(folder, "list")
        run(folder, "remove", "plan")
    finally:
        process.terminate()
        assert process.wait(30) == 0
