"""The detector: an optimised ONNX file on ONNX Runtime, set up for a small machine.

Both thread counts are set, spinning is off (idle threads that spin burn a sensor's CPU), the CPU arena is off (it grows
and never shrinks), and frames are read where they lie or through one buffer that is used again and again. Where a model
comes in fp32 and int8, a self-test on this CPU decides once and remembers.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import cv2
import numpy as np
import onnxruntime as ort

from counter import _models
from counter.types import Detections, Frame

if TYPE_CHECKING:
    from models.registry import ResolvedModel

log = logging.getLogger(__name__)

Mode = Literal["door", "room"]
WORTH = 0.95  # int8 must take less than this share of fp32's time, as it is never more accurate
_ROUNDS = 9


class DetectorError(Exception):
    """A model is unknown, missing, damaged or does not fit. The message names it and says what to do."""


class Detector(Protocol):
    """Anything that finds people in a frame. Give your own to :class:`counter.PeopleCounter`."""

    def detect(self, frame: Frame) -> Detections:
        """The people in ``frame``, boxes in its pixels, weak ones included: the tracker decides what they are worth."""
        ...


class CallableDetector:
    """A function ``frame -> Detections`` as a :class:`Detector`."""

    def __init__(self, function: Callable[[Frame], Detections]) -> None:
        self._function = function

    def detect(self, frame: Frame) -> Detections:
        return self._function(frame)


class OnnxDetector:
    """Runs one optimised ONNX file.

    Args:
        path: graph with input ``frame`` uint8 ``[1, H, W, 3]`` or ``[H, W, 3]`` BGR of any size and output ``[N, 6]``
            float32: x1, y1, x2, y2 in pixels of the frame, score, class.
        threads: of one inference; default: the CPUs that this process may use, at most 4.
        name: shown to people.
        size: width and height of the network's own picture, where known. Frames are then resized here to what the
            graph's letterbox would make of them: OpenCV does it in a fraction of the graph's time.

    Raises:
        DetectorError: the file is missing, damaged or has other inputs and outputs.
    """

    def __init__(
        self, path: Path, threads: int | None = None, name: str | None = None, size: tuple[int, int] | None = None
    ) -> None:
        self.name = name or path.stem
        self.path = path
        self._session = _session(path, threads or usable_cpus())
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or inputs[0].type != "tensor(uint8)" or len(inputs[0].shape) not in (3, 4):
            raise DetectorError(
                f"{path}: expected one input, uint8 frames, got "
                f"{', '.join(f'{i.name} {i.type} {i.shape}' for i in inputs)}; run: headroom models optimise {path}"
            )
        self._input, self._batched = inputs[0].name, len(inputs[0].shape) == 4
        self._output = outputs[0].name
        self._size = size
        self._buffer: Frame = np.empty((0, 0, 3), np.uint8)
        self._small: Frame = np.empty((0, 0, 3), np.uint8)

    def detect(self, frame: Frame) -> Detections:
        """See :class:`Detector`. What fits is read in place; any other frame goes through buffers that stay."""
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
            raise ValueError(f"frame: expected uint8 [height, width, 3], got {frame.dtype} {list(frame.shape)}")
        height, width = frame.shape[:2]
        if not frame.size:
            raise ValueError(f"frame: expected at least one pixel, got {list(frame.shape)}")
        frame = self._fitted(frame)
        feed = frame[None] if self._batched else frame
        try:
            found = np.asarray(self._session.run([self._output], {self._input: feed})[0], np.float32)
        except ort.capi.onnxruntime_pybind11_state.Fail as error:
            raise DetectorError(f"{self.path}: inference failed: {_first_line(error)}") from error
        found = found.reshape(-1, found.shape[-1]) if found.size else np.empty((0, 6), np.float32)
        if found.shape[1] < 5:
            raise DetectorError(f"{self.path}: expected detections of 6 numbers, got {found.shape[1]}")
        boxes = np.ascontiguousarray(found[:, :4])
        if frame.shape[:2] != (height, width):
            whole = np.array((width, height, width, height), np.float32)
            boxes = np.minimum(boxes * (whole / np.array(frame.shape[1::-1] * 2, np.float32)), whole)
        return Detections(boxes, np.ascontiguousarray(found[:, 4]))

    def _fitted(self, frame: Frame) -> Frame:
        """The frame in one piece and in the size that the network looks at."""
        if not frame.flags.c_contiguous:
            if self._buffer.shape != frame.shape:
                self._buffer = np.empty(frame.shape, np.uint8)
            np.copyto(self._buffer, frame)
            frame = self._buffer
        inner = None if self._size is None else letterboxed(frame.shape[1], frame.shape[0], self._size)
        if inner is None or inner == frame.shape[1::-1]:
            return frame
        if self._small.shape[1::-1] != inner:
            self._small = np.empty((inner[1], inner[0], 3), np.uint8)
        cv2.resize(frame, inner, dst=self._small, interpolation=cv2.INTER_LINEAR)
        return self._small

    def wipe(self) -> None:
        """Overwrite what the buffers hold of the last frame."""
        self._buffer.fill(0)
        self._small.fill(0)


def letterboxed(width: int, height: int, size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of a frame that is resized to fit into ``size`` and keeps its shape.

    In float32 and rounded to even, as the graphs of :mod:`models.stages` compute it: what has this size they take as it
    is.
    """
    sides, frame = np.array(size, np.float32), np.array((width, height), np.float32)
    inner = np.clip(np.round(frame * (sides / frame).min()), 1, sides)
    return int(inner[0]), int(inner[1])


