"""A real stream through the agent: late, broken off, back with another size; and a camera that was never there."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from counter.agent import Agent, SystemAgentClock, open_feed, parse_settings
from counter.agent.settings import CameraSettings
from counter.agent.worker import CameraState
from counter.types import Detections, Frame
from uplink.messages import CountRecord, Health

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
ALWAYS = 'zone = "UTC"\n' + "".join(f'{day} = ["00:00-24:00"]\n' for day in DAYS)


class Camera(BaseHTTPRequestHandler):
    """An MJPEG camera with a switch: plugged in or not."""

    plugged = threading.Event()
    gone = threading.Event()
    size = (96, 64)

    def do_GET(self) -> None:
        if not self.plugged.is_set():
            self.send_error(503)
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        rng = np.random.default_rng(0)
        try:
            while self.plugged.is_set() and not self.gone.is_set():
                width, height = self.size
                picture = cv2.imencode(".jpg", rng.integers(40, 200, (height, width, 3)).astype(np.uint8))[1].tobytes()
                self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\n")
                self.wfile.write(b"Content-Length: %d\r\n\r\n" % len(picture) + picture + b"\r\n")
                time.sleep(0.05)
        except OSError:
            pass

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def stream() -> Iterator[str]:
    Camera.plugged.clear()
    Camera.gone.clear()
    Camera.size = (96, 64)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/live?password=secret"
    Camera.gone.set()
    server.shutdown()
    server.server_close()


def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.02)


def nobody(frame: Frame) -> Detections:
    return Detections.empty()


class Nobody:
    def detect(self, frame: Frame) -> Detections:
        return nobody(frame)


def test_a_stream_that_is_late_breaks_off_and_changes_size_never_ends_the_agent(
    stream: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    records: list[CountRecord] = []
    text = f'interval = 1\n[[camera]]\nsource = "{stream}"\nstall = 1.0\n[hours]\n{ALWAYS}'
    agent = Agent(parse_settings(text), tmp_path, detector=lambda _: Nobody(), on_record=records.append)
    thread = threading.Thread(target=agent.run, daemon=True)
    thread.start()
    worker = agent.workers[0]
    until(lambda: worker.state is CameraState.AWAY)
    until(lambda: any(r.health == {Health.NO_SIGNAL} for r in records))
    Camera.plugged.set()
    until(lambda: worker.state is CameraState.COUNTING and worker.size == (96, 64))
    until(lambda: any(Health.OK in r.health and r.present == 0 for r in records))
    Camera.plugged.clear()
    until(lambda: worker.state is CameraState.AWAY)
    Camera.size = (128, 96)
    Camera.plugged.set()
    until(lambda: worker.state is CameraState.COUNTING and worker.size == (128, 96))
    agent.stop()
    thread.join(10)
    assert not thread.is_alive()
    starts = [r.start for r in records]
    assert starts == sorted(set(starts))
    lines = [line for line in caplog.messages if line.startswith("http://")]
    assert [("no pictures" in line, "pictures are coming" in line) for line in lines if "is now" not in line] == [
        (True, False), (False, True), (True, False), (False, True),
    ]  # fmt: skip
    assert "secret" not in caplog.text


def test_a_camera_that_is_not_plugged_in_is_waited_for() -> None:
    feed = open_feed(CameraSettings(source="/dev/video987"), SystemAgentClock())
    try:
        until(lambda: feed.read(0.2) is None and feed.failure is not None)
        assert feed.failure is not None
        assert "is it plugged in" in feed.failure
    finally:
        feed.close()
