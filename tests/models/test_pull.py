"""Fetching a model from a server that behaves, and from ones that do not."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from models.errors import ModelError
from models.pull import ATTEMPTS, CHUNK, pull
from models.registry import ModelEntry, pulled_path

CONTENT = os.urandom(8 * CHUNK)


class Server(ThreadingHTTPServer):
    """Serves CONTENT; ``plan`` says what goes wrong with the next requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.plan: list[str] = []
        self.ranges: list[str | None] = []
        self.content = CONTENT

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/model.onnx"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        fault = self.server.plan.pop(0) if self.server.plan else ""
        if fault.isdigit():
            self.send_error(int(fault))
            return
        begin = int(asked.removeprefix("bytes=").rstrip("-")) if asked and fault != "no ranges" else 0
        body = self.server.content[begin:]
        self.send_response(206 if begin else 200)
        if begin:
            shown = begin + 7 if fault == "wrong range" else begin
            self.send_header("Content-Range", f"bytes {shown}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if fault == "cut" else body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADROOM_CACHE", str(tmp_path / "cache"))


def entry(content: bytes = CONTENT) -> ModelEntry:
    return ModelEntry(title="a model", licence="Apache-2.0", origin="here", url="https://example.org/model.onnx",
                      bytes=len(content), sha256=hashlib.sha256(content).hexdigest(),
                      thresholds={"door": 0.5, "room": 0.5})  # fmt: skip


def fetch(server: Server, naps: list[float] | None = None) -> Path:
    return pull("tiny", entry(), url=server.url, sleep=(naps if naps is not None else []).append)


def leftovers() -> list[str]:
    return sorted(path.name for path in pulled_path("tiny").parent.iterdir())


def test_a_whole_download_is_checked_and_named(server: Server) -> None:
    seen: list[tuple[int, int]] = []
    path = pull("tiny", entry(), url=server.url, progress=lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert leftovers() == ["tiny.onnx"]
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_a_cut_download_is_continued_where_it_stopped(server: Server) -> None:
    server.plan, naps = ["cut", "cut"], list[float]()
    assert fetch(server, naps).read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={4 * CHUNK}-", f"bytes={6 * CHUNK}-"]
    assert naps == [1.0, 2.0]


def test_what_has_arrived_survives_to_the_next_command(server: Server) -> None:
    server.plan = ["cut"] + ["503"] * (ATTEMPTS - 1)
    with pytest.raises(ModelError, match=r"503.*4 attempts.*kept.*headroom models pull tiny"):
        fetch(server)
    assert leftovers() == ["tiny.onnx.part"]
    server.ranges.clear()
    assert fetch(server).read_bytes() == CONTENT
    assert server.ranges == [f"bytes={4 * CHUNK}-"]


@pytest.mark.parametrize("fault", ["no ranges", "wrong range", "416"])
def test_a_server_that_cannot_continue_begins_again(server: Server, fault: str) -> None:
    server.plan = ["cut", fault]
    assert fetch(server).read_bytes() == CONTENT


def test_a_part_longer_than_the_model_is_thrown_away(server: Server) -> None:
    part = pulled_path("tiny").with_name("tiny.onnx.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * (len(CONTENT) + 5))
    assert fetch(server).read_bytes() == CONTENT


def test_another_file_is_refused_and_not_kept(server: Server) -> None:
    server.content = os.urandom(len(CONTENT))
    with pytest.raises(ModelError, match=r"'tiny' from http://127.*sha256 is [0-9a-f]{64}, the registry wants"):
        fetch(server)
    assert leftovers() == []


def test_a_longer_file_is_refused(server: Server) -> None:
    server.content = CONTENT + b"more"
    with pytest.raises(ModelError, match="longer than the 524288 bytes"):
        fetch(server)
    assert not pulled_path("tiny").exists()


def test_what_the_server_refuses_is_not_asked_again(server: Server) -> None:
    server.plan = ["404"]
    with pytest.raises(ModelError, match="answered 404 Not Found"):
        fetch(server)
    assert len(server.ranges) == 1


def test_a_server_that_is_not_there() -> None:
    naps: list[float] = []
    with pytest.raises(ModelError, match="connection failed"):
        pull("tiny", entry(), url="http://127.0.0.1:9/model.onnx", sleep=naps.append)
    assert naps == [1.0, 2.0, 4.0]


def test_only_https() -> None:
    with pytest.raises(ModelError, match="only https"):
        pull("tiny", entry(), url="http://example.org/model.onnx")


def test_no_room_on_the_disk_is_seen_before_the_download(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 1000))
    with pytest.raises(ModelError, match=r"no space left.*HEADROOM_CACHE"):
        fetch(server)
    assert server.ranges == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_fills_up_midway(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open

    def full(self: Path, mode: str = "r", **kwargs: object) -> object:
        return opened(Path("/dev/full") if "a" in mode and self.suffix == ".part" else self, mode, **kwargs)

    pulled_path("tiny").parent.mkdir(parents=True)
    pulled_path("tiny").with_name("tiny.onnx.part").touch()
    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(ModelError, match="no space left"):
        fetch(server)
    assert not pulled_path("tiny").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o500)
    with pytest.raises(ModelError, match="cannot write there"):
        fetch(server)


def test_a_cache_that_is_a_file(server: Server, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(ModelError, match=r"cannot write there.*HEADROOM_CACHE"):
        fetch(server)


def test_two_pulls_at_once_do_not_mix(server: Server) -> None:
    part = pulled_path("tiny").with_name("tiny.onnx.part")
    part.parent.mkdir(parents=True)
    import fcntl

    with part.open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ModelError, match="another pull"):
            fetch(server)
