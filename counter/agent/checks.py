"""``headroom sensor check``: everything a sensor needs, tried once, with what is wrong and what to do."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from counter.agent import board
from counter.agent.adapt import KEPT_SHARE
from counter.agent.clock import AgentClock, SystemAgentClock, iso
from counter.agent.feed import OpenFeed, open_feed
from counter.agent.outbox import find_enrolment
from counter.agent.power import Meters, measure
from counter.agent.schedule import Schedule
from counter.agent.settings import LEAST_FPS, CameraSettings, SensorSettings
from counter.agent.state import ask
from counter.agent.summary import tunnel_status
from counter.detector import DetectorError, open_model, resolve, usable_cpus
from counter.health import deviation, shrink
from counter.privacy import in_use
from counter.sources import SourceError
from uplink.cli_enrol import TUNNEL_FILE
from uplink.codec import JSON_TYPE, encode_batch
from uplink.identity import Identity, IdentityError, enrolled
from uplink.sender import COUNTS_PATH
from uplink.signing import ANSWER_HEADER, SignatureError, sign_request, verify_answer
from uplink.transport import RequestsTransport, Transport, TransportError

PICTURE_SECONDS = 15.0
POWER_SECONDS = 1.0
_LOOKS = 20
_LEAST_FREE = 64 << 20

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was tried.

    Attributes:
        what: ``camera hall-3``, ``service``...
        words: what was found.
        todo: what to do about it; empty when it is well.
    """

    what: str
    state: State
    words: str
    todo: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def check_all(
    settings: SensorSettings,
    state: Path,
    *,
    feed: OpenFeed = open_feed,
    transport: Callable[[], Transport] = RequestsTransport,
    clock: AgentClock | None = None,
    meters: Meters | None = None,
) -> list[Check]:
    """Try everything, in the order of the way of the data. Pictures are overwritten; only an empty batch is sent."""
    clock = clock or SystemAgentClock()
    running = _running(state)
    found = list(_schedule(settings, clock))
    for camera in settings.camera:
        found.append(_model(camera, len(settings.camera)))
        found.append(_camera_of_agent(camera, running) if running else check_camera(camera, clock, feed))
    found.append(_folder(state))
    tunnel = tunnel_status(state)
    if tunnel["state"] != "none":
        well: State = "ok" if tunnel["state"] == "ok" else "warn" if tunnel["state"] == "unknown" else "fail"
        todo = "" if well == "ok" else "headroom tunnel up; headroom tunnel status"
        found.append(Check("tunnel", well, tunnel["words"], todo))
    found += [_service(camera, state, transport, clock) for camera in settings.camera]
    found += _idle(settings, state)
    found += _board(settings, meters)
    return found


def check_camera(camera: CameraSettings, clock: AgentClock, feed: OpenFeed = open_feed) -> Check:
    """Open a camera, wait for pictures, judge them."""
    what = f"camera {_label(camera)}"
    try:
        opened = feed(camera, clock)
    except SourceError as error:
        return Check(what, "fail", str(error), "correct `source` in the settings; a file is looked for beside them")
    try:
        return _judge(what, camera, opened, clock)
    finally:
        opened.close()


def _judge(what: str, camera: CameraSettings, opened: Any, clock: AgentClock) -> Check:
    begun = clock.monotonic()
    times: list[float] = []
    bright = texture = 0.0
    size = (0, 0)
    while len(times) < _LOOKS and clock.monotonic() - begun < PICTURE_SECONDS:
        item = opened.read(0.5)
        if item is None:
            if opened.ended:
                break
            continue
        with in_use(item.frame):
            size = (item.frame.shape[1], item.frame.shape[0])
            if not times:
                small = shrink(item.frame)
                bright, texture = float(np.percentile(small, 95.0)), float((deviation(small) >= 3.0).mean())
        times.append(item.t)
        if times[-1] - times[0] > 4.0:
            break
    if not times:
        reason = opened.failure or "no answer"
        todo = "check plug, address and password; is another program using it?"
        return Check(what, "fail", f"no picture within {clock.monotonic() - begun:.0f} s: {reason}", todo)
    rate = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 and times[-1] > times[0] else 0.0
    words = f"{size[0]}x{size[1]}, {rate:.1f} pictures/s"
    least = min(LEAST_FPS[camera.scene.mode], camera.most_fps)
    if bright < 28.0:
        return Check(what, "warn", f"{words}, but the picture is dark", "light the room; is there a cap on the lens?")
    if texture < 0.04:
        return Check(what, "warn", f"{words}, but there is nothing to see", "is something in front of the lens?")
    if 0.0 < rate < least:
        return Check(what, "warn", f"{words}; {camera.scene.mode} needs {least:g}", "raise the camera's rate")
    return Check(what, "ok", words)


