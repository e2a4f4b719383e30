"""What the status means: the agent's own words, the tunnel beside it, and what is not as it should be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from counter.agent.state import ask
from uplink.cli_enrol import TUNNEL_FILE
from uplink.identity import IDENTITY_FILE, IdentityError, enrolled
from uplink.tunnel import DEFAULT_INTERFACE, Tunnel
from uplink.tunnel_health import TunnelState
from uplink.wg_backends import TunnelError
from uplink.wgconf import ConfigError, load

WAITING_TOO_LONG = 15
"""Records that wait although the service should have them: a quarter of an hour."""


def read_status(state: Path) -> dict[str, Any]:
    """The status of the agent of this state folder, the tunnel's and who is enrolled; ``running`` false without one.

    Raises:
        PermissionError: it runs as another user.
        OSError, ValueError: it does not answer.
    """
    document = ask(state)
    if not isinstance(document, dict):
        document = {"running": False, "cameras": []}
    return document | {"tunnel": tunnel_status(state), "enrolled": enrolled_sensors(state)}


def enrolled_sensors(state: Path) -> list[dict[str, str]]:
    """The sensors of this state folder, the board's own first: name, board (of a further camera), tunnel address."""
    try:
        found = enrolled(state)
    except IdentityError:
        return []
    address = {one.identity.sensor_id: one.identity.tunnel_address for one in found}
    return [
        {
            "sensor_id": one.identity.sensor_id,
            "board": one.identity.board,
            "tunnel_address": address.get(one.identity.board or one.identity.sensor_id, ""),
        }
        for one in found
    ]


def tunnel_status(state: Path) -> dict[str, str]:
    """State and words of the tunnel: ``none`` where this sensor has no tunnel, ``unknown`` where it cannot be asked."""
    path = state / TUNNEL_FILE
    if not path.exists() and not (state / IDENTITY_FILE).exists():
        return {"state": "none", "words": "this sensor is not enrolled yet: headroom sensor enrol"}
    if not path.exists():
        return {"state": "none", "words": "this sensor was enrolled without a tunnel"}
    try:
        health = Tunnel(DEFAULT_INTERFACE, load(path)).health()
    except (ConfigError, TunnelError, OSError) as error:
        return {"state": "unknown", "words": f"it cannot be asked: {error}"}
    return {"state": health.state.value, "words": health.words}


def faults_of(document: dict[str, Any]) -> list[str]:
    """Everything in a status that is not as it should be, in words, with what to do."""
    if not document["running"]:
        return ["no sensor is running here; start it: systemctl start headroom-sensor, or headroom sensor run"]
    faults = [f"lock {x['name']} does not hold: {x['why']}" for x in document.get("locks", []) if _broken(x)]
    faults += [f"{name} gives no sign of life; restart the sensor" for name in document.get("hung", [])]
    for camera in document["cameras"]:
        faults += _camera(camera)
    tunnel = document.get("tunnel", {})
    if tunnel.get("state") not in (None, "none", TunnelState.OK.value):
        faults.append(f"tunnel {tunnel['state']}: {tunnel['words']}")
    if document.get("board", {}).get("swapped_kib"):
        faults.append("part of the sensor's memory is in swap; switch swap off: swapoff -a")
    return faults


_TODO = {
    "dark": "the view is dark: light, lens cap, exposure",
    "blocked": "over half of the view is covered: clear it",
    "moved": "the camera was moved: put it back, or draw the scene anew (headroom scene) and restart the sensor",
    "overloaded": "the board cannot keep up (fewer cameras, a lower `fps`, or cool it), or the camera gives too little",
}


def _camera(camera: dict[str, Any]) -> list[str]:
    name = camera["sensor_id"]
    faults = [f"{name}: {_TODO[fault]}{_rates(camera, fault)}" for fault in camera["health"] if fault in _TODO]
    if camera["state"] == "failed":
        times = f"{camera['failures']} times" if camera.get("failures", 1) > 1 else "once"
        faults.append(
            f"{name}: it failed {times} ({camera['reason']}) and begins anew by itself; where that does not help, "
            "the log says more: journalctl -u headroom-sensor"
        )
    elif camera["state"] == "away":
        faults.append(f"{name}: no pictures ({camera['reason'] or 'no answer'}): check camera, cable and address")
    elif "no_signal" in camera["health"]:
        faults.append(f"{name}: the picture is frozen: restart the camera")
    uplink = camera.get("uplink")
    if uplink is None:
        return faults
    if uplink["disk_error"]:
        faults.append(f"{name}: the spool cannot be written: {uplink['disk_error']}")
    if uplink["last_error"]:
        faults.append(f"{name}: {uplink['waiting']} records wait: {uplink['last_error']}")
    elif uplink["waiting"] > WAITING_TOO_LONG:
        faults.append(f"{name}: {uplink['waiting']} records wait")
    if abs(uplink["clock_skew_seconds"] or 0.0) > 30.0:
        faults.append(f"{name}: the clock is {-uplink['clock_skew_seconds']:+.0f} s from the service's: check NTP")
    return faults


def _rates(camera: dict[str, Any], fault: str) -> str:
    """How often an overloaded camera is looked at."""
    if fault != "overloaded" or camera.get("reached") is None:
        return ""
    return f" (looked at {camera['reached']:g} times/s; less than {camera['enough']:g} are too few)"


def _broken(lock: dict[str, Any]) -> bool:
    return bool(lock.get("required", True)) and not lock["holds"]
