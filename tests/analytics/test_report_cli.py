"""headroom report, export and room, as people type them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from analytics.runtime import open_store
from analytics.service_keys import load_or_create
from analytics.settings import load_settings
from analytics.simulate import Campus, populate
from headroom import cli
from uplink.keyfiles import make_private_folder

PERIOD = ["--from", "2026-09-07", "--to", "2026-09-20", "--organisation", "sim-campus"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("service") / "data"
    settings = load_settings(folder)
    make_private_folder(folder)
    with open_store(settings, load_or_create(folder, settings.keys)) as store:
        populate(store, Campus(rooms=4, weeks=2, seed=1))
    return folder


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def test_report_as_a_table_and_as_json(data: Path) -> None:
    shown = run("report", "--data", str(data), *PERIOD)
    assert shown.exit_code == 0, shown.output
    assert "sim-0000" in shown.output
    assert "figures-1" in shown.output
    document = json.loads(run("report", "--data", str(data), *PERIOD, "--by", "weekday", "--json").stdout)
    assert [row["label"] for row in document["rows"]] == [str(i) for i in range(7)]
    assert document["rows"][6]["frequency"] is None  # nobody measures on Sunday
    heat = json.loads(run("report", "--data", str(data), *PERIOD, "--heat", "frequency", "--json").stdout)
    assert len(heat["weekday_by_hour"]["frequency"]) == 7


@pytest.mark.parametrize("what", ["rooms", "bookings", "research"])
def test_export(data: Path, tmp_path: Path, what: str) -> None:
    for ending in ("csv", "json", "parquet"):
        done = run("export", str(tmp_path / f"x.{ending}"), "--data", str(data), *PERIOD, "--what", what)
        assert done.exit_code == 0, done.output
        assert (tmp_path / f"x.{ending}").stat().st_size > 0
    assert (tmp_path / "x.csv.dictionary.json").exists() == (what == "research")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["report", "--room", "nope"], "no room or building 'nope'"),
        (["report", "--figures", "occupation"], "'occupation' is no figure"),
        (["report", "--heat", "occupation"], "is no figure"),
        (["report", "--period", "Easter"], "is no period"),
        (["report", "--from", "2026-09-09", "--to", "2026-09-01"], "--from 2026-09-09 lies after"),
        (["report", "--organisation", "other"], "'other' is not known"),
        (["export", "x.txt"], "--format"),
        (["export", "/nowhere/at/all.csv"], "is no folder"),
    ],
)
def test_wrong_words_are_usage_errors_that_say_what_to_do(data: Path, arguments: list[str], message: str) -> None:
    given = arguments if "--organisation" in arguments else [*arguments, "--organisation", "sim-campus"]
    result = run(*given, "--data", str(data))
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.output.split())


def test_a_folder_without_a_store_is_a_usage_error_and_stays_as_it_is(tmp_path: Path) -> None:
    result = run("report", "--data", str(tmp_path / "new"))
    assert result.exit_code == 2
    assert "headroom room import" in " ".join(result.output.split())
    assert not (tmp_path / "new").exists()


def test_room_import_then_list(tmp_path: Path) -> None:
    data, rooms = str(tmp_path / "data"), tmp_path / "rooms.csv"
    rooms.write_text("building;number;capacity\nMain;1.05;30\n")
    dry = json.loads(run("room", "import", str(rooms), "--data", data, "--dry-run", "--json").stdout)
    assert (dry["written"], dry["new"]) == (False, ["main-1-05"])
    assert json.loads(run("room", "list", "--data", data, "--json").stdout) == []
    assert "1 rooms new" in run("room", "import", str(rooms), "--data", data).output
    rooms.write_text("building;number;capacity\nMain;1.05;40\nMain;1.06;x\n")
    wrong = run("room", "import", str(rooms), "--data", data)
    assert wrong.exit_code == 2
    assert "line 3, capacity 'x'" in wrong.output
    (kept,) = json.loads(run("room", "list", "--data", data, "--json").stdout)
    assert kept["capacity"] == 30
    rooms.write_text("building;number;capacity\nMain;1.05;40\n")
    assert "capacity: 40 from" in run("room", "import", str(rooms), "--data", data).output
