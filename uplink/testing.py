"""A service that keeps the contract, in RAM: for tests, benchmarks and whoever writes a sensor of their own.

It is the contract's smallest whole reading, not a service to run: nothing in it is durable.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from uplink.codec import JSON_TYPE, BatchError, DecodedBatch, decode_batch
from uplink.keys import MasterKeyRing, wrap_next_key
from uplink.messages import MAX_BATCH_BYTES, BatchAnswer, CountRecord
from uplink.sealing import SEALED_TYPE, SealKeyRing, open_sealed_batch
from uplink.sender import COUNTS_PATH
from uplink.signing import (
    ANSWER_HEADER,
    NEXT_KEY_HEADER,
    ClockSkewError,
    SignatureError,
    parse_authorization,
    sign_answer,
    verify_request,
)
from uplink.transport import Reply


class ReferenceService:
    """Answers ``POST /v1/counts`` as the contract says.

    Attributes:
        stored: records by their key.
        conflicts: records that came with the key of a stored one and another value.
        rejects: told of every good record; a text makes the service reject it with that reason.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.keys = MasterKeyRing.create()
        self.seal_keys = SealKeyRing.create()
        self.stored: dict[tuple[str, datetime], CountRecord] = {}
        self.conflicts: list[CountRecord] = []
        self.rejects: Callable[[CountRecord], str | None] = lambda record: None
        self._clock = clock
        self._mutex = threading.Lock()

    def handle(self, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Answer one POST. Header names are in lower case."""
        now = self._clock()
        content_type, encoding = headers.get("content-type", ""), headers.get("content-encoding", "")
        try:
            claim = parse_authorization(headers.get("authorization"))
            key = self.keys.sensor_key(claim.sensor_id, claim.generation)
            verify_request(
                key,
                claim,
                method="POST",
                path=path,
                body=body,
                now=now,
                content_type=content_type,
                content_encoding=encoding,
            )
        except ClockSkewError as error:
            status, answer = 401, str(error).encode()
        except SignatureError as error:
            return Reply(401, {"date": formatdate(now, usegmt=True)}, str(error).encode())
        else:
            status, answer = self._counts(content_type, encoding, body, claim.sensor_id)
        assert key is not None
        sent = {
            "date": formatdate(now, usegmt=True),
            ANSWER_HEADER.lower(): sign_answer(key, claim, status=status, body=answer, now=now),
        }
        newest = self.keys.sensor_key(claim.sensor_id)
        if newest is not None and claim.generation < newest.generation:
            sent[NEXT_KEY_HEADER.lower()] = wrap_next_key(key, newest)
        return Reply(status, sent, answer)

    def _counts(self, content_type: str, encoding: str, body: bytes, sensor_id: str) -> tuple[int, bytes]:
        try:
            if content_type == SEALED_TYPE:
                batch = open_sealed_batch(self.seal_keys, body, sensor_id)
            elif content_type == JSON_TYPE:
                batch = decode_batch(body, encoding, sensor_id)
            else:
                return 415, b"unknown content type"
        except BatchError as error:
            return error.status, error.detail.encode()
        return 200, self._store(batch).model_dump_json().encode()

    def _store(self, batch: DecodedBatch) -> BatchAnswer:
        new = duplicate = conflicting = 0
        rejected = [rejection.model_dump() for rejection in batch.rejected]
        with self._mutex:
            for index, record in zip(batch.indexes, batch.records, strict=True):
                reason = self.rejects(record)
                if reason is not None:
                    rejected.append({"index": index, "reason": reason})
                    continue
                known = self.stored.setdefault((record.sensor_id, record.start), record)
                if known is record:
                    new += 1
                elif known == record:
                    duplicate += 1
                else:
                    conflicting += 1
                    self.conflicts.append(record)
        return BatchAnswer.model_validate(
            {"new": new, "duplicate": duplicate, "conflicting": conflicting, "rejected": rejected}
        )


class LoopbackTransport:
    """Hands requests to a service in the same process, without a network."""

    def __init__(self, service: ReferenceService) -> None:
        self._service = service

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        """As the protocol `uplink.transport.Transport` asks."""
        return self._service.handle(COUNTS_PATH, {name.lower(): value for name, value in headers.items()}, body)


@contextlib.contextmanager
def serving(service: ReferenceService) -> Iterator[str]:
    """Serve on a free port of the loopback interface; gives the URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            if length > MAX_BATCH_BYTES:
                self.close_connection = True
                self._send(Reply(413))
                return
            body = self.rfile.read(length)
            self._send(service.handle(self.path, {name.lower(): value for name, value in self.headers.items()}, body))

        def _send(self, reply: Reply) -> None:
            self.send_response_only(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
