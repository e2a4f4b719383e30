"""A whole run of the sensor under `strace`: every byte that leaves the process is a record, a log line or state.

The tracer starts the sensor: a process that is not dumpable cannot be attached to later, but stays with a tracer that
has root's rights and was there before. So nothing of the installed sensor is loosened for the test.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

cv2 = pytest.importorskip("cv2")

from tests.counter.tracing import STRACE, Account, holds_pictures  # noqa: E402
from uplink.identity import Identity, save_sensor_key  # noqa: E402
from uplink.keyfiles import encode_key  # noqa: E402
from uplink.testing import ReferenceService, serving  # noqa: E402

pytestmark = [
    pytest.mark.privacy,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root's tracer reads the memory of a locked process"),
]
ROOT = Path(__file__).resolve().parents[2]
RECORDS = 3
SETTINGS = """
interval = 1
[hours]
zone = "UTC"
mon = ["00:00-24:00"]
tue = ["00:00-24:00"]
wed = ["00:00-24:00"]
thu = ["00:00-24:00"]
fri = ["00:00-24:00"]
sat = ["00:00-24:00"]
sun = ["00:00-24:00"]
[[camera]]
source = "{clip}"
fps = 5
model = "headroom-person"
[camera.scene]
mode = "door"
[[camera.scene.lines]]
name = "door"
start = [0.1, 0.5]
end = [0.9, 0.5]
"""
LOG_LINES = [
    re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} (INFO|WARNING|ERROR) " + message)
    for message in (
        r"self-test: fp32 [\d.]+ ms, int8 [\d.]+ ms; using (fp32|int8)",
        r"counting: hall-3 \([^)]+\)",
        r"hall-3: the view is (faulty|well again): \w+.{0,40}",
        r"privacy lock does not hold: [a-z ]+: .{0,200}",
        r"counts wait: .{0,100}",
        r"no remote care: the service answered \d+",
        r"ended",
    )
]

SABOTAGE = """
# A sensor whose maker went wrong: the same program, the same locks, and a picture out by every way there is.
import base64, logging, mmap, os, socket, sys
from pathlib import Path
from urllib.parse import urlsplit
import cv2
import headroom
from counter.pipeline import PeopleCounter
from uplink.identity import Identity

state = Path(sys.argv[sys.argv.index("--state") + 1])
count, frames = PeopleCounter.update, []

def leak(frame):
    jpeg = cv2.imencode(".jpg", frame)[1].tobytes()
    small = cv2.resize(frame, (8, 6)).tobytes()
    (state / "debug.bin").write_bytes(frame.tobytes())
    segment = sorted((state / "spool").glob("*.segment"))[-1]
    with open(segment, "r+b") as file:
        os.pwrite(file.fileno(), jpeg, 8192)
        os.pwrite(file.fileno(), bytes(len(jpeg)), 8192)
    (state / "reported.state").write_bytes(base64.b64encode(small).ljust(256))
    logging.getLogger("counter").info("frame %s", base64.b64encode(small).decode())
    os.mkdir(state / small[:40].hex())
    with open(state / "shared.bin", "w+b") as file:
        file.truncate(len(small))
        with mmap.mmap(file.fileno(), len(small)) as shared:
            shared[:] = small
    service = urlsplit(Identity.load(state).service_url)
    with socket.create_connection((service.hostname, service.port)) as link:
        head = f"POST /v1/counts HTTP/1.1\\r\\nHost: 127.0.0.1:{service.port}"
        link.sendall(f"{head}\\r\\nContent-Length: {len(jpeg)}\\r\\n\\r\\n".encode() + jpeg)
    for elsewhere in ("/tmp/frame.jpg", "/dev/shm/frame.jpg"):
        try:
            Path(elsewhere).write_bytes(jpeg)
        except OSError as error:
            logging.getLogger("counter").info("stopped: %s", error.strerror)

def update(self, frame, *arguments, **options):
    frames.append(1)
    if len(frames) == 12:
        leak(frame)
    return count(self, frame, *arguments, **options)

