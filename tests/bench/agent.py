"""The sensor as a process: start to first record, memory, CPU per camera at 5, 10 and 15 pictures/s, cameras a board.

The real program with its privacy locks on plays a clip in real time, as a camera would give it: 1280x720, Motion JPEG,
15 pictures/s, all of them decoded. Somebody always walks in it, so the network runs on every picture that is looked
at: the worst case. CPU is that of the whole process, in per cent of a core.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import psutil

from counter.agent.state import ask

CLIP = Path(__file__).parents[1] / "clips" / "door-overhead-rendered.mp4"
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MOST_MEMORY_MIB = 300
LONGEST_GAP = 1.25  # pictures that come at this share of their spacing or less are kept up with


def main(argv: list[str] | None = None) -> int:
    """Print one JSON line a figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long", action="store_true", help="a minute each instead of seconds, and up to 12 cameras")
    long = parser.parse_args(argv).long
    with tempfile.TemporaryDirectory() as folder:
        measure(as_a_camera(Path(folder)), long)
    return 0


def measure(clip: Path, long: bool) -> None:
    """Everything, one line a figure."""
    seconds = 60.0 if long else 4.0
    start_up(clip)
    cost = {fps: cpu(clip, fps, 1, seconds) for fps in (5.0, 10.0, 15.0)}
    for fps, (percent, rate, memory) in cost.items():
        report(f"agent_cpu_per_camera_{fps:.0f}fps", percent, "% of one core")
        report(f"agent_rate_{fps:.0f}fps", rate, "pictures/s", fps)
        report(f"agent_memory_{fps:.0f}fps", memory, "MiB", MOST_MEMORY_MIB)
    percent, rate, _ = cost[10.0]
    report("agent_cameras_on_two_cores_10fps_computed", 2 * 85.0 / (percent * 10.0 / max(rate, 0.1)), "cameras")
    carried = 0
    for cameras in range(2, 13) if long else (2, 4):
        _, rate, memory = cpu(clip, 10.0, cameras, seconds)
        report(f"agent_rate_10fps_{cameras}_cameras", rate, "pictures/s", 10.0)
        report(f"agent_memory_{cameras}_cameras", memory, "MiB", MOST_MEMORY_MIB)
        if rate * LONGEST_GAP < 10.0:
            break
        carried = cameras
    report("agent_cameras_carried_10fps", float(max(carried, 1)), "cameras")


def as_a_camera(folder: Path) -> Path:
    """The rendered clip as a camera gives it."""
    source, path = cv2.VideoCapture(str(CLIP)), folder / "camera.avi"
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), 15.0, (1280, 720))
    while (frame := source.read()[1]) is not None:
        writer.write(cv2.resize(frame, (1280, 720), interpolation=cv2.INTER_LINEAR))
    writer.release()
    source.release()
    return path


def start_up(clip: Path) -> None:
    """From the start of the process to the first picture and the first record (intervals of a second)."""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        with agent(clip, Path(folder), 10.0, 1, interval=1) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            report("agent_start_to_first_record", time.perf_counter() - begun, "s")
            report("agent_start_to_first_record_cpu", _used(psutil.Process(process.pid)), "s of CPU")
            json.loads(line)
        # The second start knows which precision is the faster one here.
        begun = time.perf_counter()
        with agent(clip, Path(folder), 10.0, 1, interval=1) as process:
            assert process.stdout is not None
            process.stdout.readline()
            report("agent_start_again_to_first_record", time.perf_counter() - begun, "s")


def cpu(clip: Path, fps: float, cameras: int, seconds: float) -> tuple[float, float, float]:
    """CPU per camera in per cent of one core, pictures/s of the slowest camera, MiB of the process at most."""
    with tempfile.TemporaryDirectory() as folder, agent(clip, Path(folder), fps, cameras) as process:
        _wait(Path(folder), lambda d: all(c["frames"] > fps for c in d["cameras"]))
        watched = psutil.Process(process.pid)
        used, begun = _used(watched), time.perf_counter()
        first = ask(Path(folder))
        time.sleep(seconds)
        last, passed = ask(Path(folder)), time.perf_counter() - begun
        spent = _used(watched) - used
        rate = min(b["frames"] - a["frames"] for a, b in zip(first["cameras"], last["cameras"], strict=True)) / passed
        return 100.0 * spent / passed / cameras, rate, watched.memory_info().rss / 2**20


@contextmanager
def agent(clip: Path, folder: Path, fps: float, cameras: int, interval: int = 60) -> Iterator[subprocess.Popen[str]]:
    """The real program; records go to its standard output."""
    hours = "".join(f'{day} = ["00:00-24:00"]\n' for day in DAYS)
    tables = "".join(
        f'[[camera]]\nsensor_id = "cam-{i}"\nsource = "{clip}"\nfps = {fps}\nidle_fps = {fps}\n'
        '[[camera.scene.lines]]\nname = "door"\nstart = [0.0, 0.5]\nend = [1.0, 0.5]\n'
        for i in range(cameras)
    )
    (folder / "sensor.toml").write_text(f'interval = {interval}\n{tables}[hours]\nzone = "UTC"\n{hours}')
    command = [sys.executable, "-m", "headroom", "sensor", "run", "--dry-run"]
    command += ["--state", str(folder), "--config", str(folder / "sensor.toml")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()


def report(name: str, value: float, unit: str, peer: float | None = None) -> None:
    """One JSON line; the peer is what was asked for or is allowed."""
    line: dict[str, Any] = {"name": name, "value": round(value, 2), "unit": unit}
    if peer is not None:
        line |= {"peer": "asked or allowed", "peer_value": peer, "ratio": round(value / peer, 3)}
    print(json.dumps(line), flush=True)


def _wait(folder: Path, condition: Any) -> Any:
    deadline = time.monotonic() + 60.0
    while time.monotonic() < deadline:
        document = ask(folder)
        if document is not None and condition(document):
            return document
        time.sleep(0.1)
    raise TimeoutError("the sensor did not begin to count within 60 s")


def _used(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    sys.exit(main())
