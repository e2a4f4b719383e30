"""``headroom export``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from analytics.assemble import Site
from analytics.cli.common import (
    bring_up_to_date,
    figures_option,
    naming_the_unknown,
    opened,
    rules_in,
    scope_of,
    scope_options,
)
from analytics.cli.serve import data_option
from analytics.exports import Format, Language, Unit, booking_export, room_export, write_file
from analytics.research import research_export, write_dictionary


@click.command(
    epilog="""\b
Examples:
  headroom export rooms.csv --from 2026-09-07 --to 2026-11-13 --unit hour --language nl
  headroom export bookings.parquet --what bookings --building main
  headroom export open-data.csv --what research"""
)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@data_option
@scope_options
@click.option(
    "--what",
    type=click.Choice(["rooms", "bookings", "research"]),
    default="rooms",
    show_default=True,
    help="A row for each room and unit of time, for each booking, or an anonymous research file.",
)
@click.option("--unit", type=click.Choice([u.value for u in Unit]), default=Unit.DAY.value, show_default=True)
@figures_option()
@click.option("--format", "kind", type=click.Choice([f.value for f in Format]), help="Default: by the file's ending.")
@click.option(
    "--language",
    type=click.Choice([x.value for x in Language]),
    default=Language.DUTCH.value,
    show_default=True,
    help="nl: ; and decimal comma. en: , and point.",
)
@click.option("--titles/--no-titles", default=True, help="Write the names of events. Default: yes.")
@click.option("--withhold-below", type=click.IntRange(0, 100), default=0, show_default=True,
              help="Withhold attendance of 1 to this less 1 (bookings).")  # fmt: skip
@click.option(
    "--group-size", type=click.IntRange(3, 100), default=5, show_default=True, help="Smallest group (research)."
)
def export(
    file: Path,
    data: Path,
    what: str,
    unit: str,
    names: tuple[str, ...],
    kind: str | None,
    language: str,
    titles: bool,
    withhold_below: int,
    group_size: int,
    organisation: str | None,
    **choice: Any,
) -> None:
    """Write figures, bookings or research data to FILE.

    An empty cell is no data, never 0. The file appears whole or not at all. Research data come with a data dictionary
    beside them, FILE.dictionary.json.
    """
    chosen = _format(file, kind)
    if not file.absolute().parent.is_dir():
        raise click.BadParameter(f"{file.absolute().parent} is no folder; make it first", param_hint="FILE")
    rules_of = rules_in(data)
    with opened(data) as store:
        scope = scope_of(store, organisation=organisation, **choice)
        bring_up_to_date(store, scope.org_id, rules_of)
        site = Site.load(store, scope.org_id)
        with naming_the_unknown():
            if what == "rooms":
                content = room_export(store, scope, Unit(unit), names, site)
            elif what == "bookings":
                content = booking_export(
                    store, scope, titles=titles, withhold_below=withhold_below, rules_of=rules_of, site=site
                )
            else:
                content = research_export(store, scope, k=group_size, site=site)
            write_file(content, file.absolute(), chosen, Language(language))
    if what == "research":
        write_dictionary(file.absolute().with_name(f"{file.name}.dictionary.json"), group_size)
    Console(stderr=True).print(f"{file}: {file.stat().st_size:,} bytes", highlight=False)


def _format(file: Path, kind: str | None) -> Format:
    name = kind or file.suffix.lstrip(".").lower()
    try:
        return Format(name)
    except ValueError:
        raise click.BadParameter(
            f"{file.name} does not end in .csv, .json or .parquet; say --format", param_hint="FILE"
        ) from None
