"""The administrator's socket: the running service listens on it, the command line gives its orders through it.

It lies in the data folder and opens to its user alone; that is the whole of its protection.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from analytics.enrolment import AdministrationError
from analytics.web.problems import ProblemError

_TIMEOUT_S = 15.0


async def order(action: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Carry out an order beside the event loop; what is refused becomes a problem document."""
    try:
        return await asyncio.to_thread(action, *arguments, **options)
    except AdministrationError as error:
        raise ProblemError(409, "refused", str(error)) from None


def call(path: Path, method: str, target: str, body: str | None = None, *, timeout: float = _TIMEOUT_S) -> Any:
    """Give an order to whoever listens at ``path``; ``timeout`` is in seconds.

    Raises:
        AdministrationError: refused, with the service's own words, or no answer.
        OSError: nobody listens.
    """
    connection = _UnixConnection(path, timeout)
    try:
        connection.request(method, target, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        document = json.loads(answer.read())
    except (http.client.HTTPException, TimeoutError, json.JSONDecodeError) as error:
        raise AdministrationError(f"the running service gave no answer ({type(error).__name__})") from None
    finally:
        connection.close()
    if answer.status != 200:
        raise AdministrationError(str(document.get("detail", f"refused with {answer.status}")))
    return document


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        with _short(self._path) as short:
            self.sock.connect(short)


def listen(path: Path) -> socket.socket:
    """The administrator's socket, mode 0600. Takes the place of one that a killed service left."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    path.unlink(missing_ok=True)
    before = os.umask(0o177)  # there is no moment in which others may connect
    try:
        with _short(path) as short:
            listener.bind(short)
    finally:
        os.umask(before)
    listener.listen(16)
    return listener


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """A name for `path` that fits the 108 bytes of a unix address, however deep the folder lies."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
