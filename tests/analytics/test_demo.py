"""``headroom demo``: quick, marked as simulated, careful with folders that are not its own, and gone at Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from analytics.cli.demo import demo
from analytics.demo.campus import ORGANISATION, ROOM, SENSOR, build
from analytics.demo.check import CheckError, check_pages
from analytics.demo.run import DemoError, _fresh_folder
from analytics.store.sqlite import SqliteStore

SMALL = ("--rooms", "2", "--weeks", "1")
NOW = datetime(2026, 9, 30, 10, 20, tzinfo=UTC)
"""A Wednesday, 12:20 in Amsterdam."""


def test_the_future_is_kept_back_and_comes_as_time_goes_by(tmp_path: Path) -> None:
    with SqliteStore.open(tmp_path / "store.db", bytes(32)) as store:
        rooms: list[int] = []
        term = build(store, NOW, 2, 2, lambda: rooms.append(1))
        assert len(rooms) == 2
        assert term.campus.first.weekday() == 0
        assert term.campus.first <= NOW.date() <= term.campus.last
        sensors = [sensor.id for sensor in store.sensors(ORGANISATION)]
        newest = store.latest_counts(ORGANISATION, sensors)
        assert all(int(s["start"][-1]) + int(s["seconds"][-1]) <= NOW.timestamp() for s in newest.values() if s.size)
        assert max(int(s["start"][-1]) for s in newest.values() if s.size) > (NOW - timedelta(minutes=5)).timestamp()
        later = NOW + timedelta(minutes=30)
        due = term.due(later)
        assert due
        for slots in due.values():
            ends = slots["start"].astype(np.int64) + slots["seconds"]
            assert (ends > NOW.timestamp()).all()
            assert (ends <= later.timestamp()).all()
        assert term.due(later) == {}, "each slot once"
        assert not store.stale_days(ORGANISATION), "figures are there when the portal opens"
        assert store.room(ORGANISATION, ROOM).number


def test_a_folder_of_somebody_else_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "service").mkdir()
    (tmp_path / "service" / "headroom.db").write_text("precious")
    result = CliRunner().invoke(demo, ["--folder", str(tmp_path), "--no-footage", *SMALL])
    assert result.exit_code == 1
    assert "not from a demo" in result.output
    assert (tmp_path / "service" / "headroom.db").read_text() == "precious"
    with pytest.raises(DemoError):
        _fresh_folder(tmp_path, "service")


def test_a_scene_needs_its_video() -> None:
    result = CliRunner().invoke(demo, ["--line", "door=0,0.5,1,0.5"])
    assert result.exit_code == 2
    assert "--video" in result.output


def run(folder: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "headroom", "demo", "--folder", str(folder), *options]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=240, env={**os.environ, "COLUMNS": "300", **environment}
    )


def test_once_opens_every_page_and_ends(tmp_path: Path) -> None:
    done = run(tmp_path, *SMALL, "--no-footage", "--once", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    paths = {page["path"].removeprefix(f"/o/{ORGANISATION}/") for page in document["pages"]}
    assert {"now", "overview", "rooms", "bookings", "compare", "data", "sensors", "settings", "users", "audit"} <= paths
    assert all(page["status"] == 200 for page in document["pages"])
    assert "link" not in document, "it was used"
    assert document["footage"] is None
    again = run(tmp_path, *SMALL, "--no-footage", "--once", "--json")
    assert again.returncode == 0, again.stderr


def test_ctrl_c_ends_it_in_order(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "headroom",
        "demo",
        "--folder",
        str(tmp_path),
        *SMALL,
        "--no-footage",
        "--no-browser",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    first = [process.stdout.readline() for _ in range(2)]
    assert "/invitation/" in first[1]
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 0, said
    assert "Traceback" not in said
    with pytest.raises((CheckError, OSError)):
        check_pages(first[1].strip())


@pytest.mark.footage
def test_footage_goes_through_counter_and_ingest(data_folder: Path, tmp_path: Path) -> None:
    """The project's own rendered clip here, since it is short; ``make demo`` plays a real one the same way."""
    clips = Path(__file__).parents[1] / "clips"
    video = clips / "door-overhead-rendered.mp4"
    facts = json.loads(video.with_suffix(".json").read_text("utf-8"))
    lines = [
        option
        for line in facts["lines"]
        for option in ("--line", f"{line['name']}=" + ",".join(f"{v:g}" for v in (*line["start"], *line["end"])))
    ]
    done = run(
        tmp_path, *SMALL, "--once", "--json", "--video", str(video), *lines, HEADROOM_CACHE=str(tmp_path / "cache")
    )
    assert done.returncode == 0, done.stderr
    counted = json.loads(done.stdout)["footage"]
    assert "problem" not in counted
    assert counted["records"] >= 1
    assert counted["entered"] + counted["left"] > 0
    from analytics.service_keys import ServiceKeys

    keys = ServiceKeys.load(tmp_path / "service" / "keys")
    with SqliteStore.open(tmp_path / "service" / "headroom.db", keys.store) as store:
        now = datetime.now(UTC)
        stored = store.counts(ORGANISATION, [SENSOR], now - timedelta(hours=1), now + timedelta(hours=1))[SENSOR]
        assert stored.size == counted["records"]
        assert int(stored["entered"].clip(0).sum()) == counted["entered"]
