"""HTTP streams through the real codec: a camera's MJPEG stream that breaks off and hangs, and a recording by URL."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from counter.sources import LiveSettings, LiveSource, SourceError, VideoFile, open_source


def jpeg(level: int) -> bytes:
    ok, data = cv2.imencode(".jpg", np.full((64, 96, 3), level, np.uint8))
    assert ok
    return data.tobytes()


class Camera(BaseHTTPRequestHandler):
    """``/live``: pictures for ever. ``/drops``: ends after some. ``/hangs``: sends some and then nothing at all."""

    hold = threading.Event()
    film = b""

    def do_GET(self) -> None:
        if self.path.endswith(".avi"):
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.film)))
            self.end_headers()
            self.wfile.write(self.film)
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        try:
            for i in range(10_000 if self.path == "/live" else 12):
                picture = jpeg(40 + i % 8 * 20)
                self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\n")
                self.wfile.write(b"Content-Length: %d\r\n\r\n" % len(picture) + picture + b"\r\n")
                if self.hold.wait(0.02):
                    return
            if self.path == "/hangs":
                self.hold.wait(20)
        except OSError:
            pass

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def camera() -> Iterator[str]:
    Camera.hold.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    Camera.hold.set()
    server.shutdown()
    server.server_close()


def live(url: str, changes: list[bool] | None = None, **settings: float) -> LiveSource:
    source = open_source(
        url, settings=LiveSettings(back_off=0.05, **settings), on_change=None if changes is None else changes.append
    )
    assert isinstance(source, LiveSource)
    return source


def until_epoch(source: LiveSource, epoch: int) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        item = source.read(0.2)
        if item is not None and item.epoch >= epoch:
            return
    pytest.fail(f"no picture of epoch {epoch}: {source.failure}")


def test_a_stream_gives_pictures_with_both_clocks(camera: str) -> None:
    with live(f"{camera}/live") as source:
        first, second = source.read(15), source.read(15)
        assert first is not None
        assert second is not None
        assert first.frame.shape == (64, 96, 3)
        assert second.t > first.t
        assert second.utc is not None
        assert first.utc is not None
        assert second.utc >= first.utc


def test_a_stream_that_ends_is_opened_again(camera: str) -> None:
    changes: list[bool] = []
    with live(f"{camera}/drops", changes) as source:
        until_epoch(source, 1)
    assert changes[:3] == [True, False, True]


def test_a_stream_that_hangs_is_given_up_and_opened_again(camera: str) -> None:
    changes: list[bool] = []
    with live(f"{camera}/hangs", changes, stall=1.5) as source:
        until_epoch(source, 1)
        assert source.failure is not None
    assert changes[:3] == [True, False, True]


def test_a_recording_by_url_is_counted_once_and_not_for_ever(camera: str, tmp_path: Path) -> None:
    path = tmp_path / "a.avi"
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), 10, (96, 64))
    for i in range(12):
        writer.write(np.full((64, 96, 3), 10 * i, np.uint8))
    writer.release()
    Camera.film = path.read_bytes()
    source = open_source(f"{camera}/clip.avi?token=secret")
    assert isinstance(source, VideoFile)
    assert source.name == "clip.avi"
    assert len(list(source)) == 12
    source.close()
    with pytest.raises(SourceError, match="no video stream") as caught:
        open_source("http://127.0.0.1:9/clip.mp4?token=secret")
    assert "secret" not in str(caught.value)
