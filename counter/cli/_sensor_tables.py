"""How ``headroom sensor check`` and ``status`` look in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from counter.agent.checks import Check

_STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}


def print_checks(checks: Sequence[Check]) -> None:
    """One line each, and what to do below it."""
    console = Console(highlight=False, soft_wrap=True)
    width = max(len(check.what) for check in checks)
    for check in checks:
        style = _STYLES[check.state]
        console.print(f"[{style}]{check.state:4}[/]  {escape(check.what):{width}}  {escape(check.words)}")
        if check.todo:
            console.print(f"{'':{width + 8}}-> {escape(check.todo)}")
    failed = sum(check.state == "fail" for check in checks)
    console.print("[green]This sensor can count.[/]" if not failed else f"[red]{failed} of {len(checks)} failed.[/]")


def print_status(document: dict[str, Any], faults: Sequence[str]) -> None:
    """Cameras, locks, tunnel, board, and what is wrong."""
    console = Console(highlight=False, soft_wrap=True)
    if document["running"]:
        _cameras(console, document)
        _locks(console, document.get("locks", []))
        board = document["board"]
        heat = "" if board["temperature"] is None else f", {board['temperature']:.0f} degrees Celsius"
        console.print(f"board: {board['memory_mib']} MiB, load {board['load']} a CPU{heat}")
        if not document.get("care", {}).get("enabled", True):
            console.print("remote care: off; sensor.toml alone holds ([care] enabled = false)")
    tunnel = document["tunnel"]
    console.print(f"tunnel: {tunnel['state']}: {escape(tunnel['words'])}")
    cameras = [one for one in document.get("enrolled", []) if one["board"]]
    if cameras:
        names = ", ".join(one["sensor_id"] for one in cameras)
        address = cameras[0]["tunnel_address"]
        through = f" speak{'s' if len(cameras) == 1 else ''} through its tunnel ({address}) too"
        console.print(f"board {cameras[0]['board']}: {names}{through if address else ' on it too'}")
    for fault in faults:
        console.print(f"[red]!![/] {escape(fault)}")
    if not faults:
        console.print("[green]All is well.[/]")


def _cameras(console: Console, document: dict[str, Any]) -> None:
    change = document["next_change"]
    hours = "measuring" if document["measuring"] else "outside the measuring hours"
    zone = document["zone"]
    until = f", until {_local(change, zone)}" if change else ""
    console.print(f"since {_local(document['started'], zone)}: {hours}{until} ({zone})")
    rows = [_row(camera) for camera in document["cameras"]]
    table = Table(box=None)
    for index, name in enumerate(
        ("sensor", "camera", "state", "health", "now", "in", "out", "rate", "waiting", "sent")
    ):
        # On a narrow terminal the camera's address gives way, never a name, a number or what is wrong.
        least = 8 if name == "camera" else max(len(text) for text in (name, *(row[index] for row in rows)))
        table.add_column(name, no_wrap=True, overflow="ellipsis", min_width=least)
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)


def _row(camera: dict[str, Any]) -> tuple[str, ...]:
    uplink = camera.get("uplink")
    sent = uplink and uplink["last_success_seconds_ago"]
    return (
        camera["sensor_id"],
        _short(camera["source"]),
        camera["state"],
        ", ".join(camera["health"]),
        "-" if camera["present"] is None else str(camera["present"]),
        str(camera["entered"]),
        str(camera["left"]),
        f"{camera['rate']:g}/s",
        str(uplink["waiting"]) if uplink else "-",
        "-" if sent is None else f"{sent:.0f} s ago",
    )


def _local(moment: str, zone: str) -> str:
    """A moment as the site's own clock shows it."""
    return f"{datetime.fromisoformat(moment).astimezone(ZoneInfo(zone)):%a %Y-%m-%d %H:%M}"


def _short(source: str, most: int = 24) -> str:
    """The end of a long path or address tells cameras apart."""
    return source if len(source) <= most else "..." + source[3 - most :]


def _locks(console: Console, locks: Sequence[dict[str, Any]]) -> None:
    table = Table("lock", "", "why", box=None)
    for lock in locks:
        holds = "[green]holds[/]" if lock["holds"] else "[red]does not hold[/]"
        table.add_row(lock["name"], holds, escape(lock["why"]))
    if locks:
        console.print(table)
