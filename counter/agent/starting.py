"""From settings to a locked and running agent: everything is found first, then locked, then opened."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from counter._models import load as load_models
from counter.agent.outbox import find_enrolment
from counter.agent.settings import CameraSettings, SensorSettings
from counter.agent.supervisor import Agent
from counter.detector import DetectorError, resolve
from counter.privacy import Confinement, LockError, inspect, lock, refusal
from counter.sources import SourceError, live_capture
from uplink.identity import IdentityError
from uplink.keyfiles import make_private_folder
from uplink.messages import CountRecord
from uplink.spool import SpoolBusyError, SpoolError

log = logging.getLogger(__name__)

_PORTS = {"http": 80, "https": 443, "rtsp": 554, "rtsps": 322, "rtmp": 1935}


def start(
    settings: SensorSettings,
    path: Path,
    state: Path,
    *,
    strict: bool = False,
    dry_run: bool = False,
    unlocked: bool = False,
) -> Agent:
    """An agent that is ready to run.

    Args:
        path: of the settings.
        strict: refuse when a privacy lock does not hold.
        dry_run: print the records, send nothing, need no enrolment.
        unlocked: leave the locks off.

    Raises:
        click.UsageError: settings, enrolment or model cannot be used.
        click.ClickException: a lock does not hold and ``strict`` is set; the spool or folder cannot be used.
    """
    try:
        make_private_folder(state)
    except OSError as error:
        raise click.UsageError(f"{state}: {error.strerror}; choose another --state or run as root") from None
    try:
        plan = confinement(settings, path, state, enrolled=not dry_run)
        if unlocked:
            log.warning("the privacy locks are off: this run is for trying out, not for a room")
        else:
            lock(plan)
        if strict and (why := refusal(inspect())):
            raise click.ClickException(f"--strict: a privacy lock does not hold:\n{why}")
        agent = Agent(
            settings,
            state,
            on_record=print_record if dry_run else None,
            extra=lambda: {"locks": [report.as_json() for report in inspect()]},
        )
    except (IdentityError, DetectorError, SourceError, LockError) as error:
        raise click.UsageError(str(error)) from None
    except SpoolBusyError:
        raise click.ClickException(
            f"{state}: a sensor (or `headroom sensor send`) works with this state folder already; it says how it is "
            f"with: headroom sensor status --state {state}"
        ) from None
    except SpoolError as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"{state}: cannot be used: {error.strerror}") from None
    return agent


def print_record(record: CountRecord) -> None:
    """One line of JSON on stdout."""
    sys.stdout.write(json.dumps(record.model_dump(mode="json")) + "\n")
    sys.stdout.flush()


def confinement(settings: SensorSettings, path: Path, state: Path, *, enrolled: bool) -> Confinement:
    """What this sensor needs to reach, and nothing else.

    Raises:
        IdentityError, DetectorError, SourceError: a camera's sensor, model or source cannot be used.
    """
    read = {path.resolve().parent}
    devices: set[Path] = set()
    ports: set[int] = set()
    for camera in settings.camera:
        model = resolve(camera.model, camera.scene.mode)
        read |= {x.path.resolve().parent for x in (model, *model.alternatives)}
        read |= _model_sources(camera)
        if enrolled:
            ports |= {_port(find_enrolment(camera, state).identity.service_url)}
        read |= _recordings(camera)
        devices |= _devices(camera)
        if "://" in camera.source:
            ports |= {_port(camera.source)}
    return Confinement(
        write=(state.resolve(),),
        read=tuple(sorted(read)),
        devices=tuple(sorted(devices)),
        connect=tuple(sorted(ports - {0})),
    )


def _model_sources(camera: CameraSettings) -> set[Path]:
    """Where published models lie from which optimised ones were made: they are compared at every start."""
    places = {Path(load_models("registry").cache_folder())}
    if data := os.environ.get("HEADROOM_DATA"):
        places.add(Path(data) / "teachers")
    if camera.model is not None and Path(camera.model).is_file():
        places.add(Path(camera.model).resolve().parent)
    return places


def _recordings(camera: CameraSettings) -> set[Path]:
    if live_capture(camera.source, field="source") is not None or "://" in camera.source:
        return set()
    path = Path(camera.source)
    if not path.exists():
        raise SourceError("source", camera.source, "there is no such file or camera; correct it in the settings")
    return {path.resolve()}


def _devices(camera: CameraSettings) -> set[Path]:
    """The camera's device, also while it is unplugged."""
    name = camera.source if camera.source.startswith("/dev/") else f"/dev/video{camera.source}"
    return {Path(name)} if camera.source.startswith("/dev/") or camera.source.isdigit() else set()


def _port(url: str) -> int:
    parts: Any = urlsplit(url)
    try:
        return int(parts.port or _PORTS.get(parts.scheme, 0))
    except ValueError:
        return 0
