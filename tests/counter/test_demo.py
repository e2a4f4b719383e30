"""``make demo``: where its clip comes from, and what it says when it cannot be had."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from counter.scene import load_scene
from tests.demo import ROOT, Clip, ClipError, choose, download, find_clip, read_clips, rendered_clip

CONTENT = b"a short film" * 5000


class Server(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        name = self.path.strip("/")
        body = {"other": b"another film" * 5000, "long": CONTENT + b"more", "cut": CONTENT[:100]}.get(name, CONTENT)
        self.send_response(403 if name == "refused" else 200)
        self.send_header("Content-Length", str(len(CONTENT) if name == "cut" else len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    running = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=running.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()


@pytest.fixture
def clip() -> Clip:
    return Clip("x", "x.mp4", "", len(CONTENT), hashlib.sha256(CONTENT).hexdigest(), "CC BY 4.0", "somebody", "")


def test_the_clip_is_fetched_once_and_checked(server: str, clip: Clip, tmp_path: Path) -> None:
    path = find_clip(replace(clip, url=f"{server}/ok"), tmp_path / "clips", None)
    assert path.read_bytes() == CONTENT
    again = find_clip(replace(clip, url="http://127.0.0.1:9/gone"), tmp_path / "clips", None)
    assert again == path, "an earlier download serves"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("other", "not the clip it should be"),
        ("long", "longer than"),
        ("cut", "could not be fetched"),
        ("refused", "403"),
    ],
)
def test_nothing_but_the_named_file_is_kept(server: str, clip: Clip, tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(ClipError, match=reason):
        download(replace(clip, url=f"{server}/{name}"), tmp_path / "x.mp4")
    assert list(tmp_path.iterdir()) == []


def test_the_data_folder_goes_first_and_is_checked_too(server: str, clip: Clip, tmp_path: Path) -> None:
    (tmp_path / "footage").mkdir()
    local = tmp_path / "footage" / "x.mp4"
    local.write_bytes(CONTENT)
    assert find_clip(replace(clip, url="http://127.0.0.1:9/"), tmp_path / "clips", str(tmp_path)) == local
    local.write_bytes(b"something else")
    fetched = find_clip(replace(clip, url=f"{server}/ok"), tmp_path / "clips", str(tmp_path))
    assert fetched.parent == tmp_path / "clips"


def test_without_network_the_rendered_clip_serves_and_it_says_so(clip: Clip, tmp_path: Path) -> None:
    console = Console(record=True, width=200)
    chosen, path = choose(console, replace(clip, url="http://127.0.0.1:9/x.mp4"), tmp_path, None)
    said = console.export_text()
    assert "cannot be had" in said
    assert "rendered" in said
    assert "rendered" in path.name
    assert path.is_file()
    assert chosen.lines, "its door line comes with it"


def test_without_any_clip_it_says_what_to_do(clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.demo.RENDERED", tmp_path)
    monkeypatch.setattr("tests.demo.rendered_clip", lambda: rendered_clip(tmp_path))
    with pytest.raises(ClipError, match="HEADROOM_DATA"):
        choose(Console(quiet=True), replace(clip, url="http://127.0.0.1:9/x.mp4"), tmp_path, None)


def test_every_clip_is_pinned_and_licensed() -> None:
    for clip in read_clips().values():
        assert clip.url.startswith("https://")
        assert len(clip.sha256) == 64
        assert clip.bytes > 0
        assert clip.licence
        assert clip.attribution
        if clip.scene:
            assert load_scene(ROOT / clip.scene).lines


@pytest.mark.footage
def test_the_pinned_sum_is_that_of_the_real_clip(data_folder: Path, tmp_path: Path) -> None:
    clip = read_clips()["one-by-one"]
    unreachable = replace(clip, url="http://127.0.0.1:9/")
    assert find_clip(unreachable, tmp_path, str(data_folder)) == data_folder / "footage" / clip.file
