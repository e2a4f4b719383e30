"""Bad input to ``headroom count``: a clear error with field and value, the right exit code, and no half file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

HEADROOM = [sys.executable, "-m", "headroom"]


def video(path: Path, *, frames: int = 30, codec: str = "mp4v", size: tuple[int, int] = (96, 64)) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), 10, size)
    rng = np.random.default_rng(0)
    for _ in range(frames):
        writer.write(rng.integers(0, 255, (size[1], size[0], 3), np.uint8))
    writer.release()
    return path


def count(folder: Path, *args: object) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("HEADROOM")}
    env["HEADROOM_CACHE"] = str(folder / ".cache")
    return subprocess.run(
        [*HEADROOM, "count", *map(str, args)], capture_output=True, text=True, cwd=folder, env=env, timeout=120
    )


def in_process(folder: Path, *args: object) -> tuple[int, str]:
    """As :func:`count`, without starting a process: for cases that end before a model is loaded."""
    from click.testing import CliRunner

    import headroom

    result = CliRunner().invoke(headroom.cli, ["count", *map(str, args)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, " ".join(result.output.split())


def nothing_left(folder: Path, *inputs: str) -> None:
    assert sorted(p.name for p in folder.iterdir() if p.name != ".cache") == sorted(inputs), "no half file"


def outs(folder: Path) -> list[object]:
    return ["--out", folder / "c.csv", "--out", folder / "c.jsonl", "--out", folder / "c.parquet", "--preview",
            folder / "p.mp4"]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("gone.mp4", None, ["SOURCE", "gone.mp4", "no such file"]),
        ("empty.mp4", b"", ["SOURCE", "empty.mp4", "is empty"]),
        ("text.mp4", b"dear diary\n" * 300, ["SOURCE", "text.mp4", "no video stream"]),
    ],
)
def test_missing_and_broken_video(tmp_path: Path, name: str, content: bytes | None, words: list[str]) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    code, output = in_process(tmp_path, tmp_path / name, *outs(tmp_path))
    assert code == 2
    for word in words:
        assert word in output
    nothing_left(tmp_path, *([name] if content is not None else []))


def test_the_error_is_all_that_is_printed(tmp_path: Path) -> None:
    """The codec's own lines stay away, and no traceback is shown."""
    (tmp_path / "text.mp4").write_bytes(b"dear diary\n" * 300)
    done = count(tmp_path, "text.mp4", "--json")
    assert done.returncode == 2
    assert done.stdout == ""
    assert [line for line in done.stderr.splitlines() if not line.startswith(("Usage:", "Try ", "Error:"))] in (
        [],
        [""],
    )
    assert "moov" not in done.stderr


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--line", "0,0,1.4,1", ["lines[0].end[0]", "1.4", "outside the frame"]),
        ("--line", "0,0,1", ["--line", "0,0,1", "four numbers"]),
        ("--line", "a,b,c,d", ["--line", "'a' is not a number"]),
        ("--line", "0.5,0.5,0.5,0.5", ["lines[0]", "apart"]),
        ("--line", "nan,0,1,1", ["lines[0].start[0]"]),
        ("--zone", "0,0,1,1", ["--zone", "three corners"]),
        ("--zone", "0,0,1,1,1,0,0,1", ["zones[0]", "cross"]),
        ("--zone", "0,0,-0.2,1,1,1", ["zones[0].points[1][0]", "-0.2", "outside the frame"]),
        ("--model", "no-such-model", ["--model", "no-such-model"]),
        ("--model", "no-such-file.onnx", ["--model", "no-such-file.onnx"]),
        ("--scene", "gone.toml", ["gone.toml", "no such file"]),
        ("--interval", "0", ["--interval", "0"]),
        ("--mode", "stadium", ["--mode", "stadium"]),
        ("--out", "counts.xlsx", ["--out", "counts.xlsx", ".csv"]),
        ("--out", "no/such/folder/c.csv", ["--out", "no/such/folder", "create it"]),
        ("--out", "/proc/c.csv", ["--out", "/proc/c.csv", "--out"]),
        ("--preview", "p.docx", ["--preview", "p.docx", ".mp4"]),
        ("--preview", "/dev/null/p.mp4", ["--preview", "/dev/null/p.mp4", "cannot be written"]),
        ("--start", "yesterday", ["--start", "yesterday"]),
        ("--start", "2026-03-02T09:00:00", ["--start", "no zone"]),
        ("--sensor-id", "Hall 1", ["--sensor-id", "Hall 1"]),
        ("--fps", "0", ["--fps", "0"]),
        ("--min-score", "7", ["--min-score", "7"]),
    ],
)
def test_options_that_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, value: str, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    video(tmp_path / "a.mp4")
    code, output = in_process(tmp_path, "a.mp4", "--out", "ok.csv", "--preview", "ok.mp4", option, value)
    assert code == 2, output
    for word in words:
        assert word in output, output
    nothing_left(tmp_path, "a.mp4")


