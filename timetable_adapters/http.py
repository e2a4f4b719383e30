"""One HTTP client for all adapters: time-outs, back-off, one table from status to action, and no secret in any text.

Errors name method, host and path. They never hold a query, a header or a body: tokens and names live there.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from ipaddress import ip_address
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

import requests

from .errors import ConfigurationError, ProtocolError, TemporaryError

logger = logging.getLogger(__name__)
# urllib3 logs every path and query at DEBUG; calendar feeds carry their password there.
logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)

Json = Any
T = TypeVar("T")
R = TypeVar("R")


class Action(Enum):
    """What a status asks of us."""

    ACCEPT = auto()
    RENEW = auto()
    """The login ran out: renew it once, then it is a matter of configuration."""
    CONFIGURE = auto()
    WAIT = auto()
    RETRY = auto()
    REFUSE = auto()


# The idea of one table is that of Airbyte's CDK (DEFAULT_ERROR_MAPPING): every adapter behaves the same.
ACTIONS: dict[int, Action] = {
    401: Action.RENEW,
    403: Action.CONFIGURE,
    404: Action.CONFIGURE,
    410: Action.CONFIGURE,
    408: Action.RETRY,
    425: Action.RETRY,
    429: Action.WAIT,
    503: Action.WAIT,
}

HINTS = {
    401: "the token was not accepted; check that it is complete and has not expired",
    403: "the token is known, but has no right to this; ask the administrator of the system for it",
    404: "there is nothing at this address; check the base address and the names in the settings",
    410: "what was asked for is gone; check the settings",
}


def action_for(status: int) -> Action:
    """The action for an HTTP status; redirects that were not followed lead to a login and are configuration."""
    if 200 <= status < 300:
        return Action.ACCEPT
    if 300 <= status < 400:
        return Action.CONFIGURE
    return ACTIONS.get(status, Action.RETRY if status >= 500 else Action.REFUSE)


def retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds from a Retry-After header, which is a number or an HTTP date (RFC 9110, 10.2.3); None when unreadable."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())


class Auth(ABC):
    """How a request proves who asks."""

    @abstractmethod
    def apply(self, headers: dict[str, str]) -> None:
        """Put the proof into ``headers``. May ask the system for a token first."""

    def renew(self, refused: Mapping[str, str]) -> bool:
        """Drop the proof in the headers that were ``refused``; False when there is nothing to renew."""
        return False


@dataclass(frozen=True, slots=True)
class NoAuth(Auth):
    """A public address, or a cookie that the session holds."""

    def apply(self, headers: dict[str, str]) -> None:
        return


@dataclass(frozen=True, slots=True)
class HeaderAuth(Auth):
    """A fixed token in one header."""

    header: str
    value: str = field(repr=False)

    def apply(self, headers: dict[str, str]) -> None:
        headers[self.header] = self.value


class TokenAuth(Auth):
    """A bearer token that is fetched when first needed and again when it was refused.

    Args:
        fetch: returns a new token; may raise ``AdapterError``.
        prefix: what stands before the token in the Authorization header.
    """

    def __init__(self, fetch: Callable[[], str], prefix: str = "Bearer ") -> None:
        self._fetch = fetch
        self._prefix = prefix
        self._token: str | None = None
        self._lock = threading.Lock()

    def apply(self, headers: dict[str, str]) -> None:
        with self._lock:
            if self._token is None:
                self._token = self._fetch()
            headers["Authorization"] = self._prefix + self._token

    def renew(self, refused: Mapping[str, str]) -> bool:
        with self._lock:
            # Another thread may have renewed it while this request was under way.
            if self._token is not None and refused.get("Authorization") == self._prefix + self._token:
                self._token = None
        return True


@dataclass(frozen=True, slots=True)
class Limits:
    """How patient and how greedy the client is.

    Attributes:
        connect_seconds, read_seconds: time-outs of one request.
        attempts: tries per request, the first included.
        longest_wait: a longer Retry-After ends the pull as temporary instead of holding a worker.
        concurrency: requests under way at once.
        max_bytes: of one answer.
    """

    connect_seconds: float = 5.0
    read_seconds: float = 30.0
    attempts: int = 4
    longest_wait: float = 120.0
    concurrency: int = 4
    max_bytes: int = 64 << 20


class HttpClient:
    """Requests against one scheduling system.

    Args:
        base_url: https, or http on loopback only: tokens and timetables never travel in the clear.
        auth: how requests prove who asks.
        limits: time-outs and bounds.
        secret_path: the address itself is the password (calendar feeds): no text ever holds more than the host.
        sleep, clock: injected by tests.
    """

    def __init__(
        self,
        base_url: str,
        auth: Auth | None = None,
        *,
        limits: Limits | None = None,
        headers: Mapping[str, str] | None = None,
        secret_path: bool = False,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.base_url = checked_url(base_url)
        self.limits = limits or Limits()
        self._auth = auth or NoAuth()
        self._secret_path = secret_path
        self._sleep = sleep
        self._clock = clock
        self._slots = threading.BoundedSemaphore(self.limits.concurrency)
        self._session = requests.Session()
        self._session.trust_env = False  # no token of somebody's .netrc, no proxy that nobody set here
        self._session.headers.update({"User-Agent": "headroom-timetable/1", "Accept-Encoding": "gzip"})
        self._session.headers.update(headers or {})

    def url(self, path: str) -> str:
        """The absolute address of ``path``; an absolute one must stay on the same host (opaque next links)."""
        if "://" not in path:
            return f"{self.base_url.rstrip('/')}/{path.lstrip('/')}"
        if _origin(path) != _origin(self.base_url):
            raise ProtocolError(
                f"{_host(self.base_url)} points to another host for the rest of its answer; not followed"
            )
        return path

    def get_json(self, path: str, params: Mapping[str, Any] | None = None, **kwargs: Any) -> Json:
        """GET and decode; see ``request``."""
        return self.json("GET", path, params=params, **kwargs)

    def post_json(self, path: str, body: Json, **kwargs: Any) -> Json:
        """POST JSON and decode; see ``request``."""
        return self.json("POST", path, json_body=body, **kwargs)

    def json(self, method: str, path: str, **kwargs: Any) -> Json:
        """Request and decode JSON. A truncated answer is tried again like a lost connection.

        Raises:
            ConfigurationError: an HTML page came with status 200 (a login page).
            ProtocolError: it is not JSON, each time.
        """
        headers = {"Accept": "application/json", **kwargs.pop("headers", {})}
        return self._attempts(method, path, _decode_json, headers=headers, **kwargs)

    def get_text(self, path: str, params: Mapping[str, Any] | None = None, **kwargs: Any) -> str:
        """GET a text, for iCalendar and CSV."""
        return self._attempts("GET", path, _decode_text, params=params, headers=kwargs.pop("headers", {}), **kwargs)

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """``function`` over ``items``, at most ``limits.concurrency`` at once; the first error ends it all."""
        work: Sequence[T] = list(items)
        if len(work) <= 1 or self.limits.concurrency == 1:
            return [function(item) for item in work]
        with ThreadPoolExecutor(max_workers=self.limits.concurrency) as pool:
            futures = [pool.submit(function, item) for item in work]
            try:
                return [future.result() for future in futures]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _attempts(self, method: str, path: str, decode: Callable[[_Answer], R], **kwargs: Any) -> R:
        shown = "/..." if self._secret_path else urlsplit(self.url(path)).path
        where = f"{method} {_host(self.base_url)}{shown}"
        renewed = False
        problem: TemporaryError | ProtocolError = TemporaryError(f"{where}: not tried")
        attempt = 0
        while attempt < self.limits.attempts:
            attempt += 1
            wait: float | None = None
            try:
                answer = self._once(method, path, **kwargs)
            except _UnreachableError as error:
                problem = TemporaryError(f"{where}: {error}")
            else:
                action = action_for(answer.status)
                if action is Action.ACCEPT:
                    try:
                        return decode(answer)
                    except _GarbledError as error:
                        problem = ProtocolError(f"{where}: {error}")
                elif action is Action.RENEW and not renewed and self._auth.renew(answer.sent):
                    # Not one of the tries: a token may run out at any page of a long pull.
                    renewed = True
                    attempt -= 1
                    continue
                elif action in (Action.RENEW, Action.CONFIGURE):
                    hint = HINTS.get(answer.status, "the system wants a login; check address and token")
                    raise ConfigurationError(f"{where}: HTTP {answer.status}: {hint}")
                elif action is Action.REFUSE:
                    raise ProtocolError(f"{where}: HTTP {answer.status}: the system refuses this request")
                else:
                    wait = retry_after(answer.headers.get("Retry-After"), self._clock())
                    problem = TemporaryError(f"{where}: HTTP {answer.status}, the system is busy or down", wait)
                    if wait is not None and wait > self.limits.longest_wait:
                        raise problem
            if attempt < self.limits.attempts:
                delay = wait if wait is not None else random.uniform(0.5, 1.0) * 2 ** (attempt - 1)  # noqa: S311
                logger.info("%s; again in %.1f s (%d of %d)", problem, delay, attempt, self.limits.attempts)
                self._sleep(delay)
        raise problem

    def _once(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json_body: Json = None,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> _Answer:
        sent = dict(headers or {})
        self._auth.apply(sent)
        with self._slots:
            try:
                with self._session.request(
                    method,
                    self.url(path),
                    params=params,
                    json=json_body,
                    data=form,
                    headers=sent,
                    timeout=(self.limits.connect_seconds, self.limits.read_seconds),
                    allow_redirects=False,  # a redirect leads to a login page, or a token to another host
                    stream=True,
                ) as response:
                    body = _read(response, self.limits.max_bytes)
                    return _Answer(response.status_code, response.headers, body, sent)
            except requests.exceptions.SSLError as error:
                # Trying again does not mend a certificate.
                raise ConfigurationError(f"{_host(self.base_url)}: its certificate could not be verified") from error
            except (requests.Timeout, TimeoutError) as error:
                raise _UnreachableError("no answer in time") from error
            except requests.RequestException as error:
                # The exception's own text holds the whole address, query included.
                raise _UnreachableError(f"connection failed ({type(error).__name__})") from None


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes
    sent: Mapping[str, str] = field(repr=False)


class _UnreachableError(Exception):
    """No whole answer came."""


class _GarbledError(Exception):
    """An answer came whole, but is not what it should be."""


def _read(response: requests.Response, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    for chunk in response.iter_content(1 << 16):
        size += len(chunk)
        if size > limit:
            raise ProtocolError(
                f"{_host(response.url)} answered more than {limit >> 20} MiB; ask for fewer days at once"
            )
        parts.append(chunk)
    expected = response.headers.get("Content-Length")
    if expected is not None and response.raw.tell() < int(expected):
        raise _UnreachableError("the answer was cut off")
    return b"".join(parts)


def _is_page(answer: _Answer) -> bool:
    head = answer.body[:512].lstrip().lower()
    return (
        head.startswith((b"<!doctype html", b"<html")) or "text/html" in answer.headers.get("Content-Type", "").lower()
    )


def _refuse_page(answer: _Answer) -> None:
    if _is_page(answer):
        raise ConfigurationError(
            "the system answered with a web page instead of data, most likely its login page: "
            "check that the address is that of the interface and that the token has not expired"
        )


def _decode_json(answer: _Answer) -> Json:
    _refuse_page(answer)
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        raise _GarbledError("the answer is not whole JSON") from None


def _decode_text(answer: _Answer) -> str:
    _refuse_page(answer)
    try:
        return answer.body.decode("utf-8-sig")
    except UnicodeDecodeError:
        return answer.body.decode("cp1252", "replace")  # what spreadsheets of this part of the world write


def checked_url(url: str) -> str:
    """``url`` when it may carry a token.

    Raises:
        ConfigurationError: not an address, not https (loopback aside), or with a password inside.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError("the address must begin with https:// and name a host")
    if parts.username or parts.password:
        raise ConfigurationError("the address holds a user name or password; use the settings made for them")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ConfigurationError(f"{parts.hostname}: http would send the token in the clear; use https")
    return url


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(urljoin(url, "/"))
    return parts.scheme, parts.netloc
