"""``headroom timetable``: the scheduling systems that plans are pulled from."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel, ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from analytics.cli.serve import data_option, settings_or_usage_error
from analytics.cli.service import json_option
from analytics.enrolment import AdministrationError
from analytics.store.errors import StoreError
from analytics.timetable_desk import Desk, NewSource, PullView, SourceOrder, open_desk
from analytics.web.portal.source_form import FormField, form_fields
from timetable_adapters.base import Adapter, ConfigurationError
from timetable_adapters.discovery import adapters, load
from uplink.keyfiles import KeyFileError, make_private_folder

_SHOWN = 20
_ORGANISATION = click.option("--organisation", help="Default: the only one.")


@click.group()
def timetable() -> None:
    """Add, check and pull timetables.

    A running service pulls every source by itself, once a night. A pull that fails changes nothing.
    """


@contextmanager
def _desk(data: Path) -> Iterator[Desk]:
    settings = settings_or_usage_error(data, {})
    try:
        make_private_folder(settings.data)
        with open_desk(settings) as desk:
            yield desk
    except (AdministrationError, KeyFileError, StoreError, OSError) as error:
        raise click.ClickException(str(error)) from None


@timetable.command(epilog="Example: headroom timetable kinds mytimetable")
@click.argument("kind", required=False)
@json_option
def kinds(kind: str | None, as_json: bool) -> None:
    """Show which systems there are, or the settings of KIND."""
    if kind is None:
        found = {name: load(name).title for name in adapters()}
        if as_json:
            click.echo(json.dumps(found))
            return
        table = Table("kind", "system", box=None)
        for name, title in found.items():
            table.add_row(name, title)
        Console().print(table)
        return
    adapter = _adapter(kind)
    if as_json:
        click.echo(json.dumps(adapter.Settings.model_json_schema(), ensure_ascii=False))
        return
    table = Table("setting", "", "what it is", "default", box=None)
    for field in form_fields(adapter.Settings):
        how = "secret" if field.secret else "needed" if field.required else ""
        table.add_row(field.name, how, escape(f"{field.label}. {field.hint}".strip()), escape(field.value))
    Console().print(table)


@timetable.command("list", epilog="Example: headroom timetable list --json")
@_ORGANISATION
@data_option
@json_option
def list_sources(organisation: str | None, data: Path, as_json: bool) -> None:
    """Show all sources with their last pull. Settings are never shown: they hold tokens."""
    with _desk(data) as desk:
        found = desk.sources(organisation)
    if as_json:
        click.echo(json.dumps([view.model_dump(mode="json") for view in found], ensure_ascii=False))
        return
    table = Table("source", "kind", "organisation", "last pull", "state", "bookings", "rooms", box=None)
    for view in found:
        last = view.last_pull
        state = "off" if not view.enabled else "new" if last is None else "failed" if last.failure else "well"
        table.add_row(
            view.id, view.kind, view.organisation, f"{last.at:%Y-%m-%d %H:%M} UTC" if last else "", state,
            str(last.bookings) if last and not last.failure else "", str(last.rooms_matched) if last else "",
        )  # fmt: skip
    Console().print(table if found else "There are no timetables yet: headroom timetable add --help")


@timetable.command(
    epilog="""\b
