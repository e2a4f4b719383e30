"""A way back in for somebody whom nobody of their organisation can help: a link, ordered by whoever runs the service.

The right to it is access to the service's data folder: orders go to the running service over its own socket, or to the
store where none runs (as with sensors, `analytics.admin`). Each one is written to the audit log.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Protocol

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from analytics.accounts.errors import AccountError
from analytics.accounts.people import People
from analytics.admin import kept_keys, own_store, service_listens
from analytics.admin_socket import call, order
from analytics.enrolment import AdministrationError
from analytics.settings import ServiceSettings
from analytics.web.portal.core import Portal

ACTOR = "command line"
"""Who stands in the audit log: no account, but whoever runs the service."""
_PATH = "/logins/link"


class LinkOrder(BaseModel):
    """The order to make a link for an account."""

    model_config = ConfigDict(extra="forbid")

    email: str = Field(max_length=254)
    second_factor_off: bool = False


class LinkView(BaseModel):
    """A link that works once, shown once."""

    link: str = Field(repr=False)
    expires_at: datetime
    second_factor_off: bool


class Logins(Protocol):
    """What can be ordered. Raises AdministrationError with the reason."""

    def link(self, order: LinkOrder) -> LinkView: ...


class DirectLogins:
    """Acts on the store of this process.

    Args:
        base_url: where people reach the portal.
    """

    def __init__(self, people: People, base_url: str) -> None:
        self._people = people
        self._base_url = base_url.rstrip("/")

    def link(self, order: LinkOrder) -> LinkView:
        try:
            handout = self._people.restore_link(order.email, ACTOR, second_factor_off=order.second_factor_off)
        except AccountError as error:
            raise AdministrationError(str(error)) from None
        return LinkView(
            link=f"{self._base_url}/invitation/{handout.secret}",
            expires_at=handout.expires_at,
            second_factor_off=order.second_factor_off,
        )


def login_router(logins: Logins) -> APIRouter:
    """For the administrator's socket alone: it asks for no proof."""
    router = APIRouter()

    @router.post(_PATH)
    async def link(asked: LinkOrder) -> LinkView:
        made: LinkView = await order(logins.link, asked)
        return made

    return router


class SocketLogins:
    """Gives orders to the running service."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._path = settings.admin_socket

    def link(self, order: LinkOrder) -> LinkView:
        return LinkView.model_validate(call(self._path, "POST", _PATH, order.model_dump_json()))


@contextmanager
def open_logins(settings: ServiceSettings) -> Iterator[Logins]:
    """The way to give orders now: the running service when there is one, the store otherwise.

    Raises:
        AdministrationError: no service was ever here, or another process holds the store and does not listen.
        KeyFileError, StoreError: keys or store cannot be opened.
    """
    if service_listens(settings):
        yield SocketLogins(settings)
        return
    keys = kept_keys(settings)
    with own_store(settings, keys) as store:
        yield DirectLogins(Portal.build(store, keys.store, https=settings.https).people, settings.portal_url)