def _camera_of_agent(camera: CameraSettings, running: dict[str, Any]) -> Check:
    """The running sensor has the camera open: what it says of it."""
    what = f"camera {_label(camera)}"
    for known in running["cameras"]:
        if camera.sensor_id in (None, known["sensor_id"]) and known["source"] == camera.name:
            words = f"{known['state']} in the running sensor, health {', '.join(known['health'])}"
            good = known["state"] in ("counting", "closed", "starting") and known["health"] == ["ok"]
            return Check(what, "ok" if good else "warn", words, "" if good else "headroom sensor status")
    return Check(what, "warn", "the running sensor does not know it", "restart the sensor to take the settings over")


def _label(camera: CameraSettings, most: int = 24) -> str:
    """The sensor's name, or the end of a long address: that is what tells cameras apart."""
    name = camera.sensor_id or camera.name
    return name if len(name) <= most else "..." + name[3 - most :]


def _running(state: Path) -> dict[str, Any] | None:
    try:
        document = ask(state)
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def _schedule(settings: SensorSettings, clock: AgentClock) -> Iterator[Check]:
    schedule, now = Schedule(settings.hours), clock.time()
    change = schedule.next_change(now)
    words = "open now" if schedule.is_open(now) else "closed now"
    if change is None:
        never = not schedule.is_open(now)
        yield Check("hours", "fail" if never else "ok", f"{words}, and it stays so", "set [hours]" if never else "")
    else:
        verb = "closes" if schedule.is_open(now) else "opens"
        local = datetime.fromtimestamp(change, UTC).astimezone(schedule.zone)
        yield Check("hours", "ok", f"{words}; {verb} {local:%a %Y-%m-%d %H:%M} {settings.hours.zone}")
    if now < 1_735_689_600:  # 2025: no network time yet, and no battery
        yield Check("clock", "fail", f"it says {iso(now)}", "set the time: timedatectl set-ntp true")


