"""A sensor of the demo: the product's own commands, run as a user would, against the demo's own service.

Nothing of the counter is imported here: the service must run without it, and then the demo says what is missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from analytics.demo.campus import ORGANISATION, SENSOR, watch
from analytics.domain.model import Sensor
from analytics.enrolment import Enrolment
from analytics.store.base import Store

_REACH = timedelta(minutes=3)


class FootageError(Exception):
    """The footage was not counted; the message says why and what to do."""


@dataclass(frozen=True)
class Footage:
    """What to count.

    Attributes:
        scene, lines: as ``headroom count`` takes them.
        says: licence and origin, and what a person counted, for the reader.
    """

    video: Path
    scene: Path | None = None
    lines: tuple[str, ...] = ()
    says: str = ""


@dataclass(frozen=True)
class Counted:
    """What the counter said, all of it delivered and acknowledged."""

    records: int
    entered: int
    left: int
    present_max: int
    seconds: float

    def as_json(self) -> dict[str, float]:
        return {
            "records": self.records,
            "entered": self.entered,
            "left": self.left,
            "present_max": self.present_max,
            "seconds": self.seconds,
        }


class DemoSensor:
    """Enrols once with a one-time code and counts as often as it is asked to."""

    def __init__(self, state: Path, service_url: str) -> None:
        self._state = state
        self._service_url = service_url

    async def enrol(self, enrolment: Enrolment, store: Store) -> None:
        """Issue a code, spend it, and put the sensor up in its room. Raises FootageError."""
        issued = await asyncio.to_thread(
            enrolment.add, SENSOR, org_id=ORGANISATION, name="Counter of the demo", verification=False
        )
        store.update_sensor(ORGANISATION, SENSOR, _put_up)
        await _headroom(
            "sensor", "enrol", issued.code, "--verification", "", "--service", self._service_url,
            "--state", str(self._state), "--json",
        )  # fmt: skip

    async def count(self, footage: Footage, now: datetime) -> Counted:
        """Count the footage as if it had just been seen, and deliver it. Raises FootageError."""
        begin = now.astimezone(UTC).replace(second=0, microsecond=0) - _REACH
        arguments = ["count", str(footage.video), "--start", begin.isoformat(), "--send", "--state", str(self._state)]
        arguments += ["--max-seconds", str(int(_REACH.total_seconds())), "--json"]
        arguments += ["--scene", str(footage.scene)] if footage.scene else []
        for line in footage.lines:
            arguments += ["--line", line]
        return _counted(await _headroom(*arguments))


def _put_up(sensor: Sensor) -> Sensor:
    return replace(sensor, watches=(watch(),))


def _counted(text: str) -> Counted:
    found: dict[str, Any] = json.loads(text)
    return Counted(
        len(found["records"]), found["entered"], found["left"], found["present_max"], float(found["seconds"])
    )


async def _headroom(*arguments: str) -> str:
    """Run one command of the product; its stdout. Ends it when the demo ends."""
    program = shutil.which("nice")
    command = [*([program, "-n", "5"] if program else []), sys.executable, "-m", "headroom", *arguments]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is the demo's business
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "400"},
    )
    try:
        out, said = await process.communicate()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
        raise
    if process.returncode != 0:
        lines = [line for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
        reason = lines[-1].strip() if lines else f"ended with {process.returncode}"
        raise FootageError(f"headroom {arguments[0]}: {reason}")
    return out.decode("utf-8")