Examples:
  headroom timetable add plan --kind mytimetable --set base_url=https://timetable.example.edu --secret token=token.txt
  headroom timetable add rooms --kind csv --set location=/srv/plan.csv --set date_format='%d-%m-%Y %H:%M'
  headroom timetable add feeds --kind ical --settings feeds.toml"""
)
@click.argument("source_id", metavar="ID")
@click.option("--kind", required=True, help=f"One of: {', '.join(adapters())}.")
@click.option("--settings", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="TOML file with the settings; needed for those that are tables.")  # fmt: skip
@click.option("--set", "given", multiple=True, metavar="NAME=VALUE", help="One setting; repeatable. No secrets here.")
@click.option("--secret", "secrets", multiple=True, metavar="NAME=FILE",
              help="Read one secret from a file (- = standard input); repeatable. Else you are asked.")  # fmt: skip
@click.option("--booker-names", is_flag=True, help="Keep the names of bookers, sealed. Default: they are dropped.")
@click.option("--titles/--no-titles", default=True, help="Keep the names of events. Default: yes.")
@click.option("--look-back", type=click.IntRange(0, 60), default=7, show_default=True, help="Days back.")
@click.option("--horizon", type=click.IntRange(1, 400), default=60, show_default=True, help="Days ahead.")
@click.option("--every", type=click.IntRange(1, 168), default=24, show_default=True, help="Hours between pulls.")
@_ORGANISATION
@data_option
@json_option
def add(
    source_id: str,
    kind: str,
    file: Path | None,
    given: tuple[str, ...],
    secrets: tuple[str, ...],
    booker_names: bool,
    titles: bool,
    look_back: int,
    horizon: int,
    every: int,
    organisation: str | None,
    data: Path,
    as_json: bool,
) -> None:
    """Add a source under the name ID. Nothing is sent yet: headroom timetable check ID does.

    The settings of a kind: headroom timetable kinds KIND.

    Secrets are never arguments, which every user of the machine can read: name a file, or type them when asked.
    """
    adapter = _adapter(kind)
    fields = {field.name: field for field in form_fields(adapter.Settings)}
    values = _settings(adapter, fields, file, given, secrets)
    try:
        order = NewSource(
            id=source_id, organisation=organisation, kind=kind, settings=values, booker_names=booker_names,
            titles=titles, look_back_days=look_back, horizon_days=horizon, every_hours=every,
        )  # fmt: skip
        adapter.from_mapping(source_id or "x", values)  # a wrong setting is a usage error, and nothing is opened
    except ValidationError as error:
        raise click.BadParameter(str(error.errors()[0]["msg"]), param_hint="ID") from None
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from None
    with _desk(data) as desk:
        made = desk.add(order)
    if as_json:
        click.echo(made.model_dump_json())
    else:
        click.echo(f"Source {made.id} is added. Try it: headroom timetable check {made.id}")


@timetable.command(epilog="Example: headroom timetable remove plan")
@click.argument("source_id", metavar="ID")
@_ORGANISATION
@data_option
@json_option
def remove(source_id: str, organisation: str | None, data: Path, as_json: bool) -> None:
    """Forget a source and its token. Its bookings that lie ahead go with it; what has been stays."""
    with _desk(data) as desk:
        gone = desk.remove(SourceOrder(id=source_id, organisation=organisation))
    _say(gone, as_json, f"Source {gone.id} is removed.")


@timetable.command(epilog="Example: headroom timetable check plan")
@click.argument("source_id", metavar="ID")
@_ORGANISATION
@data_option
@json_option
def check(source_id: str, organisation: str | None, data: Path, as_json: bool) -> None:
    """Prove address, token and rights of a source with the smallest request there is."""
    with _desk(data) as desk:
        found = desk.check(SourceOrder(id=source_id, organisation=organisation))
    _say(found, as_json, "\n".join((f"It works: the system shows {found.rooms} rooms.", *found.remarks)))


@timetable.command(epilog="Example: headroom timetable pull plan --json")
@click.argument("source_id", metavar="[ID]", required=False)
@_ORGANISATION
@data_option
@json_option
def pull(source_id: str | None, organisation: str | None, data: Path, as_json: bool) -> None:
    """Pull one source, or all of them, now.

    Says which rooms of the system match none of yours. Ends with exit code 1 when a pull failed; the plan is then as it
    was.
    """
    with _desk(data) as desk:
        ids = [(view.organisation, view.id) for view in desk.sources(organisation) if view.enabled]
        if source_id is not None:
            ids = [(org_id, one) for org_id, one in ids if one == source_id] or [(organisation or "", source_id)]
        done = {
            one: desk.pull(SourceOrder(id=one, organisation=org_id or None)) for org_id, one in ids
        }  # each by itself: one that fails says so in its report
    if as_json:
        click.echo(json.dumps({one: view.model_dump(mode="json") for one, view in done.items()}, ensure_ascii=False))
    else:
        for one, view in done.items():
            _report(one, view)
        if not done:
            click.echo("There are no timetables yet: headroom timetable add --help")
    if any(view.failure for view in done.values()):
        raise click.exceptions.Exit(1)


def _adapter(kind: str) -> type[Adapter[Any]]:
    try:
        return load(kind)
    except ConfigurationError as error:
        raise click.BadParameter(str(error).removeprefix("kind: "), param_hint="KIND") from None


def _settings(
    adapter: type[Adapter[Any]],
    fields: dict[str, FormField],
    file: Path | None,
    given: tuple[str, ...],
    secrets: tuple[str, ...],
) -> dict[str, Any]:
    """The adapter's settings from file, options and, for what is still missing, questions."""
    values: dict[str, Any] = {}
    if file is not None:
        try:
            values = tomllib.loads(file.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise click.BadParameter(f"{file}: {error}", param_hint="--settings") from None
    for text in given:
        name, separator, value = text.partition("=")
        field = fields.get(name)
        if not separator or field is None:
            raise click.BadParameter(
                f"{name!r} is no setting of {adapter.name}; there are: {', '.join(fields)}", param_hint="--set"
            )
        if field.secret:  # it is in the shell's history by now: say so
            raise click.BadParameter(
                f"{name} is a secret and others could read it here; give --secret {name}=FILE, and replace this one",
                param_hint="--set",
            )
        _put(values, name, _typed(field, value))
    for text in secrets:
        name, separator, path = text.partition("=")
        if not separator or name not in fields or not fields[name].secret:
            known = ", ".join(field.name for field in fields.values() if field.secret) or "none"
            raise click.BadParameter(
                f"{name!r} is no secret of {adapter.name}; there are: {known}", param_hint="--secret"
            )
        _put(values, name, _read_secret(name, path))
    for field in fields.values():
        if field.secret and field.required and field.kind == "secret" and field.name not in values:
            if not sys.stdin.isatty():
                raise click.UsageError(f"{field.name} is missing; give --secret {field.name}=FILE")
            values[field.name] = click.prompt(field.label, hide_input=True)
    return values


def _put(values: dict[str, Any], dotted: str, value: Any) -> None:
    *path, last = dotted.split(".")
    for name in path:
        values = values.setdefault(name, {})
    values[last] = value


def _typed(field: FormField, text: str) -> Any:
    if field.kind == "lines":
        return [part.strip() for part in text.split(",") if part.strip()]
    if field.kind == "pairs":
        return dict(part.split("=", 1) for part in text.split(",") if "=" in part)
    return text


def _read_secret(name: str, path: str) -> str:
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{name}: {path} cannot be read: {error}", param_hint="--secret") from None
    if not text.strip():
        raise click.BadParameter(f"{name}: {path} is empty", param_hint="--secret")
    return text.strip()


def _say(view: BaseModel, as_json: bool, text: str) -> None:
    click.echo(view.model_dump_json() if as_json else text)


def _report(source_id: str, view: PullView) -> None:
    console = Console(highlight=False, soft_wrap=True, markup=False)
    if view.failure:
        console.print(f"{source_id}: failed, the plan is as it was: {view.failure}", style="red")
        return
    console.print(
        f"{source_id}: {view.bookings} bookings in {view.rooms_matched} rooms; {view.new} new, {view.changed} changed, "
        f"{view.removed} gone, {view.unchanged} the same."
    )
    for title, names, count in (
        ("rooms of the system that match none of yours", view.rooms_unmatched, view.rooms_unmatched_count),
        ("rooms of the system that could be several of yours", view.rooms_ambiguous, len(view.rooms_ambiguous)),
        ("rooms of yours that the system does not show", view.rooms_not_found, len(view.rooms_not_found)),
    ):
        if count:
            more = f" and {count - _SHOWN} more" if count > _SHOWN else ""
            console.print(f"  {count} {title}: {', '.join(names[:_SHOWN])}{more}")