def _model(camera: CameraSettings, cameras: int) -> Check:
    what = f"model {_label(camera)}"
    try:
        threads = camera.threads or max(1, usable_cpus() // cameras)
        detector, chosen = open_model(resolve(camera.model, camera.scene.mode), threads)
        frame = np.full((chosen.input_size[1], chosen.input_size[0], 3), 114, np.uint8)
        detector.detect(frame)
        begun = time.perf_counter()
        for _ in range(3):
            detector.detect(frame)
        spent = (time.perf_counter() - begun) / 3
    except DetectorError as error:
        return Check(what, "fail", str(error), "headroom models list; headroom models pull NAME")
    words = f"{chosen.name} {chosen.precision}, {spent * 1e3:.0f} ms a picture"
    least = max(min(LEAST_FPS[camera.scene.mode], camera.most_fps), KEPT_SHARE * (camera.fps or 0.0))
    if 0.85 / spent / cameras * threads < least:
        return Check(
            what,
            "warn",
            f"{words}: too slow here for {camera.fps or least:g} looks/s",
            "a smaller model, fewer cameras on this board, or a lower `fps`",
        )
    return Check(what, "ok", words)


def _folder(state: Path) -> Check:
    if not state.is_dir():
        return Check("state folder", "fail", f"{state} is not there", "headroom sensor enrol makes it")
    free = shutil.disk_usage(state).free
    if free < _LEAST_FREE:
        return Check("state folder", "fail", f"{state}: {free >> 20} MiB free", "free some space")
    return Check("state folder", "ok", f"{state}: {free >> 20} MiB free")


def _service(camera: CameraSettings, state: Path, transport: Callable[[], Transport], clock: AgentClock) -> Check:
    """Post an empty batch: an answer that is signed proves way, service and key at once."""
    what = f"service {camera.sensor_id or ''}".strip()
    try:
        enrolment = find_enrolment(camera, state)
        tunnelled = (state / TUNNEL_FILE).exists()
        return _post(what, enrolment.identity, enrolment.folder, transport(), clock, tunnelled=tunnelled)
    except IdentityError as error:
        says_what_to_do = "run: chmod" in str(error)
        return Check(what, "fail", str(error), "" if says_what_to_do else "headroom sensor enrol --service URL")


def _post(what: str, identity: Identity, folder: Path, wire: Transport, clock: AgentClock, *, tunnelled: bool) -> Check:
    key = identity.load_key(folder)
    body = encode_batch([])
    claim = sign_request(
        key,
        method="POST",
        path=COUNTS_PATH,
        body=body,
        now=clock.time(),
        content_type=JSON_TYPE,
        content_encoding="gzip",
    )
    headers = {"Authorization": claim.header(), "Content-Type": JSON_TYPE, "Content-Encoding": "gzip"}
    try:
        reply = wire.post(identity.service_url + COUNTS_PATH, body, headers | {"Accept": "application/json"})
    except TransportError as error:
        todo = "does the service run, and is its address right? counts wait here meanwhile"
        if tunnelled:
            todo = "is the tunnel up, and does the service run? headroom tunnel status"
        return Check(what, "fail", f"{identity.service_url}: {error}", todo)
    finally:
        close = getattr(wire, "close", None)
        if close is not None:
            close()
    try:
        served = verify_answer(
            key, claim, reply.headers.get(ANSWER_HEADER.lower()), status=reply.status, body=reply.body
        )
    except SignatureError:
        todo = "the sensor may have been revoked, or the address is another service's; enrol again"
        if reply.status == 403:
            todo = "it takes this sensor from its own board's tunnel address alone: headroom tunnel status"
        return Check(what, "fail", f"{identity.service_url} answers {reply.status}, unsigned", todo)
    skew = clock.time() - served
    if abs(skew) > 30.0:
        return Check(what, "warn", f"this clock is {skew:+.0f} s from the service's", "check NTP: timedatectl")
    if reply.status != 200:
        return Check(what, "warn", f"it answers {reply.status}", "look at the service's log")
    board = f", a camera of board {identity.board}" if identity.board else ""
    return Check(what, "ok", f"{identity.service_url} knows {identity.sensor_id}{board}")


def _idle(settings: SensorSettings, state: Path) -> Iterator[Check]:
    """Further cameras that were enrolled and that no camera counts as. A board's own sensor may be without one."""
    used = {camera.sensor_id for camera in settings.camera}
    try:
        idle = [one for one in enrolled(state) if one.identity.board and one.identity.sensor_id not in used]
    except IdentityError as error:
        yield Check("cameras", "warn", str(error), "enrol it anew, or remove its folder")
        return
    for one in idle:
        name = one.identity.sensor_id
        todo = f'sensor_id = "{name}" for one of [[camera]]; or, where it is gone for good, remove {one.folder}'
        yield Check(f"sensor {name}", "warn", "enrolled, but no camera counts as it", todo)


def _board(settings: SensorSettings, meters: Meters | None) -> Iterator[Check]:
    power = measure(POWER_SECONDS, meters)
    yield Check("power", "ok", power.words if power.watts is None else f"{power.watts:.1f} W: {power.words}")
    heat = board.temperature()
    if heat is not None and heat >= settings.work.warm:
        yield Check("temperature", "warn", f"{heat:.0f} degrees Celsius", "cool the board: it counts at a lower rate")