def test_damaged_onnx_file(tmp_path: Path) -> None:
    video(tmp_path / "a.mp4")
    (tmp_path / "bad.onnx").write_bytes(b"\x08\x07 damaged" * 50)
    code, output = in_process(tmp_path, tmp_path / "a.mp4", "--model", tmp_path / "bad.onnx", *outs(tmp_path))
    assert code == 2
    assert "bad.onnx" in output
    nothing_left(tmp_path, "a.mp4", "bad.onnx")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_no_write_permission(tmp_path: Path) -> None:
    """As root every folder can be written to: ask as nobody, in a child that has dropped its rights."""
    from counter.outputs import OutputError, open_sink

    pid = os.fork()
    if pid == 0:  # pragma: no cover - the child
        code = 3
        try:
            os.setgid(65534)
            os.setuid(65534)
            open_sink("/usr/c.csv")
        except OutputError as error:
            code = 0 if "Permission denied" in str(error) and "/usr/c.csv" in str(error) else 4
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


class Runs:
    """Cases that need a counter: a detector that sees nobody stands in for a model."""

    @pytest.fixture(autouse=True)
    def blind(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from counter.pipeline import PeopleCounter
        from counter.types import Detections

        monkeypatch.setattr(
            "counter.cli.count.PeopleCounter",
            lambda _model, *a, **k: PeopleCounter(lambda _frame: Detections.empty(), *a, **k),
        )


class TestFailedRuns(Runs):
    """A run that had begun and failed: exit code 1."""

    def test_cut_recording(self, tmp_path: Path) -> None:
        path = video(tmp_path / "cut.avi", frames=60, codec="MJPG")
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        code, output = in_process(tmp_path, path, *outs(tmp_path))
        assert code == 1
        for word in ("cut.avi", "breaks off at", "of 60 frames"):
            assert word in output
        nothing_left(tmp_path, "cut.avi")
        code, output = in_process(tmp_path, path, "--allow-cut", "--out", tmp_path / "c.csv")
        assert code == 0, output

    def test_zero_frames(self, tmp_path: Path) -> None:
        path = tmp_path / "none.gif"
        path.write_bytes(b"GIF89a\x10\x00\x10\x00\x00\x00\x00;")
        code, output = in_process(tmp_path, path, *outs(tmp_path))
        assert code in (1, 2)
        assert "none.gif" in output
        assert "frame" in output or "no video stream" in output
        nothing_left(tmp_path, "none.gif")

    def test_empty_folder(self, tmp_path: Path) -> None:
        (tmp_path / "pictures").mkdir()
        code, output = in_process(tmp_path, tmp_path / "pictures", "--fps", 2)
        assert code == 2
        assert "no pictures" in output

    def test_frame_size_that_changes_midway(self, tmp_path: Path) -> None:
        folder = tmp_path / "pictures"
        folder.mkdir()
        for i in range(6):
            cv2.imwrite(str(folder / f"{i}.png"), np.zeros((64, 96 if i < 4 else 80, 3), np.uint8))
        code, output = in_process(tmp_path, folder, "--fps", 2, *outs(tmp_path))
        assert code == 1
        assert "frame 4 (at 2.00 s) is 80x64, the frames before it are 96x64" in output
        nothing_left(tmp_path, "pictures")

    def test_full_disk(self, tmp_path: Path) -> None:
        """/dev/full takes the open and refuses the write, as a full disk does."""
        (tmp_path / "c.csv").symlink_to("/dev/full")
        from counter.outputs import CsvSink, OutputError

        sink = CsvSink(tmp_path / "c.csv")
        sink._file.close()
        sink._file = open("/dev/full", "w")  # noqa: SIM115 - handed to the sink
        sink._file.write("x" * 10)
        with pytest.raises(OutputError, match="No space left"):
            sink.commit()
        assert [p.name for p in tmp_path.iterdir()] == ["c.csv"]

    def test_an_old_result_survives_a_failed_run(self, tmp_path: Path) -> None:
        path = video(tmp_path / "cut.avi", frames=60, codec="MJPG")
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        (tmp_path / "c.csv").write_text("yesterday's counts\n")
        code, _ = in_process(tmp_path, path, "--out", tmp_path / "c.csv")
        assert code == 1
        assert (tmp_path / "c.csv").read_text() == "yesterday's counts\n"
        nothing_left(tmp_path, "cut.avi", "c.csv")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mode = door\n", ["not valid TOML", "line 1"]),
        ("mod = 'door'", ["mod", "did you mean mode"]),
        ("[[lines]]\nname = 'a'\nstart = [0, 0]\n", ["lines[0].end", "missing"]),
        ("[[lines]]\nname = 'a'\nstart = [0, 0]\nend = [0, 1.5]\n", ["lines[0].end[1]", "1.5", "'a'", "outside"]),
        ("[[lines]]\nname = 'a'\nstart = [0, 0]\nend = [0, 1]\n" * 2, ["'a'", "again"]),
        ("min_score = 3\n", ["min_score", "3"]),
        ("version = 2\n", ["version", "2"]),
    ],
)
def test_scene_files_that_cannot_be(tmp_path: Path, text: str, words: list[str]) -> None:
    scene = tmp_path / "scene.toml"
    scene.write_text(text)
    code, output = in_process(tmp_path, "a.mp4", "--scene", scene)
    assert code == 2
    for word in [str(scene), *words]:
        assert word in output, output
