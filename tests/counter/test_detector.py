"""The detector: tiny real ONNX files, damaged ones, and the self-test that chooses the precision."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from counter import DetectorError, PeopleCounter
from counter.boxes import iou
from counter.detector import Mode, OnnxDetector, choose_precision, letterboxed, resolve


def tiny_model(path: Path, elem: int = TensorProto.UINT8, columns: int = 6, batched: bool = True) -> Path:
    """A graph that finds one box at 10, 20, 40, 90 with the score 0.75 whatever it is shown."""
    shape: list[Any] = ["h", "w", 3]
    box = helper.make_tensor("box", TensorProto.FLOAT, [1, columns], [10, 20, 40, 90, 0.75, 0][:columns])
    nodes = [
        helper.make_node("Shape", ["frame"], ["shape"]),
        helper.make_node("Cast", ["shape"], ["size"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["size"], ["largest"], keepdims=0),
        helper.make_node("Mul", ["largest", "zero"], ["nothing"]),
        helper.make_node("Add", ["box", "nothing"], ["detections"]),
    ]
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0])
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("frame", elem, [1, *shape] if batched else shape)],
        [helper.make_tensor_value_info("detections", TensorProto.FLOAT, ["n", columns])],
        [box, zero],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@pytest.mark.parametrize("batched", [True, False])
def test_frames_of_any_size_and_memory_layout(tmp_path: Path, batched: bool) -> None:
    detector = OnnxDetector(tiny_model(tmp_path / "m.onnx", batched=batched), threads=1)
    frame = np.zeros((50, 80, 3), np.uint8)
    for view in (frame, frame[:, ::-1], frame[::2], np.zeros((31, 17, 3), np.uint8)):
        found = detector.detect(view)
        assert found.boxes.tolist() == [[10, 20, 40, 90]]
        assert found.scores.tolist() == [0.75]


def test_one_buffer_serves_all_frames_that_need_it(tmp_path: Path) -> None:
    detector = OnnxDetector(tiny_model(tmp_path / "m.onnx"), threads=1)
    frame = np.full((50, 80, 3), 9, np.uint8)
    detector.detect(frame[:, ::-1])
    buffer = detector._buffer
    detector.detect(frame[:, ::-1])
    assert detector._buffer is buffer
    detector.wipe()
    assert not detector._buffer.any()


def test_boxes_of_a_resized_frame_come_back_in_its_pixels(tmp_path: Path) -> None:
    detector = OnnxDetector(tiny_model(tmp_path / "m.onnx"), threads=1, size=(80, 100))
    for frame, box in (
        (np.zeros((100, 80, 3), np.uint8), [10, 20, 40, 90]),  # fits
        (np.zeros((300, 160, 3), np.uint8), [30.2, 60, 120.8, 270]),  # height decides: 53 x 100
        (np.zeros((50, 160, 3), np.uint8)[:, ::-1], [20, 40, 80, 50]),  # width decides: 80 x 25; clipped
    ):
        assert detector.detect(frame).boxes[0].tolist() == pytest.approx(box, abs=0.1)
    detector.wipe()
    assert not detector._small.any()


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 9000), st.integers(1, 9000), st.sampled_from([(416, 256), (960, 544), (416, 416)]))
def test_what_is_letterboxed_once_fits(width: int, height: int, size: tuple[int, int]) -> None:
    inner = letterboxed(width, height, size)
    assert letterboxed(*inner, size) == inner or min(inner) == 1  # slivers of a pixel lose their shape
    assert inner[0] <= size[0] and inner[1] <= size[1]
    assert inner[0] == size[0] or inner[1] == size[1]


@pytest.mark.footage
@pytest.mark.parametrize("mode", ["door", "room"])
def test_resizing_before_the_graph_finds_what_the_graph_finds(data_folder: Path, mode: Mode) -> None:
    model = resolve(None, mode)
    outside = OnnxDetector(model.path, threads=1, size=model.input_size)
    inside = OnnxDetector(model.path, threads=1)
    ok, frame = cv2.VideoCapture(str(data_folder / "footage/classroom.gif")).read()
    assert ok
    for picture in (frame, cv2.resize(frame, (1920, 1080))):
        a, b = outside.detect(picture), inside.detect(picture)
        strong = b.scores > 0.3
        assert strong.sum() >= 3
        same = iou(b.boxes[strong].astype(float), a.boxes.astype(float)).argmax(axis=1)  # equal scores change places
        assert len(set(same.tolist())) == strong.sum()
        assert np.abs(a.scores[same] - b.scores[strong]).max() < 0.03
        assert np.abs(a.boxes[same] - b.boxes[strong]).max() < 0.01 * picture.shape[1]


@pytest.mark.parametrize("content", [b"", b"not a model", "cut"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes | str) -> None:
    path = tiny_model(tmp_path / "broken.onnx")
    path.write_bytes(path.read_bytes()[:60] if isinstance(content, str) else content)
    with pytest.raises(DetectorError, match=r"broken\.onnx"):
        OnnxDetector(path)


def test_a_network_that_takes_floats_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DetectorError, match="headroom models optimise"):
        OnnxDetector(tiny_model(tmp_path / "raw.onnx", TensorProto.FLOAT))


def test_missing_and_unknown_models_are_named(tmp_path: Path) -> None:
    with pytest.raises(DetectorError, match=r"nowhere\.onnx"):
        OnnxDetector(tmp_path / "nowhere.onnx")
    with pytest.raises(DetectorError, match="no-such-model"):
        resolve("no-such-model", "door")
    with pytest.raises(DetectorError, match="no-such-model"):
        PeopleCounter("no-such-model")
    with pytest.raises(DetectorError, match=r"nowhere\.onnx"):
        PeopleCounter(tmp_path / "nowhere.onnx")


def test_frames_that_are_none_are_refused(tmp_path: Path) -> None:
    detector = OnnxDetector(tiny_model(tmp_path / "m.onnx"))
    with pytest.raises(ValueError, match="uint8"):
        detector.detect(np.zeros((4, 4, 3), np.float32))  # type: ignore[arg-type]


def candidates(tmp_path: Path) -> list[Any]:
    paths = [tiny_model(tmp_path / name) for name in ("a.onnx", "b.onnx")]
    paths[1].write_bytes(paths[1].read_bytes() + b"")
    onnx.save(helper.make_model(onnx.load(paths[1]).graph, doc_string="int8"), paths[1])
    return [
        SimpleNamespace(path=p, precision=precision, input_size=(32, 32))
        for p, precision in zip(paths, ("fp32", "int8"), strict=True)
    ]


@pytest.mark.parametrize(("times", "chosen"), [((10.0, 6.0), "int8"), ((10.0, 9.8), "fp32"), ((10.0, 14.0), "fp32")])
def test_int8_is_used_where_it_is_clearly_faster(tmp_path: Path, times: tuple[float, float], chosen: str) -> None:
    models = candidates(tmp_path)
    speed = dict(zip([m.path for m in models], times, strict=True))
    found = choose_precision(models, 1, tmp_path / "cache.json", lambda path, *_: speed[path])
    assert found.precision == chosen


def test_the_self_test_runs_once_and_again_for_another_file(tmp_path: Path) -> None:
    models, cache, calls = candidates(tmp_path), tmp_path / "deep" / "cache.json", []

    def measure(path: Path, *_: object) -> float:
        calls.append(path)
        return 10.0 if path.name == "a.onnx" else 5.0

    for _ in range(3):
        assert choose_precision(models, 1, cache, measure).precision == "int8"
    assert len(calls) == 2
    choose_precision(models, 2, cache, measure)  # other threads, other answer
    onnx.save(helper.make_model(onnx.load(models[0].path).graph, doc_string="new"), models[0].path)
    choose_precision(models, 1, cache, measure)
    assert len(calls) == 6
    assert len(json.loads(cache.read_text())) == 3


def test_a_cache_that_is_broken_or_cannot_be_written_does_no_harm(tmp_path: Path) -> None:
    models = candidates(tmp_path)
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    for cache in (broken, tmp_path / "a.onnx" / "below-a-file.json"):
        assert choose_precision(models, 1, cache, lambda *_: 1.0).precision == "fp32"


def test_the_real_measurement_runs(tmp_path: Path) -> None:
    assert choose_precision(candidates(tmp_path), 1, tmp_path / "c.json").precision in {"fp32", "int8"}
