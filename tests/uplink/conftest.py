"""What the tests of the uplink share: a clock with movable hands, records, and a service that keeps the contract."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from uplink.messages import CountRecord
from uplink.spool import Spool, SpoolSettings
from uplink.testing import ReferenceService

SENSOR = "hall-3"
FIRST = datetime(2026, 11, 22, 7, 0, tzinfo=UTC)


class ManualClock:
    """Both clocks stand still until somebody sleeps or turns the hands."""

    def __init__(self, now: float = FIRST.timestamp()) -> None:
        self.wall = now
        self.steady = 1_000.0
        self.slept: list[float] = []

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.steady

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.wall += seconds
        self.steady += seconds


def make_record(minute: int, sensor_id: str = SENSOR) -> CountRecord:
    """One minute's record; every minute has its own values."""
    return CountRecord(
        sensor_id=sensor_id,
        start=FIRST + timedelta(minutes=minute),
        present=minute % 97,
        present_max=minute % 97 + minute % 3,
        entered=minute % 7,
        left=minute % 5,
        coverage=1 - (minute % 10) / 10,
    )


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def record() -> Callable[..., CountRecord]:
    return make_record


@pytest.fixture
def service(clock: ManualClock) -> ReferenceService:
    return ReferenceService(clock.time)


@pytest.fixture
def fast_folder(tmp_path: Path) -> Iterator[Path]:
    """An empty folder in RAM where there is one: the tests ask for thousands of syncs, a shared disk may give few."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory, prefix="headroom-test-") as folder:
        yield Path(folder)


@pytest.fixture
def open_spool(fast_folder: Path, service: ReferenceService) -> Callable[..., Spool]:
    """Opens the test's one spool; keyword arguments are its settings, and `ops`."""

    def opener(**options: object) -> Spool:
        ops = options.pop("ops", None)
        folder = options.pop("folder", fast_folder / "spool")
        return Spool(
            folder,  # type: ignore[arg-type]
            SENSOR,
            service.seal_keys.public_key,
            SpoolSettings(**options),  # type: ignore[arg-type]
            ops,  # type: ignore[arg-type]
        )

    return opener
