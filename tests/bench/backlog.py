"""A week's backlog of one sensor: 10,080 records from its sealed spool into the store, over loopback.

``python -m tests.bench.backlog [--long]``
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from tests.bench._service import report, running_service, week
from uplink.sender import Result, Sender
from uplink.spool import Spool
from uplink.transport import RequestsTransport

GOAL_S = 2.0


def main(argv: list[str] | None = None) -> int:
    """Print JSON lines; always 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long", action="store_true")
    arguments = parser.parse_args(argv)
    rounds = 9 if arguments.long else 3
    delivery, sizes = [], []
    with running_service(rounds) as service, tempfile.TemporaryDirectory(prefix="headroom-bench-") as folder:
        for key in service.sensors:
            records = week(key.sensor_id)
            with Spool(Path(folder) / key.sensor_id, key.sensor_id, service.keys.seal.public_key) as spool:
                spool.append(records)
            # A restart: the spool can no longer read what it holds and sends it sealed.
            with Spool(Path(folder) / key.sensor_id, key.sensor_id, service.keys.seal.public_key) as spool:
                transport = RequestsTransport()
                sender = Sender(spool, f"http://127.0.0.1:{service.port}", key, transport)
                begin = time.perf_counter()
                step = sender.drain()
                delivery.append(time.perf_counter() - begin)
                transport.close()
                if step.result is not Result.IDLE or len(spool):
                    raise RuntimeError(f"not delivered: {step}")
                sizes.append(sender.status.bytes_sent / len(records))
    report("a week's backlog delivered (10,080 records)", statistics.median(delivery), "s", "goal", GOAL_S)
    report("bytes of body per record of a backlog", statistics.median(sizes), "bytes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
