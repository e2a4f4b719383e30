"""One command at a time: what makes FerretDB fit to stand in for MongoDB where processes race.

MongoDB changes a single document atomically: of two updates with the same condition one matches. FerretDB 1.24 reads,
computes and writes in three steps, so both match (measured; its inserts under a unique index are atomic). This proxy
lets a request through only after the one before it was answered, on whatever connection; nothing else is changed.
"""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class _Connection(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        proxy: SerialProxy = self.server  # type: ignore[assignment]
        with suppress(OSError), socket.create_connection(proxy.upstream) as upstream:
            upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while (request := _message(self.request)) is not None:
                with proxy.one_at_a_time:
                    upstream.sendall(request)
                    reply = _message(upstream)
                if reply is None:
                    return
                self.request.sendall(reply)


class SerialProxy(socketserver.ThreadingTCPServer):
    """Listens on loopback in front of one server."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, upstream: tuple[str, int]) -> None:
        self.upstream = upstream
        self.one_at_a_time = threading.Lock()
        super().__init__(("127.0.0.1", 0), _Connection)


@contextmanager
def serial_proxy(host: str, port: int) -> Iterator[str]:
    """The address to use instead."""
    with SerialProxy((host, port)) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"mongodb://127.0.0.1:{proxy.server_address[1]}/"
        finally:
            proxy.shutdown()


def _message(connection: socket.socket) -> bytes | None:
    """One message of the wire protocol: it begins with its length."""
    head = _exactly(connection, 4)
    if head is None:
        return None
    rest = _exactly(connection, struct.unpack("<i", head)[0] - 4)
    return None if rest is None else head + rest


def _exactly(connection: socket.socket, n: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < n:
        part = connection.recv(n - len(parts))
        if not part:
            return None
        parts += part
    return bytes(parts)
