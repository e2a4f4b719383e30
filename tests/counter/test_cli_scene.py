"""``headroom scene``: the still, the page, and errors before anything is served."""

from __future__ import annotations

import json
import socket
import threading
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import headroom
from counter.cli import scene as command
from counter.scene import load_scene
from counter.scene_page.server import ScenePage
from counter.sources import ArraySource, LiveSettings, LiveSource, SourceError


def run(*args: object) -> tuple[int, str]:
    result = CliRunner().invoke(headroom.cli, ["scene", *map(str, args)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, " ".join(result.output.split())


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    import cv2

    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(4):
        cv2.imwrite(str(folder / f"{i}.png"), np.full((48, 64, 3), 50 * i, np.uint8))
    return folder


def test_the_still_is_the_one_asked_for() -> None:
    frames = [np.full((8, 8, 3), level, np.uint8) for level in range(10)]
    assert command.grab_still(ArraySource(frames, fps=2), 1.0)[0, 0, 0] == 2
    assert command.grab_still(ArraySource(frames, fps=2), 99)[0, 0, 0] == 9, "the last, where there is none so late"


def test_a_camera_without_picture_is_not_waited_for_for_ever() -> None:
    def refuse() -> Any:
        raise OSError("no such device")

    with (
        LiveSource(refuse, name="camera 3", settings=LiveSettings(back_off=0.01)) as source,
        pytest.raises(SourceError, match=r"camera 3.*no picture within 0.1 s .*no such device"),
    ):
        command.grab_still(source, 0, patience=0.1)


def test_drawing_saving_and_closing(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole command, with a program in the place of the browser."""
    pages: list[ScenePage] = []

    class Watched(ScenePage):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            pages.append(self)
            threading.Thread(target=draw, args=(self,), daemon=True).start()

    def draw(page: ScenePage) -> None:
        lines = [{"name": "door", "start": [0.1, 0.5], "end": [0.9, 0.5]}]
        for name, body in (("save", {"lines": lines}), ("done", {})):
            headers = {"Origin": page.url.rsplit("/", 2)[0]}
            request = urllib.request.Request(page.url + name, json.dumps(body).encode(), headers)
            urllib.request.urlopen(request, timeout=10).read()

    monkeypatch.setattr(command, "ScenePage", Watched)
    out = tmp_path / "hall.toml"
    code, output = run(pictures, "--fps", 2, "--out", out, "--no-browser")
    assert code == 0, output
    assert pages[0].url.split("/")[2].startswith("127.0.0.1:")
    assert f"--scene {out}" in output, "it says what to do next"
    assert load_scene(out).lines[0].name == "door"
    assert pages[0].still == b""
    assert sorted(p.name for p in tmp_path.iterdir()) == ["hall.toml", "pictures"], "no picture was written"


def test_bad_input(pictures: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("mode = 'stadium'\n")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for args, words in (
            ((tmp_path / "gone.mp4",), ["SOURCE", "gone.mp4", "no such file"]),
            ((pictures,), ["--fps"]),
            ((pictures, "--fps", 2, "--out", tmp_path / "no" / "s.toml"), ["--out", "no folder"]),
            ((pictures, "--fps", 2, "--out", broken), ["broken.toml", "mode", "stadium"]),
            (
                (pictures, "--fps", 2, "--port", taken.getsockname()[1], "--out", tmp_path / "s.toml"),
                ["--port", "in use"],
            ),
        ):
            code, output = run(*args, "--no-browser")
            assert code == 2, output
            for word in words:
                assert word in output, output
