"""A service process on loopback for benchmarks, with sensors that are enrolled already."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from analytics.domain.model import Sensor
from analytics.runtime import ensure_organisation, open_store
from analytics.service_keys import ServiceKeys, load_or_create
from analytics.settings import Limits, ServiceSettings
from uplink.keyfiles import make_private_folder
from uplink.keys import SensorKey
from uplink.messages import CountRecord

START = datetime(2026, 3, 2, tzinfo=UTC)


@dataclass(frozen=True)
class RunningService:
    """Where it listens, its process, and the sensors' keys."""

    port: int
    process: subprocess.Popen[bytes]
    keys: ServiceKeys
    sensors: list[SensorKey]
    settings: ServiceSettings


def prepare(data: Path, sensors: int, limits: Limits) -> tuple[ServiceSettings, ServiceKeys, list[SensorKey]]:
    """A data folder with keys, store and `sensors` enrolled sensors."""
    settings = ServiceSettings(data=data, port=0, limits=limits)
    make_private_folder(data)
    keys = load_or_create(data, settings.keys)
    (data / "service.toml").write_text(
        "[limits]\n" + "".join(f"{name} = {value}\n" for name, value in limits.model_dump().items())
    )
    found = []
    with open_store(settings, keys) as store:
        ensure_organisation(store, settings)
        for number in range(sensors):
            now = datetime.now(UTC)
            store.add_sensor(Sensor("default", f"bench-{number}", created_at=now, enrolled_at=now))
            key = keys.master.sensor_key(f"bench-{number}")
            assert key is not None
            found.append(key)
    return settings, keys, found


def free_port() -> int:
    """A TCP port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(settings: ServiceSettings, port: int | None = None) -> tuple[int, subprocess.Popen[bytes]]:
    """Start ``headroom serve``, by default on a free port, and wait until it answers."""
    port = port or free_port()
    argv = [sys.executable, "-m", "headroom", "serve", "--data", str(settings.data), "--port", str(port)]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
                if json.load(answer)["status"] == "ok":
                    return port, process
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise RuntimeError("the service did not start") from None
            time.sleep(0.05)


@contextmanager
def running_service(sensors: int) -> Iterator[RunningService]:
    """A service in a temporary folder, without rate limits; ended and removed afterwards."""
    limits = Limits(sensor_burst=10**6, sensor_rate=10**6)
    with tempfile.TemporaryDirectory(prefix="headroom-bench-") as folder:
        settings, keys, found = prepare(Path(folder) / "service", sensors, limits)
        port, process = start(settings)
        try:
            yield RunningService(port, process, keys, found, settings)
        finally:
            process.terminate()
            process.wait(20)


def week(sensor_id: str, minutes: int = 7 * 24 * 60, first: int = 0) -> list[CountRecord]:
    """One record a minute from `first` on, with numbers that change as real ones do."""
    return [
        CountRecord(
            sensor_id=sensor_id,
            start=START + timedelta(minutes=minute),
            present=(minute // 7) % 40,
            present_max=(minute // 7) % 40 + 2,
            entered=minute % 4,
            left=(minute + 1) % 3,
            coverage=1.0,
        )
        for minute in range(first, first + minutes)
    ]


def report(name: str, value: float, unit: str, peer: str | None = None, peer_value: float | None = None) -> None:
    """One JSON line."""
    ratio = None if not peer_value else round(value / peer_value, 4)
    line = {
        "name": name,
        "value": round(value, 4),
        "unit": unit,
        "peer": peer,
        "peer_value": peer_value,
        "ratio": ratio,
    }
    print(json.dumps(line), flush=True)
