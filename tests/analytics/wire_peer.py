"""A scripted peer that speaks MongoDB's wire protocol, for faults that a healthy server does not show.

The real pymongo talks to it: it answers handshakes as the primary of a replica set of one, and everything else with an
empty success, unless the script says otherwise. Protocol: the public description of OP_MSG, OP_QUERY and OP_REPLY.
"""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import bson

OP_REPLY, OP_QUERY, OP_MSG = 1, 2004, 2013
Command = dict[str, Any]
Answer = Callable[[Command], Command | None]
_HANDSHAKE = {"hello", "ismaster", "isMaster"}


class WirePeer(socketserver.ThreadingTCPServer):
    """Listens on loopback. ``seen`` holds every command but handshakes, in order."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self) -> None:
        self.seen: list[Command] = []
        self._script: list[tuple[str, Answer]] = []
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), _Connection)

    @property
    def uri(self) -> str:
        return f"mongodb://127.0.0.1:{self.server_address[1]}/"

    def on(self, name: str, *answers: Answer | Command) -> None:
        """The next commands of this name get these answers, one each; afterwards it is a healthy server again."""
        for answer in answers:
            self._script.append((name, answer if callable(answer) else lambda _, fixed=answer: fixed))  # type: ignore[misc]

    def recover(self) -> None:
        """Forget what is left of the script and what was seen."""
        self._script.clear()
        self.seen.clear()

    def commands(self, name: str) -> list[Command]:
        return [command for command in self.seen if next(iter(command)) == name]

    def answer(self, command: Command) -> Command | None:
        name = next(iter(command))
        if name in _HANDSHAKE:
            return self._hello()
        with self._lock:
            self.seen.append(command)
            scripted = next((entry for entry in self._script if entry[0] == name), None)
            if scripted is not None:
                self._script.remove(scripted)
        return (scripted[1] if scripted else _healthy)(command)

    def _hello(self) -> Command:
        me = f"127.0.0.1:{self.server_address[1]}"
        return {
            "ok": 1.0,
            "helloOk": True,
            "ismaster": True,
            "isWritablePrimary": True,
            "setName": "rs",
            "hosts": [me],
            "me": me,
            "primary": me,
            "minWireVersion": 0,
            "maxWireVersion": 21,
            "maxBsonObjectSize": 16_777_216,
            "maxMessageSizeBytes": 48_000_000,
            "maxWriteBatchSize": 100_000,
            "logicalSessionTimeoutMinutes": 30,
        }


def _healthy(command: Command) -> Command:
    name = next(iter(command))
    if name == "find":
        return {"ok": 1.0, "cursor": {"id": 0, "ns": f"{command['$db']}.{command[name]}", "firstBatch": []}}
    if name in {"insert", "update", "delete"}:
        n = len(command["documents" if name == "insert" else name + "s"])
        return {"ok": 1.0, "n": n, "nModified": n}
    return {"ok": 1.0, "value": None}


def found(*documents: Command) -> Answer:
    """An answer to `find`."""

    def answer(command: Command) -> Command:
        namespace = f"{command['$db']}.{command['find']}"
        return {"ok": 1.0, "cursor": {"id": 0, "ns": namespace, "firstBatch": list(documents)}}

    return answer


def hang_up(_: Command) -> None:
    """An answer: the connection drops."""


def late(seconds: float) -> Answer:
    """An answer: what a healthy server says, too late."""

    def answer(command: Command) -> Command:
        time.sleep(seconds)
        return _healthy(command)

    return answer


class _Connection(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        peer: WirePeer = self.server  # type: ignore[assignment]
        with suppress(OSError, EOFError):
            while True:
                request_id, opcode, body = _receive(self.request)
                reply = peer.answer(_decode(opcode, body))
                if reply is None:
                    return
                self.request.sendall(_encode(request_id, opcode, reply))


def _receive(connection: socket.socket) -> tuple[int, int, bytes]:
    length, request_id, _, opcode = struct.unpack("<iiii", _exactly(connection, 16))
    return request_id, opcode, _exactly(connection, length - 16)


def _exactly(connection: socket.socket, n: int) -> bytes:
    parts = bytearray()
    while len(parts) < n:
        part = connection.recv(n - len(parts))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)


def _decode(opcode: int, body: bytes) -> Command:
    if opcode == OP_QUERY:
        at = body.index(b"\0", 4) + 1 + 8
        return bson.decode(body[at : at + struct.unpack_from("<i", body, at)[0]])
    assert opcode == OP_MSG
    command: Command = {}
    at = 4
    while at < len(body):
        kind, at = body[at], at + 1
        (size,) = struct.unpack_from("<i", body, at)
        if kind == 0:
            command = {**bson.decode(body[at : at + size]), **command}
        else:  # a sequence of documents under a name
            end = body.index(b"\0", at + 4)
            name, inner = body[at + 4 : end].decode(), end + 1
            command[name] = bson.decode_all(body[inner : at + size])
        at += size
    return command


def _encode(request_id: int, opcode: int, reply: Command) -> bytes:
    document = bson.encode(reply)
    if opcode == OP_QUERY:
        body, code = struct.pack("<iqii", 8, 0, 0, 1) + document, OP_REPLY
    else:
        body, code = struct.pack("<I", 0) + b"\0" + document, OP_MSG
    return struct.pack("<iiii", 16 + len(body), 1, request_id, code) + body


@contextmanager
def wire_peer() -> Iterator[WirePeer]:
    """A running peer."""
    with WirePeer() as peer:
        threading.Thread(target=peer.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield peer
        finally:
            peer.shutdown()
