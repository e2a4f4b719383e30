"""``headroom room``."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import click
from rich.console import Console
from rich.table import Table

from analytics.cli.common import opened, organisation_of
from analytics.cli.serve import data_option
from analytics.domain.model import Room
from analytics.room_import import ImportPlan, decode, plan_import
from analytics.store.base import Store

_SHOWN = 20


@click.group()
def room() -> None:
    """Import and list rooms."""


@room.command("import", epilog="Example: headroom room import rooms.csv --dry-run")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@data_option
@click.option("--organisation", help="Default: the only one.")
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
def import_rooms(file: Path, data: Path, organisation: str | None, dry_run: bool, as_json: bool) -> None:
    """Read rooms from FILE: everything is checked first, and with one fault nothing is written.

    Columns: building and number; name, capacity, capacity_from, class, floor, id, aliases, parts where you have them.
    The figures of rooms whose capacity changed are computed again.
    """
    try:
        text = decode(file.read_bytes())
    except ValueError as error:
        raise click.BadParameter(f"{file}: {error}", param_hint="FILE") from None
    with opened(data, create=True) as store:
        org_id = organisation_of(store, organisation)
        zone = store.organisation(org_id).time_zone
        before = store.rooms(org_id)
        today = datetime.now(UTC).astimezone(ZoneInfo(zone)).date()
        plan = plan_import(text, org_id, store.buildings(org_id), before, today, zone)
        if not plan.faults and not dry_run:
            store.put_buildings(org_id, plan.buildings)
            store.put_rooms(org_id, plan.rooms)
            _figures_again(store, org_id, {r.id: r for r in before}, plan, today)
    _say(file, plan, dry_run, as_json)
    if plan.faults:
        raise click.exceptions.Exit(2)


def _figures_again(store: Store, org_id: str, before: dict[str, Room], plan: ImportPlan, today: date) -> None:
    """Days whose seats changed, back to the first of them but no further than a year."""
    stale: set[tuple[str, date]] = set()
    for changed in plan.rooms:
        old = before.get(changed.id)
        if old is None or old.capacities == changed.capacities:
            continue
        news = [c.valid_from for c in changed.capacities if c not in old.capacities]
        first = max(min(news), today - timedelta(days=366))
        stale.update((changed.id, first + timedelta(days=i)) for i in range((today - first).days + 1))
    if stale:
        store.mark_stale(org_id, stale)


def _say(file: Path, plan: ImportPlan, dry_run: bool, as_json: bool) -> None:
    if as_json:
        document = {
            "written": not dry_run and not plan.faults,
            "buildings": [b.id for b in plan.buildings],
            "new": list(plan.new),
            "changed": {room_id: list(what) for room_id, what in plan.changes.items()},
            "same": len(plan.same),
            "faults": [asdict(fault) for fault in plan.faults],
        }
        click.echo(json.dumps(document, ensure_ascii=False))
        return
    console = Console(highlight=False, soft_wrap=True)
    if plan.faults:
        for fault in plan.faults[:_SHOWN]:
            console.print(f"{file}, {fault}", style="red", markup=False)
        if len(plan.faults) > _SHOWN:
            console.print(f"and {len(plan.faults) - _SHOWN} more")
        console.print("Nothing was written.")
        return
    for building in plan.buildings:
        console.print(f"new building {building.id}: {building.name}", markup=False)
    for room_id, what in list(plan.changes.items())[:_SHOWN]:
        console.print(f"{room_id}: {'; '.join(what)}", markup=False)
    would = "would be " if dry_run else ""
    console.print(f"{len(plan.new)} rooms {would}new, {len(plan.changed)} {would}changed, {len(plan.same)} the same.")


@room.command("list", epilog="Example: headroom room list --json")
@data_option
@click.option("--organisation", help="Default: the only one.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
def list_rooms(data: Path, organisation: str | None, as_json: bool) -> None:
    """Show all rooms with their seats today."""
    today = datetime.now(UTC).date()
    with opened(data) as store:
        rooms = store.rooms(organisation_of(store, organisation))
    found = [
        {"id": r.id, "building": r.building_id, "number": r.number, "name": r.name, "capacity": r.capacity_on(today),
         "class": r.room_class, "parts": list(r.parts)}
        for r in sorted(rooms, key=lambda r: (r.building_id, r.number))
    ]  # fmt: skip
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    shown = Table(header_style="bold")
    for name in ("id", "building", "number", "name", "capacity", "class"):
        shown.add_column(name, justify="right" if name == "capacity" else "left")
    for row in found:
        shown.add_row(*("" if row[str(c.header)] is None else str(row[str(c.header)]) for c in shown.columns))
    Console().print(shown)
