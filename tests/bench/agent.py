"""The sensor as a process: start to first record, memory, CPU and watts per camera, how many cameras a board carries.

The real program with its privacy locks on plays a clip in real time, as a camera would give it: 1280x720, Motion JPEG,
15 pictures/s, all of them decoded. Somebody always walks in it, so the network runs on every picture that is looked
at: the worst case. CPU is that of the whole process, in per cent of a core.

How many cameras are carried is tried, not computed: the sensor is started with more of them until one of them says
`overloaded` or is looked at too seldom, then with fewer, until the last number that held and the first that did not lie
side by side. It needs a machine that does nothing else: what others took is measured, and a try that fails beside them
is made again. `--carried` does that part alone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import psutil

from counter.agent.power import Power, measure
from counter.agent.state import ask

CLIP = Path(__file__).parents[1] / "clips" / "door-overhead-rendered.mp4"
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MOST_MEMORY_MIB = 300
CORES = len(os.sched_getaffinity(0))
LEAST_SHARE = 0.9  # of the looks that were asked for: below it the board does not keep up
MOST_CAMERAS = 16  # of a sensor.toml
TRIED_RATES = (10.0, 5.0)
DISTURBED = 15.0  # per cent of a core that others took: a try that fails then says nothing, and is made again
TRIES = 3


def main(argv: list[str] | None = None) -> int:
    """Print one JSON line a figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long", action="store_true", help="a minute each, and cameras until it fails")
    parser.add_argument(
        "--carried", type=float, nargs="*", metavar="RATE", help="only: cameras carried at 10 and 5, or these, looks/s"
    )
    parser.add_argument("--seconds", type=float, default=12.0, help="of each try; `overloaded` takes ten")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        clip = as_a_camera(Path(folder))
        if options.carried is None:
            costs(clip, 60.0 if options.long else 4.0)
        if options.carried is not None or options.long:
            first = 8
            for fps in options.carried or TRIED_RATES:
                first = carried(clip, fps, options.seconds, first)
    return 0


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of the sensor showed.

    Attributes:
        percent: CPU of the process, per cent of one core.
        others: the same of everything else on this machine, this benchmark included.
        rate: looks/s of the slowest camera.
        memory: MiB at the end.
        overloaded: cameras that said so.
        delay: milliseconds from picture to count, of the slowest camera's last look.
    """

    cameras: int
    percent: float
    others: float
    rate: float
    memory: float
    overloaded: int
    delay: float
    power: Power

    def held(self, fps: float) -> bool:
        """Whether the board kept up with all cameras."""
        return not self.overloaded and self.rate >= LEAST_SHARE * fps


def costs(clip: Path, seconds: float) -> None:
    """What one camera costs."""
    start_up(clip)
    report_power("agent_board_idle_power", measure(min(seconds, 10.0)))
    for fps in (5.0, 10.0, 15.0):
        run = look(clip, fps, 1, seconds)
        report(f"agent_cpu_per_camera_{fps:.0f}fps", run.percent, "% of one core")
        report(f"agent_rate_{fps:.0f}fps", run.rate, "pictures/s", fps)
        report(f"agent_memory_{fps:.0f}fps", run.memory, "MiB", MOST_MEMORY_MIB)
        report_power(f"agent_power_{fps:.0f}fps", run.power)


def carried(clip: Path, fps: float, seconds: float, first: int) -> int:
    """Try numbers of cameras, ``first`` first, until one that held and one that did not lie side by side."""
    held, failed, tried = 0, MOST_CAMERAS + 1, first
    best: Run | None = None
    while failed - held > 1:
        for _ in range(TRIES):
            run = look(clip, fps, tried, seconds)
            if run.held(fps) or run.others < DISTURBED:
                break
        name = f"agent_{fps:.0f}fps_{tried}_cameras"
        report(f"{name}_rate", run.rate, "pictures/s", fps)
        report(f"{name}_cpu", run.percent, "% of one core", 100.0 * CORES)
        report(f"{name}_cpu_of_others", run.others, "% of one core")
        report(f"{name}_overloaded", float(run.overloaded), "cameras")
        if run.held(fps):
            held, best = tried, run
            guess = int(tried * 0.95 * 100.0 * CORES / max(run.percent, 1.0))
        else:
            failed = tried
            guess = int(tried * run.rate / fps)
        tried = guess if held < guess < failed else (held + failed) // 2
    limit = " (all that one sensor.toml may hold)" if held == MOST_CAMERAS else ""
    report(f"agent_cameras_carried_{fps:.0f}fps", float(held), f"cameras on {CORES} cores{limit}")
    if best is not None:
        report(f"agent_carried_{fps:.0f}fps_memory", best.memory, "MiB")
        report(f"agent_carried_{fps:.0f}fps_delay", best.delay, "ms")
        report_power(f"agent_carried_{fps:.0f}fps_power", best.power)
    return max(held, 1)


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


def look(clip: Path, fps: float, cameras: int, seconds: float) -> Run:
    """Let the sensor look at so many cameras for so long."""
    with tempfile.TemporaryDirectory() as folder, agent(clip, Path(folder), fps, cameras) as process:
        _wait(Path(folder), lambda d: all(c["frames"] > fps for c in d["cameras"]))
        watched = psutil.Process(process.pid)
        used, busy, begun = _used(watched), _busy(), time.perf_counter()
        first = ask(Path(folder))
        power = measure(seconds)
        last, passed = ask(Path(folder)), time.perf_counter() - begun
        spent, all_spent = _used(watched) - used, _busy() - busy
        looks = [b["frames"] - a["frames"] for a, b in zip(first["cameras"], last["cameras"], strict=True)]
        return Run(
            cameras,
            100.0 * spent / passed,
            100.0 * max(all_spent - spent, 0.0) / passed,
            min(looks) / passed,
            watched.memory_info().rss / 2**20,
            sum("overloaded" in camera["health"] for camera in last["cameras"]),
            max(camera["delay_ms"] for camera in last["cameras"]),
            power,
        )


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


def report_power(name: str, power: Power) -> None:
    """Watts, or why there are none."""
    if power.watts is not None:
        report(name, power.watts, f"W, {power.words}")
    else:
        print(json.dumps({"name": name, "value": None, "unit": "W", "why": power.words}), flush=True)


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


def _busy() -> float:
    """CPU seconds of the whole machine."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)


if __name__ == "__main__":
    sys.exit(main())