def resolve(model: str | Path | None, mode: Mode) -> ResolvedModel:
    """The model's file by name, path or, for None, the default of the mode.

    Raises:
        DetectorError: see there.
    """
    registry = _models.load("registry")
    try:
        return registry.resolve(None if model is None else str(model), mode)  # type: ignore[no-any-return]
    except registry.ModelError as error:
        raise DetectorError(str(error)) from error


def open_model(
    resolved: ResolvedModel,
    threads: int | None = None,
    cache: Path | None = None,
) -> tuple[OnnxDetector, ResolvedModel]:
    """Open a model in the precision that is best on this CPU.

    Args:
        resolved: from :func:`resolve`.
        threads: see :class:`OnnxDetector`.
        cache: file in which self-tests are remembered; default: beside the models.

    Returns:
        The detector and the model it runs, one of ``resolved`` and its alternatives.
    """
    chosen = choose_precision([resolved, *resolved.alternatives], threads, cache)
    return OnnxDetector(chosen.path, threads, chosen.name, chosen.input_size), chosen


def choose_precision(
    candidates: Sequence[ResolvedModel],
    threads: int | None = None,
    cache: Path | None = None,
    measure: Callable[[Path, int, tuple[int, int]], float] | None = None,
) -> ResolvedModel:
    """The fastest of the candidates on this CPU; fp32 unless another is clearly faster.

    The answer is remembered by CPU model, ONNX Runtime version, thread count and the files' sha256. A cache that cannot
    be read or written costs a self-test at the next start and nothing else.
    """
    if len(candidates) == 1:
        return candidates[0]
    threads = threads or usable_cpus()
    digests = [_sha256(c.path) for c in candidates]
    key = " | ".join((cpu_model(), ort.__version__, f"{threads} threads", *digests))
    cache = cache or cache_file()
    known = _read_cache(cache)
    for candidate, digest in zip(candidates, digests, strict=True):
        if known.get(key) == digest:
            return candidate
    times = [(measure or _milliseconds)(c.path, threads, c.input_size) for c in candidates]
    plain = next((i for i, c in enumerate(candidates) if c.precision == "fp32"), 0)
    best = min(range(len(candidates)), key=times.__getitem__)
    if times[best] >= WORTH * times[plain]:
        best = plain
    log.info(
        "self-test: %s; using %s",
        ", ".join(f"{c.precision} {ms:.1f} ms" for c, ms in zip(candidates, times, strict=True)),
        candidates[best].precision,
    )
    _write_cache(cache, {**known, key: digests[best]})
    return candidates[best]


def usable_cpus() -> int:
    """CPUs that this process may use, at most 4: small networks do not gain from more."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        count = os.cpu_count() or 1
    return max(1, min(count, 4))


def cpu_model() -> str:
    """The CPU's name, by which self-tests are remembered."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith(("model name", "Model", "CPU part")):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def cache_file() -> Path:
    """Where self-tests are remembered: ``$HEADROOM_CACHE`` or ``~/.cache/headroom``."""
    named = os.environ.get("HEADROOM_CACHE")
    base = Path(named).expanduser() if named else None
    if base is None:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headroom"
    return base / "selftest.json"


def _session(path: Path, threads: int) -> Any:
    if not path.is_file():
        raise DetectorError(f"{path}: there is no such file")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises a dozen unrelated classes for a damaged file
        raise DetectorError(f"{path}: not a model that ONNX Runtime can run: {_first_line(error)}") from error


def _milliseconds(path: Path, threads: int, size: tuple[int, int]) -> float:
    """Median time of an inference on noise of the network's own size."""
    detector = OnnxDetector(path, threads)
    frame = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    times = []
    for _ in range(_ROUNDS):
        begin = time.perf_counter()
        detector.detect(frame)
        times.append(time.perf_counter() - begin)
    return statistics.median(times[2:]) * 1e3


def _read_cache(path: Path) -> dict[str, str]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(k): str(v) for k, v in data.items()} if isinstance(data, dict) else {}


def _write_cache(path: Path, data: dict[str, str]) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(data, indent=1), encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        log.info("the self-test cannot be remembered in %s: %s", path, error.strerror)


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DetectorError(f"{path}: cannot be read: {error.strerror}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
