"""Frame sources: container time, clear errors, live sources that survive hangs."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pytest

from counter.sources import (
    ArraySource,
    ImageFolder,
    LiveSettings,
    LiveSource,
    Paced,
    SourceError,
    VideoFile,
    open_source,
)
from counter.sources.base import public_name


def picture(level: int, width: int = 96, height: int = 64) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def write_video(path: Path, frames: int = 12, fps: float = 10.0, size: tuple[int, int] = (96, 64)) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
    assert writer.isOpened()
    for i in range(frames):
        writer.write(picture(10 + 15 * (i % 16), *size))
    writer.release()
    return path


def with_varying_rate(path: Path, first: int, slow: int) -> Path:
    """Rewrite the sample times of an MP4 (``stts``, ISO/IEC 14496-12): ``slow``-fold after ``first`` frames."""
    data = path.read_bytes().replace(b"edts", b"free")  # the edit list would end the film at its old length
    assert data.find(b"moov") > data.find(b"mdat"), "the index must lie behind the data, or offsets would move"
    at = data.index(b"stts") + 4
    _, entries, count, delta = struct.unpack(">IIII", data[at : at + 16])
    assert entries == 1
    table = struct.pack(">IIIIII", 0, 2, first, delta, count - first, delta * slow)
    out = bytearray(data[:at] + table + data[at + 16 :])
    for box in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stts"):
        head = data.index(box) - 4
        struct.pack_into(">I", out, head, struct.unpack_from(">I", out, head)[0] + 8)
    path.write_bytes(bytes(out))
    return path


def write_gif(path: Path, durations: list[int]) -> Path:
    animation = cv2.Animation()
    animation.frames = [cv2.cvtColor(picture(20 + 10 * i), cv2.COLOR_BGR2BGRA) for i in range(len(durations))]
    animation.durations = durations
    assert cv2.imwriteanimation(str(path), animation)
    return path


# ---- recordings ----------------------------------------------------------------------------------------------------


def test_time_comes_from_the_container(tmp_path: Path) -> None:
    with VideoFile(write_video(tmp_path / "a.mp4", frames=12, fps=10)) as source:
        assert [round(f.t, 3) for f in source] == [round(i / 10, 3) for i in range(12)]
        assert source.frame_count == 12
        assert source.fps == pytest.approx(10)


def test_a_varying_frame_rate_keeps_its_seconds(tmp_path: Path) -> None:
    path = with_varying_rate(write_video(tmp_path / "vfr.mp4", frames=12, fps=10), first=6, slow=5)
    with VideoFile(path) as source:
        times = [f.t for f in source]
    assert times[:7] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6], abs=0.002)
    assert np.diff(times[6:]) == pytest.approx([0.5] * 5, abs=0.002)


def test_a_gif_gives_each_picture_its_own_delay(tmp_path: Path) -> None:
    with VideoFile(write_gif(tmp_path / "a.gif", [100, 400, 100, 1000, 100])) as source:
        times = [f.t for f in source]
    assert times == pytest.approx([0, 0.1, 0.5, 0.6, 1.6], abs=0.011)


def test_the_buffer_is_written_again_and_wiped_at_the_end(tmp_path: Path) -> None:
    source = VideoFile(write_video(tmp_path / "a.mp4"))
    frames = [f.frame for f in source]
    assert len({id(f) for f in frames}) == 1, "one buffer serves all frames"
    source.close()
    assert not frames[0].any(), "the last picture is overwritten"
    source.close()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("gone.mp4", None, "no such file"),
        ("empty.mp4", b"", "is empty"),
        ("text.mp4", b"this is not a video\n" * 500, "no video stream"),
        ("text.gif", b"GIF89a nothing else;", "no frame that can be decoded"),
        ("noise.avi", bytes(range(256)) * 64, "no video stream"),
    ],
)
def test_what_is_not_a_video_is_said_so(tmp_path: Path, name: str, content: bytes | None, reason: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError, match=reason) as caught:
        list(open_source(str(path)))
    assert str(path) in str(caught.value)
    assert "SOURCE" in str(caught.value)


def test_a_video_cut_in_its_header_cannot_be_opened(tmp_path: Path) -> None:
    path = write_video(tmp_path / "cut.mp4", frames=40)
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(SourceError, match="no video stream"):
        VideoFile(path)


def cut_in_its_data(tmp_path: Path) -> Path:
    """An AVI keeps its announced length in the head, so that a cut one still opens."""
    path = tmp_path / "cut.avi"
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), 10, (96, 64))
    rng = np.random.default_rng(1)
    for _ in range(60):
        writer.write(rng.integers(0, 255, (64, 96, 3), np.uint8))
    writer.release()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def test_a_cut_recording_is_an_error_and_not_a_short_one(tmp_path: Path) -> None:
    path = cut_in_its_data(tmp_path)
    with pytest.raises(SourceError, match=r"breaks off at .* frames") as caught:
        list(VideoFile(path))
    assert not caught.value.usage
    assert len(list(VideoFile(path, strict=False))) > 5


def test_a_cut_gif_is_noticed(tmp_path: Path) -> None:
    path = write_gif(tmp_path / "a.gif", [100] * 8)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(SourceError, match="end mark"):
        VideoFile(path)


def test_a_folder_of_pictures_is_read_in_natural_order(tmp_path: Path) -> None:
    for n in (1, 2, 10):
        cv2.imwrite(str(tmp_path / f"{n}.png"), picture(n * 10))
    (tmp_path / "notes.txt").write_text("not a picture")
    frames = [(f.t, int(f.frame[0, 0, 0])) for f in ImageFolder(tmp_path, fps=2)]
    assert frames == [(0, 10), (0.5, 20), (1, 100)]


def test_a_motchallenge_sequence_brings_its_own_rate(tmp_path: Path) -> None:
    (tmp_path / "img1").mkdir()
    cv2.imwrite(str(tmp_path / "img1" / "000001.jpg"), picture(50))
    cv2.imwrite(str(tmp_path / "img1" / "000002.jpg"), picture(50))
    (tmp_path / "seqinfo.ini").write_text("[Sequence]\nname=x\nimDir=img1\nframeRate=5\nseqLength=2\n")
    assert [f.t for f in open_source(str(tmp_path))] == [0, 0.2]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda d: None, "no pictures in this folder"),
        (lambda d: cv2.imwrite(str(d / "a.png"), picture(5)), "--fps"),
        (lambda d: (d / "seqinfo.ini").write_text("[Sequence]\nname=x\n"), "frameRate"),
        (lambda d: (d / "seqinfo.ini").write_text("[Sequence]\nframeRate=0\n"), "not above 0"),
        (lambda d: (d / "seqinfo.ini").write_text("[Sequence]\nframeRate=5\n"), "imDir"),
    ],
)
def test_unusable_folders(tmp_path: Path, make: Callable[[Path], object], reason: str) -> None:
    make(tmp_path)
    with pytest.raises(SourceError, match=reason):
        open_source(str(tmp_path))


def test_a_size_that_changes_midway_names_the_frame(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "1.png"), picture(5))
    cv2.imwrite(str(tmp_path / "2.png"), picture(5, 64, 48))
    with pytest.raises(SourceError, match=r"frame 1 \(at 0.50 s\) is 64x48, the frames before it are 96x64"):
        list(ImageFolder(tmp_path, fps=2))


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"no picture")
    with pytest.raises(SourceError, match=r"1\.png.*cannot be decoded"):
        list(ImageFolder(tmp_path, fps=2))


def test_arrays_with_a_rate_or_with_their_own_time() -> None:
    assert [f.t for f in ArraySource([picture(1), picture(2)], fps=4)] == [0, 0.25]
    assert [f.t for f in ArraySource([(0.0, picture(1)), (7.5, picture(2))])] == [0, 7.5]


@pytest.mark.parametrize(
    ("frames", "fps", "reason"),
    [
        ([], 5.0, "not a single frame"),
        ([picture(1)], None, "give fps="),
        ([picture(1)[:, :, 0]], 5.0, "cvtColor"),
        ([picture(1).astype(np.float32)], 5.0, "uint8"),
        (["a path"], 5.0, "numpy array"),
        ([np.zeros((0, 4, 3), np.uint8)], 5.0, "empty"),
        ([(1.0, picture(1)), (0.5, picture(1))], None, "never go back"),
        ([(float("nan"), picture(1))], None, "finite"),
        ([picture(1), picture(1, 32, 32)], 5.0, "frame 1"),
    ],
)
def test_unusable_arrays(frames: list[object], fps: float | None, reason: str) -> None:
    with pytest.raises(SourceError, match=reason):
        list(ArraySource(frames, fps=fps))  # type: ignore[arg-type]


# ---- what people write ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("", "name a video"),
        ("997", "no camera /dev/video997"),
        ("/dev/video998", "no camera /dev/video998"),
        ("gopher://host/clip", "gopher:// is not one of"),
        ("fakesrc ! appsink", "GStreamer"),
        ("/no/such/folder/clip.mp4", "no such file"),
    ],
)
def test_specs_that_name_nothing(spec: str, reason: str) -> None:
    if "GStreamer" in reason and cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        pytest.skip("this OpenCV has GStreamer")
    with pytest.raises(SourceError, match=reason) as caught:
        open_source(spec)
    assert caught.value.usage


def test_no_password_of_an_address_is_shown() -> None:
    assert public_name("rtsp://user:secret@10.0.0.7:554/stream?token=abc") == "rtsp://10.0.0.7:554/stream"
    with pytest.raises(SourceError) as caught:
        open_source("gopher://user:secret@host/x?token=abc")
    assert "secret" not in str(caught.value)
    assert "abc" not in str(caught.value)
    assert public_name("rtsp://user:secret@[::1/x") == "rtsp://..."
    pipeline = 'rtspsrc location="rtsp://user:secret@10.0.0.7/x" user-pw=secret ! decodebin ! appsink'
    assert public_name(pipeline) == "GStreamer pipeline"
    if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        with pytest.raises(SourceError) as caught:
            open_source(pipeline)
        assert "secret" not in str(caught.value)


def test_opening_a_stream_does_not_wait_for_it() -> None:
    begun = time.monotonic()
    source = open_source("rtsp://user:secret@127.0.0.1:9/none")
    assert isinstance(source, LiveSource)
    assert source.name == "rtsp://127.0.0.1:9/none"
    assert time.monotonic() - begun < 1
    source.close()


# ---- live sources --------------------------------------------------------------------------------------------------


class FakeCamera:
    """A camera whose reads do what a script says: a level (a picture), None (gone), or an event to hang on."""

    def __init__(self, script: Iterator[object], log: list[str]) -> None:
        self._script = script
        self._log = log
        self.buffers: list[int] = []

    def read(self, buffer: np.ndarray | None) -> np.ndarray | None:
        step = next(self._script, None)
        if isinstance(step, threading.Event):
            step.wait(20)
            return picture(250)
        if step is None:
            return None
        if isinstance(step, Exception):
            raise step
        shape = (48, 64, 3) if step == 99 else (64, 96, 3)
        if buffer is None or buffer.shape != shape:
            buffer = np.empty(shape, np.uint8)
        buffer[:] = step
        return buffer

    def release(self) -> None:
        self._log.append("released")


def live(scripts: list[list[object]], log: list[str], **settings: float) -> LiveSource:
    """A source whose n-th connection plays the n-th script; later connections are refused."""
    waiting = iter(scripts)

    def opener() -> FakeCamera:
        log.append("opened")
        script = next(waiting, None)
        if script is None:
            raise SourceError("SOURCE", "fake", "cannot be opened")
        return FakeCamera(iter(script), log)

    options = {"stall": 0.15, "back_off": 0.01, "back_off_max": 0.02, **settings}
    return LiveSource(
        opener, name="fake", settings=LiveSettings(**options), on_change=lambda up: log.append(f"up={up}")
    )  # type: ignore[arg-type]


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)


def next_frame(source: LiveSource, seconds: float = 10.0) -> tuple[int, int]:
    """Level and epoch of the next picture."""
    item = source.read(seconds)
    assert item is not None, source.failure
    assert item.utc is not None
    assert item.utc.tzinfo is UTC
    return int(item.frame[0, 0, 0]), item.epoch


def test_a_camera_that_vanishes_is_opened_again() -> None:
    log: list[str] = []
    gate = threading.Event()
    with live([[1], [2, gate]], log) as source:
        assert next_frame(source) == (1, 0)
        assert next_frame(source) == (2, 1), "a new epoch: tracks from before mean nothing"
        assert [x for x in log if x != "released"] == ["opened", "up=True", "up=False", "opened", "up=True"]
        assert "released" in log
        gate.set()


def test_a_read_that_hangs_does_not_hang_the_program() -> None:
    log: list[str] = []
    hang = threading.Event()
    keep = threading.Event()
    with live([[1, hang], [2, keep]], log) as source:
        assert next_frame(source) == (1, 0)
        begun = time.monotonic()
        assert source.read(0.02) is None, "nothing new, and the caller gets its say"
        assert time.monotonic() - begun < 1
        assert next_frame(source) == (2, 1)
        assert "no picture for" in str(source.failure)
        assert source.stuck == 1
        hang.set()  # the driver wakes: its late picture is thrown away and its camera released
        until(lambda: source.stuck == 0)
        until(lambda: "released" in log)
        assert source.read(0.02) is None
        keep.set()


def test_threads_that_hang_for_ever_are_bounded() -> None:
    log: list[str] = []
    hangs = [threading.Event() for _ in range(8)]
    with live([[h] for h in hangs], log, stall=0.02, max_stuck=2) as source:
        until(lambda: source.read(0.01) is None and source.stuck == 2)
        for _ in range(20):
            assert source.read(0.01) is None
        assert log.count("opened") <= 3
        for hang in hangs:
            hang.set()
        until(lambda: source.read(0.01) is not None or source.stuck < 2)


def test_a_camera_that_never_opens_is_tried_for_ever_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    log: list[str] = []
    with live([], log) as source:
        until(lambda: source.read(0.005) is None and log.count("opened") >= 5)
        assert source.failure == "cannot be opened"
    assert sum("no pictures" in r.message for r in caplog.records) == 1, "one line in the log, not one per attempt"


def test_a_driver_that_raises_is_survived() -> None:
    log: list[str] = []
    gate = threading.Event()
    with live([[RuntimeError("bus error")], [7, gate]], log) as source:
        assert next_frame(source)[0] == 7
        assert "bus error" in str(source.failure)
        gate.set()


def test_a_slow_reader_gets_the_newest_picture_and_no_queue() -> None:
    log: list[str] = []
    gate = threading.Event()
    with live([[*range(1, 90), gate]], log, stall=30) as source:
        time.sleep(0.05)
        until(lambda: next_frame(source)[0] == 89)
        gate.set()


def test_the_cameras_own_rate_counts_pictures_that_nobody_asked_for() -> None:
    now, gate = [0.0], threading.Event()

    class Steady:
        def read(self, buffer: np.ndarray | None) -> np.ndarray:
            now[0] += 0.04
            if now[0] > 4.0:
                gate.wait(20)
            return picture(1)

        def release(self) -> None: ...

    with LiveSource(Steady, name="fake", settings=LiveSettings(stall=1e6), clock=lambda: now[0]) as source:
        assert source.rate is None
        assert source.read(10.0) is not None
        until(lambda: now[0] > 4.0)
        assert source.rate == pytest.approx(25.0)
        gate.set()


def test_a_stream_that_changes_its_size_begins_a_new_epoch() -> None:
    log: list[str] = []
    gates = [threading.Event(), threading.Event()]

    def opener() -> FakeCamera:
        def script() -> Iterator[object]:
            yield 5
            gates[0].wait(10)
            yield 99
            gates[1].wait(10)

        return FakeCamera(script(), log)

    with LiveSource(opener, name="fake", settings=LiveSettings(stall=20)) as source:
        assert next_frame(source) == (5, 0)
        gates[0].set()
        assert next_frame(source) == (99, 1)
        gates[1].set()


def test_three_buffers_serve_a_live_source_and_are_wiped() -> None:
    """While the reader holds a picture the camera writes elsewhere: what was read never changes under the reader."""
    log: list[str] = []
    stop = threading.Event()

    def script() -> Iterator[object]:
        level = 0
        while not stop.is_set():
            level = level % 97 + 1
            yield level

    with LiveSource(lambda: FakeCamera(script(), log), name="fake") as source:
        kept: dict[int, np.ndarray] = {}
        for _ in range(300):
            item = source.read(5)
            assert item is not None
            level = item.frame[0, 0, 0]
            assert (item.frame == level).all(), "the picture changed while it was being read"
            kept[id(item.frame)] = item.frame
        stop.set()
    assert len(kept) <= 3
    assert not any(frame.any() for frame in kept.values())


def test_a_recording_played_in_real_time_drops_late_frames() -> None:
    now = [100.0]
    frames = ((i / 10, picture(i)) for i in range(20))

    def sleep(seconds: float) -> None:
        now[0] += seconds

    paced = Paced(
        ArraySource(frames), clock=lambda: now[0], sleep=sleep, wall_clock=lambda: datetime(2026, 3, 2, tzinfo=UTC)
    )
    times = []
    for item in paced:
        times.append(round(item.t - 100, 3))
        assert item.utc == datetime.fromtimestamp(datetime(2026, 3, 2, tzinfo=UTC).timestamp() + item.t - 100, UTC)
        if len(times) == 3:
            now[0] += 1.0  # a slow step of the reader
    assert times[:3] == [0, 0.1, 0.2]
    assert times[3] >= 1.1, "late frames are dropped, not queued"
    assert times[-1] == 1.9


@pytest.mark.footage
def test_real_gif_has_its_real_length(data_folder: Path) -> None:
    with VideoFile(data_folder / "footage" / "classroom.gif") as source:
        times = [f.t for f in source]
    assert len(times) == 45
    assert times[-1] == pytest.approx(2.93, abs=0.02), "its delays alternate; frames / nominal rate would say 2.64"