PeopleCounter.update = update
headroom.main()
"""


def _clip() -> Path:
    """Real footage where it is at hand, the rendered clip otherwise."""
    data = os.environ.get("HEADROOM_DATA", "")
    if data:
        footage = Path(data) / "footage/one-by-one-person-detection.mp4"
        if footage.is_file():
            return footage
    return ROOT / "tests/clips/door-overhead-rendered.mp4"


@contextmanager
def _traced(folder: Path, program: list[str]) -> Iterator[tuple[Account, ReferenceService]]:
    """Run a sensor over the clip until some records have arrived, stop it in order, and take stock."""
    state = folder / "state"
    state.mkdir()
    settings = folder / "sensor.toml"
    settings.write_text(SETTINGS.format(clip=_clip()))
    service = ReferenceService()
    with serving(service) as url:
        seal = encode_key(service.seal_keys.public_key)
        Identity(sensor_id="hall-3", service_url=url, service_seal_key=seal).save(state)
        key = service.keys.sensor_key("hall-3")
        assert key is not None
        save_sensor_key(state, key)
        command = [
            sys.executable,
            *program,
            "sensor",
            "run",
            "--strict",
            "--state",
            str(state),
            "--config",
            str(settings),
        ]
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "XDG_CACHE_HOME": str(folder / "cache")}
        environment.pop("HEADROOM_DATA", None)
        with (folder / "log").open("w") as log:
            tracer = subprocess.Popen(
                [*STRACE, "-o", str(folder / "trace"), "--", *command],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=log,
            )
            try:
                deadline = time.monotonic() + 60
                while len(service.stored) < RECORDS and tracer.poll() is None and time.monotonic() < deadline:
                    time.sleep(0.1)
                if tracer.poll() is None:
                    with (folder / "trace").open() as trace:
                        os.kill(int(trace.readline().split()[0]), signal.SIGTERM)  # the traced program's own id
                ended = tracer.wait(timeout=30)
            finally:
                tracer.kill()
                tracer.wait()
        assert ended == 0, (folder / "log").read_text()
        account = Account(state, int(url.rsplit(":", 1)[1]), service.seal_keys, LOG_LINES)
        account.take(folder / "trace")
        yield account, service


def _samples() -> list[bytes]:
    """Pieces of the clip's frames that are no plain surface."""
    capture = cv2.VideoCapture(str(_clip()))
    samples = []
    for _ in range(120):
        read, frame = capture.read()
        if not read:
            break
        for row in frame[:: frame.shape[0] // 8]:
            piece = row[row.shape[0] // 3 :].tobytes()[:32]
            if len(set(piece)) > 12:
                samples.append(piece)
    return samples


def test_every_byte_that_leaves_is_a_record_a_log_line_or_state(tmp_path: Path) -> None:
    with _traced(tmp_path, ["-m", "headroom"]) as (account, service):
        assert account.faults == []
        assert sum(account.sizes.values()) == len(account.raw), account.sizes
        stored = set(service.stored.values())
        assert len(stored) >= RECORDS
        assert stored <= set(account.spooled), "a record was sent that the spool never held"
        assert set(account.sent) == stored
        samples = _samples()
        assert len(samples) > 100
        assert holds_pictures(bytes(account.raw), samples) == []
        # A record costs some hundred bytes; a picture of this clip, however small, could not hide among them.
        assert account.sizes["records"] / len(account.sent) < 1000
        assert account.sizes["log"] < 4096


def test_a_sensor_that_lets_a_frame_out_is_found_out(tmp_path: Path) -> None:
    """Every way out that the locks leave open on purpose is seen by the accounting; the others are shut."""
    script = tmp_path / "sabotaged.py"
    script.write_text(SABOTAGE)
    with _traced(tmp_path, [str(script)]) as (account, _):
        faults = "\n".join(account.faults)
        for sign in (
            r"open\w*: of \S*/debug\.bin",
            r"file: debug\.bin: \d+ bytes that are no record",
            r"file: \d+\.segment: bytes were written and hidden again",
            r"file: reported\.state: what is no note of the ledger",
            r"log: \S+ INFO frame [\w+/=]+",
            r"mkdir: of \S+/[0-9a-f]{20}",
            r"mmap: a file is mapped to be written to",
            r"network: \d+ bytes that are no request|network: a body of \d+ bytes that is no batch",
        ):
            assert re.search(sign, faults), f"{sign} is not among the faults:\n{faults}"
        assert {"JPEG"} < set(holds_pictures(bytes(account.raw), _samples()))
    assert (tmp_path / "log").read_text().count("stopped: Permission denied") == 2
    assert not Path("/tmp/frame.jpg").exists()
    assert not Path("/dev/shm/frame.jpg").exists()
