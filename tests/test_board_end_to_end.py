"""One board, two cameras, two sensors, a real service: codes, keys, counting, sending, care, and one camera revoked.

Everything goes through the command line, in processes of their own, as people use it.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cv2", reason="the sensor part is not installed")

from analytics.care import Care
from analytics.runtime import open_store
from analytics.service_keys import ServiceKeys, load_or_create
from analytics.settings import ServiceSettings, load_settings
from analytics.store.base import Store
from analytics.web.app import Services
from counter.agent.state import ask
from tests.bench._service import start
from uplink.identity import Identity, enrolled

pytestmark = pytest.mark.timeout(180)

CLIPS = Path(__file__).parent / "clips"
HEADROOM = [sys.executable, "-m", "headroom"]
ALWAYS = "".join(f'{day} = ["00:00-24:00"]\n' for day in ("mon", "tue", "wed", "thu", "fri", "sat", "sun"))
SETTINGS = f"""
interval = 1
[[camera]]
sensor_id = "hall-rear"
source = "{CLIPS / "door-overhead-rendered.mp4"}"
scene.mode = "room"
threads = 1
[[camera]]
sensor_id = "hall"
source = "{CLIPS / "meeting-room-rendered.mp4"}"
scene.mode = "room"
threads = 1
[hours]
zone = "UTC"
{ALWAYS}
"""


def headroom(*arguments: object, code: int = 0) -> Any:
    """A command with --json: what it printed; or, where it is to fail, its words."""
    argv = [*HEADROOM, *map(str, arguments), "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == code, (arguments, done.stdout, done.stderr)
    return json.loads(done.stdout) if done.stdout.strip() else done.stderr


def until(condition: Callable[[], object], what: str, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.2)


def after(settings: ServiceSettings, look: Callable[[Store, Services], None]) -> None:
    """What is in the store, when the service has ended."""
    with open_store(settings, ServiceKeys.load(settings.keys)) as store:
        services = Services.build(settings, store)
        try:
            look(store, services)
        finally:
            services.close()


def test_two_cameras_of_one_board_count_for_two_sensors(tmp_path: Path) -> None:
    data = tmp_path / "service"
    load_or_create(data, data / "keys")
    settings = load_settings(data)
    port, server = start(settings)
    url, state = f"http://127.0.0.1:{port}", tmp_path / "state"
    board = ["--service", url, "--verification", "", "--state", state]
    where = ["--data", data]
    sensor: subprocess.Popen[bytes] | None = None
    try:
        first = headroom("service", "sensor", "add", "hall", "--no-verification", *where)
        assert headroom("sensor", "enrol", first["code"], *board)["sensor_id"] == "hall"
        second = headroom("service", "sensor", "add", "hall-rear", "--board", "hall", *where)
        verified = ["--service", url, "--verification", second["verification"], "--state", state]
        assert "already" in headroom("sensor", "enrol", second["code"], *verified, code=2)
        done = headroom("sensor", "enrol", second["code"], *verified, "--camera")
        assert (done["board"], done["state"]) == ("hall", str(state / "hall-rear"))
        assert "refused" in headroom("sensor", "enrol", second["code"], *verified, "--camera", code=1)
        assert [(one.folder.name, one.identity.board) for one in enrolled(state)] == [
            ("state", ""),
            ("hall-rear", "hall"),
        ]
        assert all(path.stat().st_mode & 0o077 == 0 for path in state.rglob("*"))

        (state / "sensor.toml").write_text(SETTINGS)
        sensor = subprocess.Popen(
            [*HEADROOM, "sensor", "run", "--state", str(state)], stderr=(tmp_path / "sensor.log").open("wb")
        )

        def delivered() -> dict[str, int]:
            assert sensor is not None
            assert sensor.poll() is None, (tmp_path / "sensor.log").read_text()
            cameras = (ask(state) or {"cameras": []})["cameras"]
            return {camera["sensor_id"]: camera["uplink"]["totals"]["delivered"] for camera in cameras}

        until(lambda: min(delivered().values(), default=0) >= 3, "both cameras deliver")
        status = headroom("sensor", "status", "--state", state)
        assert [(one["sensor_id"], one["board"]) for one in status["enrolled"]] == [("hall", ""), ("hall-rear", "hall")]

        # One camera's sensor is revoked: the other goes on as if nothing were.
        assert headroom("service", "sensor", "revoke", "hall-rear", *where)["cameras"] == []
        ended, going = delivered()["hall-rear"], delivered()["hall"]
        until(lambda: delivered()["hall"] >= going + 4, "the other camera goes on")
        assert delivered()["hall-rear"] <= ended + 1  # one batch may have been under way
        assert "hall-rear" in " ".join(headroom("sensor", "status", "--state", state)["faults"])
        sensor.send_signal(signal.SIGTERM)
        assert sensor.wait(10) == 0
        left = headroom("sensor", "send", "--attempts", 1, "--state", state, code=1)
        assert left["sensors"]["hall"]["waiting"] == 0
        assert left["sensors"]["hall-rear"]["waiting"] >= 3
    finally:
        for process in (sensor, server):
            if process is not None and process.poll() is None:
                process.terminate()
                process.wait(20)

    def look(store: Store, services: Services) -> None:
        now = datetime.now(UTC)
        counts = store.counts("default", ["hall", "hall-rear"], now - timedelta(hours=1), now + timedelta(hours=1))
        assert len(counts["hall"]) > len(counts["hall-rear"]) >= 3
        assert counts["hall"]["present"].max() >= 1  # people sit around the table in the one clip
        assert not store.conflicts("default", ["hall", "hall-rear"], now - timedelta(hours=1), now)
        told: Care = services.care
        said = told.status("default", "hall")  # the board speaks for all its cameras, whichever comes first
        assert said is not None
        assert {camera.sensor_id for camera in said.report.cameras} == {"hall", "hall-rear"}
        assert told.status("default", "hall-rear") is None

    after(settings, look)
    assert Identity.load(state / "hall-rear").service_url == url
