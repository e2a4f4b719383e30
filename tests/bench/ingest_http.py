"""What one service process accepts durably over HTTP: records a second, and how long one record takes.

Client and server run on the same machine and share its cores; the client encodes, signs and checks as a sensor does.
``python -m tests.bench.ingest_http [--long]``
"""

from __future__ import annotations

import argparse
import http.client
import statistics
import threading
import time
from collections.abc import Callable

from tests.bench._service import RunningService, report, running_service, week
from uplink.codec import JSON_TYPE, encode_batch
from uplink.keys import SensorKey
from uplink.messages import BatchAnswer, CountRecord
from uplink.sealing import SEALED_TYPE, SegmentSealer, encode_sealed_batch
from uplink.signing import ANSWER_HEADER, sign_request, verify_answer

BATCH = 1_000
CONNECTIONS = 4
GOAL = 20_000.0


class Client:
    """One kept connection of one sensor."""

    def __init__(self, service: RunningService, key: SensorKey) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
        self._key = key
        self.bytes = 0

    def post(self, body: bytes, content_type: str, encoding: str = "") -> BatchAnswer:
        now = time.time()
        claim = sign_request(
            self._key,
            method="POST",
            path="/v1/counts",
            body=body,
            now=now,
            content_type=content_type,
            content_encoding=encoding,
        )
        headers = {"Authorization": claim.header(), "Content-Type": content_type}
        if encoding:
            headers["Content-Encoding"] = encoding
        self._connection.request("POST", "/v1/counts", body, headers)
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {content[:200]!r}")
        verify_answer(self._key, claim, answer.headers[ANSWER_HEADER], status=200, body=content)
        sent = sum(len(name) + len(value) + 4 for name, value in headers.items()) + len(body) + 90
        got = sum(len(name) + len(value) + 4 for name, value in answer.headers.items()) + len(content) + 17
        self.bytes += sent + got
        return BatchAnswer.model_validate_json(content)


def json_body(_: RunningService, records: list[CountRecord]) -> tuple[bytes, str, str]:
    return encode_batch(records), JSON_TYPE, "gzip"


def sealed_body(service: RunningService, records: list[CountRecord]) -> tuple[bytes, str, str]:
    sealer = SegmentSealer(records[0].sensor_id, service.keys.seal.public_key)
    frames = [sealer.seal(record) for record in records]
    return encode_sealed_batch([(sealer.header, frames)]), SEALED_TYPE, ""


Encoder = Callable[[RunningService, list[CountRecord]], tuple[bytes, str, str]]


def throughput(service: RunningService, encode: Encoder, batches: int, first_sensor: int) -> float:
    """Records a second over some connections, `batches` full batches on each. Building records is not timed."""
    loads = [
        (key, [week(key.sensor_id, BATCH, at * BATCH) for at in range(batches)])
        for key in service.sensors[first_sensor : first_sensor + CONNECTIONS]
    ]
    failures: list[BaseException] = []

    def work(key: SensorKey, load: list[list[CountRecord]]) -> None:
        try:
            client = Client(service, key)
            for records in load:
                if client.post(*encode(service, records)).new != BATCH:
                    raise RuntimeError("not all records were new")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=load) for load in loads]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - begin
    if failures:
        raise failures[0]
    return CONNECTIONS * batches * BATCH / elapsed


def single(service: RunningService, number: int, key: SensorKey) -> tuple[list[float], float]:
    """Seconds of single-record posts over one kept connection, and bytes of HTTP a record."""
    client = Client(service, key)
    times = []
    for record in week(key.sensor_id, number):
        begin = time.perf_counter()
        client.post(*json_body(service, [record]))
        times.append(time.perf_counter() - begin)
    return times, client.bytes / number


def main(argv: list[str] | None = None) -> int:
    """Print JSON lines; always 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long", action="store_true")
    arguments = parser.parse_args(argv)
    batches, posts = (40, 5_000) if arguments.long else (8, 500)
    with running_service(2 * CONNECTIONS + 2) as service:
        key = service.sensors[-1]
        single(service, 20, service.sensors[-2])  # warm
        for name, encode, sensor in (("json gzip", json_body, 0), ("sealed", sealed_body, CONNECTIONS)):
            rate = throughput(service, encode, batches, sensor)
            report(f"ingest over HTTP, full batches, {name}", rate, "records/s", "goal", GOAL)
        times, size = single(service, posts, key)
        cuts = statistics.quantiles(times, n=100)
        report("single-record post, p50", 1e3 * statistics.median(times), "ms")
        report("single-record post, p99", 1e3 * cuts[98], "ms")
        report("bytes of HTTP per record, one record a post", size, "bytes")
        client = Client(service, key)
        body = json_body(service, week(key.sensor_id, BATCH, 20_000))
        client.post(*body)
        report("bytes of HTTP per record, full batch, json gzip", client.bytes / BATCH, "bytes")
        client = Client(service, key)
        client.post(*sealed_body(service, week(key.sensor_id, BATCH, 30_000)))
        report("bytes of HTTP per record, full batch, sealed", client.bytes / BATCH, "bytes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
