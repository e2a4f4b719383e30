"""What the agent tells other programs of this machine: a socket in the state folder, for its owner alone.

Nothing is written to the disk for this. A connection gets one JSON document and is closed; a line that names another
document (``events``) may be sent first. The socket answers as long as the agent lives.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

SOCKET_FILE = "agent.sock"
_ASK_SECONDS = 0.25
_MAX_ANSWER = 16 << 20


class StateServer:
    """Answers on the socket, in a thread of its own.

    Args:
        folder: the state folder.
        documents: what can be asked for; the first is given to who asks for nothing.

    Raises:
        OSError: the socket cannot be made.
    """

    def __init__(self, folder: Path, documents: Mapping[str, Callable[[], Any]]) -> None:
        self._folder = folder
        self._documents = documents
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        (folder / SOCKET_FILE).unlink(missing_ok=True)
        with _short(folder) as path:
            self._listener.bind(path)
        (folder / SOCKET_FILE).chmod(0o600)
        self._listener.listen(8)
        self._thread = threading.Thread(target=self._serve, name="status", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """End, and take the socket away."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self._thread.is_alive():
            self._thread.join(timeout=2.0)
        (self._folder / SOCKET_FILE).unlink(missing_ok=True)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                try:
                    self._answer(connection)
                except OSError:
                    pass  # who asked has gone
                except Exception:
                    log.exception("the status could not be told")

    def _answer(self, connection: socket.socket) -> None:
        connection.settimeout(_ASK_SECONDS)
        try:
            asked = connection.recv(256).decode("utf-8", "replace").strip()
        except TimeoutError:
            asked = ""
        make = self._documents.get(asked) if asked else next(iter(self._documents.values()))
        answer = make() if make is not None else {"error": f"there is no {asked!r}"}
        connection.settimeout(2.0)
        connection.sendall(json.dumps(answer).encode() + b"\n")


def ask(folder: Path, what: str = "status", timeout: float = 5.0) -> Any:
    """Ask the agent of this state folder; None when none is running.

    Raises:
        PermissionError: it runs as another user.
        TimeoutError: it runs and does not answer.
        ValueError: what it answers is no JSON.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout)
        try:
            with _short(folder) as path:
                sock.connect(path)
            sock.sendall(what.encode() + b"\n")
            content = b""
            while chunk := sock.recv(65536):
                content += chunk
                if len(content) > _MAX_ANSWER:
                    raise ValueError("the answer is too long")
        except (FileNotFoundError, ConnectionError, NotADirectoryError):
            return None
    return json.loads(content)


class _short:  # noqa: N801 - reads as a function
    """The socket's path, short enough for the 108 bytes of AF_UNIX, however deep the folder is."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fd = -1

    def __enter__(self) -> str:
        self._fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._fd}/{SOCKET_FILE}"

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
