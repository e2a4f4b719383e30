"""Bytes on the wire per record: JSON in gzip and sealed, beside plain JSON, and the header that signs a request."""

from __future__ import annotations

import argparse
import json
import random
from datetime import UTC, datetime, timedelta

from uplink.codec import JSON_TYPE, encode_batch
from uplink.keys import MasterKeyRing
from uplink.messages import Batch, CountRecord
from uplink.sealing import SealKeyRing, SegmentSealer, encode_sealed_batch
from uplink.sender import COUNTS_PATH
from uplink.signing import sign_request


def records(count: int, rng: random.Random) -> list[CountRecord]:
    """A lecture hall's minutes: full for two hours, empty for one, with some noise."""
    start = datetime(2026, 11, 23, 7, 0, tzinfo=UTC)
    made = []
    for minute in range(count):
        present = max(0, round(rng.gauss(80, 4))) if minute % 180 < 120 else 0
        made.append(
            CountRecord(
                sensor_id="hall-3",
                start=start + timedelta(minutes=minute),
                present=present,
                present_max=present + rng.randrange(4),
                entered=rng.randrange(6),
                left=rng.randrange(6),
                coverage=round(1 - 0.1 * rng.random(), 3),
            )
        )
    return made


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long", action="store_true")
    parser.parse_args(argv)
    rng = random.Random(1)
    sealer = SegmentSealer("hall-3", SealKeyRing.create().public_key)
    key = MasterKeyRing.create().sensor_key("hall-3")
    assert key is not None
    for count in (1, 60, 1_000):
        batch = records(count, rng)
        plain = len(Batch(records=batch).model_dump_json(by_alias=True))
        packed = encode_batch(batch)
        sealed = encode_sealed_batch([(sealer.header, [sealer.seal(record) for record in batch])])
        for name, size in (("json_gzip", len(packed)), ("sealed", len(sealed))):
            line = {
                "name": f"wire.bytes_per_record.{name}.batch_{count}",
                "value": round(size / count, 1),
                "unit": "B",
                "peer": "plain JSON",
                "peer_value": round(plain / count, 1),
                "ratio": round(size / plain, 3),
            }
            print(json.dumps(line), flush=True)
    claim = sign_request(key, method="POST", path=COUNTS_PATH, body=b"", now=0, content_type=JSON_TYPE)
    print(json.dumps({"name": "wire.signature_header", "value": len(claim.header()), "unit": "B"}), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
