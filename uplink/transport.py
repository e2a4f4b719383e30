"""HTTP for the sender: one POST, bounded in time and size, with nothing taken from the environment."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import requests
from requests.adapters import HTTPAdapter

CONNECT_SECONDS = 3.0
READ_SECONDS = 10.0
MAX_ANSWER_BYTES = 256 * 1024


class TransportError(Exception):
    """No answer came: the link, the tunnel or the service is down. What became of the request is not known."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, proven by nothing yet. Header names are in lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class Transport(Protocol):
    """Posts."""

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        """Send once, without retries and without following redirects. Raises TransportError."""


class RequestsTransport:
    """`requests` with one kept connection.

    Short time-outs and another try beat long ones: after an outage a request in flight only moves again when TCP
    does, seconds after the link. Proxies and ``.netrc`` of the environment are ignored: they would replace the
    signature or carry the counts past the tunnel.
    """

    def __init__(self, connect: float = CONNECT_SECONDS, read: float = READ_SECONDS) -> None:
        self._timeout = (connect, read)
        self._longest = connect + 2 * read
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers.update({"User-Agent": "headroom", "Accept-Encoding": "identity"})
        adapter = HTTPAdapter(pool_connections=1, pool_maxsize=1, max_retries=0)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        deadline = time.monotonic() + self._longest
        try:
            with self._session.post(
                url, data=body, headers=dict(headers), timeout=self._timeout, allow_redirects=False, stream=True
            ) as response:
                content = b""
                for chunk in response.iter_content(16 * 1024):
                    content += chunk
                    if len(content) > MAX_ANSWER_BYTES:
                        raise TransportError(f"the answer is longer than {MAX_ANSWER_BYTES} bytes")
                    if time.monotonic() > deadline:
                        raise TransportError(f"the answer took longer than {self._longest:.0f} s")
                lowered = {name.lower(): value for name, value in response.headers.items()}
                return Reply(response.status_code, lowered, content)
        except (requests.RequestException, OSError) as error:
            raise TransportError(_reason(error)) from None

    def close(self) -> None:
        """Let go of the connection."""
        self._session.close()


def _reason(error: Exception) -> str:
    """A short reason; the texts of `requests` are long and hold addresses of objects."""
    if isinstance(error, requests.ConnectTimeout):
        return "no answer to the connection attempt"
    if isinstance(error, requests.Timeout):
        return "connected, but no answer in time"
    if isinstance(error, requests.exceptions.SSLError):
        return "the service's certificate is not accepted"
    if isinstance(error, requests.ConnectionError):
        return "the connection was refused or broke"
    return type(error).__name__
