"""Prove that the pages of a running portal answer, the way a person would come by: link, account, page after page."""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import requests

from analytics.demo.campus import ORGANISATION, ROOM

_HREF = re.compile(rf'href="(/o/{ORGANISATION}/[\w/-]+)"')
_TIMEOUT = 60.0


class CheckError(Exception):
    """A page did not answer as it should; the message names it."""


@dataclass(frozen=True)
class Answer:
    """One page: its path, status and the milliseconds until it had arrived in full."""

    path: str
    status: int
    milliseconds: float


def check_pages(link: str) -> list[Answer]:
    """Create the first account by its one-time link, then open every page of the menu and the room that was counted.

    Raises:
        CheckError: a page is missing, fails, or does not say that it shows simulated data.
    """
    parts = urlsplit(link)
    base = f"{parts.scheme}://{parts.netloc}"
    with requests.Session() as session:
        session.headers["Accept"] = "text/html"
        session.trust_env = False
        account = {"email": "visitor@demo.example", "name": "Visitor", "password": secrets.token_urlsafe(18)}
        if "headroom" not in _account_cookies(session, link, account):
            raise CheckError("the one-time link made no account")
        first = session.get(base, timeout=_TIMEOUT)
        paths = list(dict.fromkeys(_HREF.findall(first.text)))
        menu = [path for path in paths if path.count("/") == 3]
        if not menu:
            raise CheckError(f"{urlsplit(first.url).path} shows no menu (status {first.status_code})")
        return [_visit(session, base, path) for path in [*menu, f"/o/{ORGANISATION}/rooms/{ROOM}"]]


def _account_cookies(session: requests.Session, link: str, account: dict[str, str]) -> list[str]:
    session.post(link, data=account, timeout=_TIMEOUT, allow_redirects=False)
    return [str(cookie.name) for cookie in session.cookies]


def _visit(session: requests.Session, base: str, path: str) -> Answer:
    began = time.perf_counter()
    answer = session.get(base + path, timeout=_TIMEOUT)
    spent = 1000 * (time.perf_counter() - began)
    if answer.status_code != 200:
        raise CheckError(f"{path} answered {answer.status_code}")
    if 'class="simulated"' not in answer.text:
        raise CheckError(f"{path} does not say that its data are simulated")
    return Answer(path, answer.status_code, spent)
