"""``headroom service``: administration of the service. Works beside a running service and without one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from analytics.admin import Administration, CodeView, NewSensor, open_administration
from analytics.cli.serve import data_option, settings_or_usage_error
from analytics.enrolment import AdministrationError
from analytics.login_desk import LinkOrder, open_logins
from analytics.store.errors import StoreError
from uplink.keyfiles import KeyFileError


@click.group()
def service() -> None:
    """Administer the service: sensors and their enrolment, and a way back in for people."""


@service.group()
def sensor() -> None:
    """Add, list and revoke sensors."""


@service.group()
def user() -> None:
    """Let somebody back in whom nobody of their organisation can help."""


def json_option(command: Any) -> Any:
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")(command)


_VERIFICATION = click.option(
    "--verification/--no-verification",
    default=True,
    help="Ask for a second code that you deliver by another way. Default: yes.",
)


@contextmanager
def _administration(data: Path) -> Iterator[tuple[Administration, str]]:
    settings = settings_or_usage_error(data, {})
    with _reasons(), open_administration(settings) as administration:
        yield administration, settings.organisation


@contextmanager
def _reasons() -> Iterator[None]:
    try:
        yield
    except (AdministrationError, KeyFileError, StoreError, OSError) as error:
        raise click.ClickException(str(error)) from None


@sensor.command(
    epilog="""\b
Examples:
  headroom service sensor add hall-3 --name 'Hall 3, north door'
  headroom service sensor add hall-3-south --board hall-3          (a second camera of the board of hall-3)"""
)
@click.argument("sensor_id", metavar="ID")
@click.option("--name", default="", help="What people call it.")
@click.option("--board", metavar="ID", help="It is a further camera of this sensor's board, and uses its tunnel.")
@click.option("--organisation", help="Default: the service's first one.")
@_VERIFICATION
@data_option
@json_option
def add(
    sensor_id: str,
    name: str,
    board: str | None,
    organisation: str | None,
    verification: bool,
    data: Path,
    as_json: bool,
) -> None:
    """Add a sensor and print its one-time enrolment code.

    ID is a lower-case name as in DNS: letters, digits, dashes. The code works once, for a limited time; send the
    verification code by another way (telephone, paper).

    A board with several cameras is one sensor for each: the first holds the board and its tunnel, the others are added
    with --board and that one's ID. Each has its own key, code and room.
    """
    with _administration(data) as (administration, default_organisation):
        try:
            order = NewSensor(
                id=sensor_id,
                org_id=organisation or default_organisation,
                name=name,
                verification=verification,
                board=board,
            )
        except ValidationError as error:
            field = error.errors()[0]["loc"][0]
            wrong = {"id": sensor_id, "board": board}.get(str(field))
            raise click.BadParameter(
                f"{wrong!r} is not a sensor's name: lower-case letters, digits and dashes, e.g. hall-3"
                if wrong is not None
                else str(error.errors()[0]["msg"])
            ) from None
        _show_code(administration.add(order), as_json)


@sensor.command(epilog="Example: headroom service sensor code hall-3")
@click.argument("sensor_id", metavar="ID")
@_VERIFICATION
@data_option
@json_option
def code(sensor_id: str, verification: bool, data: Path, as_json: bool) -> None:
    """Print a new enrolment code for a sensor, e.g. after its card was replaced. Older codes end."""
    with _administration(data) as (administration, _):
        _show_code(administration.code(sensor_id, verification=verification), as_json)


@sensor.command("list", epilog="Example: headroom service sensor list --json")
@data_option
@json_option
def list_sensors(data: Path, as_json: bool) -> None:
    """Show all sensors."""
    with _administration(data) as (administration, _):
        sensors = administration.sensors()
    if as_json:
        click.echo(json.dumps([entry.model_dump(mode="json") for entry in sensors]))
        return
    table = Table("sensor", "name", "state", "tunnel", "enrolled", "revoked", box=None)
    for entry in sensors:
        times = [f"{moment:%Y-%m-%d %H:%M} UTC" if moment else "" for moment in (entry.enrolled_at, entry.revoked_at)]
        tunnel = f"that of {entry.board}" if entry.board else entry.tunnel_ip or ""
        table.add_row(entry.id, entry.name, entry.state, tunnel, *times)
    Console().print(table if sensors else "There are no sensors yet: headroom service sensor add ID")


@sensor.command(
    epilog="""\b
Examples:
  headroom service sensor revoke hall-3
  headroom service sensor revoke hall-3 --with-cameras        (a board with several cameras was stolen)"""
)
@click.argument("sensor_id", metavar="ID")
@click.option("--with-cameras", is_flag=True, help="Where it holds a board: revoke the further cameras with it.")
@data_option
@json_option
def revoke(sensor_id: str, with_cameras: bool, data: Path, as_json: bool) -> None:
    """End a sensor's key, its tunnel and its codes at once and for good. What it counted stays.

    A further camera of a board goes alone; the others count on. The sensor that holds a board takes the further cameras
    with it, since all their keys lie on the same card; that must be said with --with-cameras.
    """
    with _administration(data) as (administration, _):
        first, *cameras = administration.revoke(sensor_id, with_cameras=with_cameras)
    if as_json:
        document = first.model_dump(mode="json") | {"cameras": [camera.id for camera in cameras]}
        click.echo(json.dumps(document))
        return
    click.echo(f"Sensor {first.id} is revoked.")
    for camera in cameras:
        click.echo(f"Sensor {camera.id}, a camera of its board, is revoked.")


@user.command(
    epilog="""\b
Examples:
  headroom service user link a.jansen@example.org
  headroom service user link a.jansen@example.org --second-factor-off       (the phone with the codes is lost too)"""
)
@click.argument("email", metavar="MAIL")
@click.option("--second-factor-off", is_flag=True, help="Using the link also switches the second factor off.")
@data_option
@json_option
def link(email: str, second_factor_off: bool, data: Path, as_json: bool) -> None:
    """Print a link with which somebody who has an account sets a new password.

    For the only controller of an organisation who lost their login: others ask their controller. It works once, within
    an hour, and ends all sessions of the account; older ones of it stop working. Make sure who asks: the link is the
    account. It is written to the audit log. Needs the service's data folder, and works beside a running service.
    """
    settings = settings_or_usage_error(data, {})
    with _reasons(), open_logins(settings) as logins:
        made = logins.link(LinkOrder(email=email, second_factor_off=second_factor_off))
    if as_json:
        click.echo(made.model_dump_json())
        return
    click.echo(f"This link works once, until {made.expires_at:%Y-%m-%d %H:%M} UTC:")
    click.echo(f"  {made.link}")
    if second_factor_off:
        click.echo("Using it also switches the second factor off.")


def _show_code(issued: CodeView, as_json: bool) -> None:
    if as_json:
        click.echo(issued.model_dump_json())
        return
    click.echo(f"Enrolment code of {issued.sensor_id}:  {issued.code}")
    where = "the sensor" if issued.board is None else f"the board of {issued.board}"
    click.echo(f"It works once, until {issued.expires_at:%Y-%m-%d %H:%M} UTC. On {where}:")
    camera = "" if issued.board is None else " --camera"
    click.echo(f"  headroom sensor enrol {issued.code} --service http://SERVICE:PORT{camera}")
    if issued.verification is not None:
        click.echo("")
        click.echo(f"Verification code, to be delivered by another way:  {issued.verification}")
