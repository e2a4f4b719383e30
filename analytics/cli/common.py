"""What the reporting commands share: the store, the scope and the language."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

from analytics import rollups
from analytics.assemble import RulesOf
from analytics.cli.serve import settings_or_usage_error
from analytics.domain.metrics import FIGURES
from analytics.figures import DEFAULT_FIGURES, Scope
from analytics.runtime import STORE_FILE, ensure_organisation, open_store
from analytics.service_keys import load_or_create
from analytics.site_rules import RulesError, load_rules
from analytics.store.base import Store
from analytics.store.errors import StoreError, StoreLockedError
from uplink.keyfiles import KeyFileError, make_private_folder

Command = TypeVar("Command", bound=Callable[..., Any])


@contextmanager
def opened(data: Path, *, create: bool = False) -> Iterator[Store]:
    """The store of a data folder; a fault ends the command with a message.

    Args:
        create: a new folder gets keys and an empty store; without it there must be one.
    """
    settings = settings_or_usage_error(data, {})
    if not create and settings.store is None and not (settings.data / STORE_FILE).exists():
        raise click.UsageError(
            f"{settings.data} holds no store; name the service's folder with --data, or fill one: headroom room import"
        )
    try:
        if create:
            make_private_folder(settings.data)
        with open_store(settings, load_or_create(settings.data, settings.keys)) as store:
            ensure_organisation(store, settings)
            yield store
    except StoreLockedError:
        raise click.ClickException(
            f"{settings.data} is in use by a running service: use its portal or API, or stop it first"
        ) from None
    except (StoreError, KeyFileError, OSError) as error:
        raise click.ClickException(str(error)) from None


def scope_options(command: Command) -> Command:
    """Options that choose rooms and days; ``--to`` is the last day, as people say it."""
    day = click.DateTime(["%Y-%m-%d"])
    for option in reversed(
        (
            click.option("--from", "first", type=day, help="First day. Default: four weeks before the last."),
            click.option("--to", "last", type=day, help="Last day, included. Default: yesterday."),
            click.option(
                "--building", "buildings", multiple=True, metavar="ID", help="Only this building; repeatable."
            ),
            click.option("--room", "rooms", multiple=True, metavar="ID", help="Only this room; repeatable."),
            click.option("--class", "room_class", default="", help="Only rooms of this class."),
            click.option("--weekday", "weekdays", multiple=True, type=click.IntRange(1, 7), help="1 = Monday."),
            click.option("--period", "periods", multiple=True, help="Only days of this named period."),
            click.option("--organisation", help="Default: the only one."),
        )
    ):
        command = option(command)
    return command


def scope_of(
    store: Store,
    first: datetime | None,
    last: datetime | None,
    buildings: tuple[str, ...],
    rooms: tuple[str, ...],
    room_class: str,
    weekdays: tuple[int, ...],
    periods: tuple[str, ...],
    organisation: str | None,
) -> Scope:
    """The scope that the options mean; a wrong one is a usage error."""
    org_id = organisation_of(store, organisation)
    end = (last.date() if last else datetime.now(UTC).date() - timedelta(days=1)) + timedelta(days=1)
    start = first.date() if first else end - timedelta(weeks=4)
    known = {p.name for p in store.organisation(org_id).periods}
    for name in periods:
        if name not in known:
            raise click.BadParameter(f"{name!r} is no period; there are: {', '.join(sorted(known)) or 'none'}")
    try:
        return Scope(org_id, start, end, buildings, rooms, room_class, tuple(d - 1 for d in weekdays), periods)
    except ValueError:
        raise click.BadParameter(f"--from {start} lies after --to {end - timedelta(days=1)}") from None


def organisation_of(store: Store, given: str | None) -> str:
    """The organisation named, or the only one there is."""
    known = [organisation.id for organisation in store.organisations()]
    if given is not None:
        if given not in known:
            raise click.BadParameter(f"--organisation {given!r} is not known; there are: {', '.join(known)}")
        return given
    if len(known) > 1:
        raise click.UsageError(f"name one with --organisation: {', '.join(known)}")
    return known[0]


def figures_option(default: Sequence[str] = DEFAULT_FIGURES) -> Callable[[Command], Command]:
    """``--figures a,b``, checked."""
    return click.option(
        "--figures",
        "names",
        metavar="NAMES",
        default=",".join(default),
        callback=_figure_names,
        help=f"Comma-separated. There are: {', '.join(FIGURES)}.",
    )


def _figure_names(_: click.Context, __: click.Parameter, value: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in value.split(",") if name.strip())
    for name in names:
        if name not in FIGURES:
            raise click.BadParameter(f"{name!r} is no figure; there are: {', '.join(FIGURES)}")
    return names


@contextmanager
def naming_the_unknown() -> Iterator[None]:
    """A room or building that does not exist is a usage error."""
    try:
        yield
    except KeyError as error:
        raise click.BadParameter(
            f"there is no room or building {error.args[0]!r}; headroom room list shows them"
        ) from None


def rules_in(data: Path) -> RulesOf:
    """Rules of the sites from the data folder; wrong ones are a usage error."""
    try:
        return load_rules(data.absolute())
    except RulesError as error:
        raise click.UsageError(str(error)) from None


def bring_up_to_date(store: Store, org_id: str, rules_of: RulesOf) -> None:
    """Compute what changed since the service last did; nothing to do on a service that runs."""
    while rollups.refresh(store, org_id, rules_of=rules_of).behind:
        pass
