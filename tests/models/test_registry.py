"""Names, paths and what is said when a model cannot be had."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from models import registry as registry_module
from models.cli import models as command
from models.decoders import LAYOUTS, grid
from models.errors import ModelError
from models.graph import producers
from models.optimise import Recipe, optimise, session
from models.quantise import assess, last_convolutions, quantise
from models.registry import ModelEntry, Registry, cache_folder, pulled_path, registry, resolve


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADROOM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADROOM_DATA", raising=False)


def fake_detector(path: Path, outputs: dict[str, np.ndarray], size: tuple[int, int] = (64, 64)) -> Path:
    """A network whose outputs are these arrays, whatever it sees."""
    nodes = [helper.make_node("ReduceMean", ["image"], ["mean"], keepdims=0),
             helper.make_node("Mul", ["mean", "none"], ["zero"])]  # fmt: skip
    weights = [numpy_helper.from_array(np.float32(0), "none")]
    for name, value in outputs.items():
        weights.append(numpy_helper.from_array(value, f"{name}_value"))
        if value.dtype == np.float32:
            nodes.append(helper.make_node("Add", [f"{name}_value", "zero"], [name]))
        else:
            nodes.append(helper.make_node("Identity", [f"{name}_value"], [name]))
    kind = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int64): TensorProto.INT64}
    graph = helper.make_graph(
        nodes, "fake",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, size[1], size[0]])],
        [helper.make_tensor_value_info(name, kind[value.dtype], value.shape) for name, value in outputs.items()],
        weights,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, str(path))
    return path


def people_of(path: Path, layout: str, frame: tuple[int, int] = (64, 64)) -> np.ndarray:
    done = optimise(path, path.with_suffix(".out.onnx"), size=(64, 64))
    assert done.layout == layout
    rows: np.ndarray = session(done.path).run(None, {"frame": np.zeros((1, frame[1], frame[0], 3), np.uint8)})[0]
    return rows


def test_ready_boxes_are_scaled_back_clipped_and_suppressed(tmp_path: Path) -> None:
    boxes = np.array([[[8, 8, 24, 32], [9, 9, 24, 32], [40, 20, 90, 60], [10, 50, 20, 60], [1, 1, 5, 5]]], np.float32)
    scores = np.array([[0.9, 0.8, 0.7, 0.6, 0.05]], np.float32)
    path = fake_detector(tmp_path / "m.onnx", {"boxes": boxes, "scores": scores})
    # A frame of 256x128 is shown at 64x32: factor 4, and the box at y 50 to 60 lies in the padding.
    rows = people_of(path, "boxes-scores", (256, 128))
    np.testing.assert_allclose(rows, [[32, 32, 96, 128, 0.9, 0], [160, 80, 256, 128, 0.7, 0]], rtol=1e-6)


@pytest.mark.parametrize("score", [0.0, 0.099, np.nan])
def test_nobody_is_an_empty_table(tmp_path: Path, score: float) -> None:
    boxes, scores = np.tile(np.array([0, 0, 9, 9], np.float32), (1, 7, 1)), np.full((1, 7), score, np.float32)
    path = fake_detector(tmp_path / "m.onnx", {"boxes": boxes, "scores": scores})
    assert people_of(path, "boxes-scores").shape == (0, 6)


def test_a_frame_full_of_candidates_is_bounded(tmp_path: Path) -> None:
    corners = np.random.default_rng(0).uniform(0, 60, (5000, 2)).astype(np.float32)
    boxes = np.concatenate([corners, corners + 3], axis=1)[None]
    path = fake_detector(tmp_path / "m.onnx", {"boxes": boxes, "scores": np.full((1, 5000), 0.8, np.float32)})
    assert len(people_of(path, "boxes-scores")) == 200


def test_dets_and_labels_keep_persons_only(tmp_path: Path) -> None:
    dets = np.array([[[1, 1, 20, 20, 0.9], [30, 30, 60, 60, 0.8]]], np.float32)
    path = fake_detector(tmp_path / "m.onnx", {"dets": dets, "labels": np.array([[3, 0]])})
    np.testing.assert_allclose(people_of(path, "dets-labels"), [[30, 30, 60, 60, 0.8, 0]], rtol=1e-6)


def test_columns_of_centre_and_size(tmp_path: Path) -> None:
    output = np.zeros((1, 7, 84), np.float32)
    output[0, :, 5] = [20, 30, 10, 20, 0.7, 0.1, 0.0]
    rows = people_of(fake_detector(tmp_path / "m.onnx", {"output": output}), "yolo-columns")
    np.testing.assert_allclose(rows, [[15, 20, 25, 40, 0.7, 0]], rtol=1e-6)


def test_nanodet_plus_in_one_output(tmp_path: Path) -> None:
    cells, _ = grid((64, 64), (8, 16, 32, 64))
    output = np.zeros((1, len(cells), 80 + 32), np.float32)
    row = 64 + 5  # stride 16, column 1, row 1
    output[0, row, 0] = 0.8
    logits = np.full((4, 8), -50, np.float32)
    logits[[0, 1, 2, 3], [1, 0, 2, 1]] = 50
    output[0, row, 80:] = logits.ravel()
    rows = people_of(fake_detector(tmp_path / "m.onnx", {"output": output}), "nanodet-plus")
    np.testing.assert_allclose(rows, [[24 - 16, 24, 24 + 32, 24 + 16, 0.8, 0]], rtol=1e-5)


@pytest.mark.parametrize("frame", [(1, 1), (1, 4000), (4000, 1), (37, 501)])
def test_frames_of_every_shape_pass(tmp_path: Path, frame: tuple[int, int]) -> None:
    boxes, scores = np.array([[[0, 0, 64, 64]]], np.float32), np.array([[0.9]], np.float32)
    rows = people_of(fake_detector(tmp_path / "m.onnx", {"boxes": boxes, "scores": scores}), "boxes-scores", frame)
    assert rows.shape[1] == 6
    assert (rows[:, 2] <= frame[0]).all()
    assert (rows[:, 3] <= frame[1]).all()


def test_unknown_outputs_list_the_known_layouts(tmp_path: Path) -> None:
    path = fake_detector(tmp_path / "odd.onnx", {"heat": np.zeros((1, 1, 16, 16), np.float32)})
    with pytest.raises(ModelError, match=r"odd\.onnx: no known layout has the outputs heat"):
        resolve(str(path), "door")
    with pytest.raises(ModelError) as failure:
        resolve(str(path), "door")
    assert all(name in str(failure.value) for name in LAYOUTS)


@pytest.mark.parametrize("content", [b"", b"not a model", b"<html>404</html>" * 100])
def test_damaged_files_are_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"broken\.onnx: not an ONNX"):
        resolve(str(path), "door")


def test_a_model_cut_off_in_the_middle_is_refused(tmp_path: Path) -> None:
    whole = fake_detector(tmp_path / "m.onnx", {"boxes": np.zeros((1, 1, 4), np.float32),
                                                "scores": np.zeros((1, 1), np.float32)})  # fmt: skip
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(whole.read_bytes()[:-40])
    with pytest.raises(ModelError, match=r"cut\.onnx"):
        resolve(str(cut), "door")


@pytest.mark.usefixtures("no_data")
def test_what_is_missing_says_how_to_get_it() -> None:
    with pytest.raises(ModelError, match="headroom models pull yolox-nano"):
        resolve("yolox-nano", "door")
    with pytest.raises(ModelError, match=r"'yolo99' is not known\. Known models: .*rtmdet-nano"):
        resolve("yolo99", "door")
    with pytest.raises(ModelError, match="there is no such model file"):
        resolve("./none.onnx", "room")
    with pytest.raises(ModelError, match="it is door or room"):
        resolve("rtmdet-nano", "garden")  # type: ignore[arg-type]


@pytest.mark.usefixtures("no_data")
def test_a_changed_file_in_the_cache_is_refused() -> None:
    path = pulled_path("yolox-nano")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"something else")
    with pytest.raises(ModelError, match="fetch it again: headroom models pull yolox-nano"):
        resolve("yolox-nano", "door")


@pytest.mark.footage
def test_a_pulled_model_resolves_once_and_is_found_again(data_folder: Path) -> None:
    first = resolve("yolox-nano", "door")
    stamp = first.path.stat().st_mtime_ns
    assert resolve("yolox-nano", "door") == first
    assert first.path.stat().st_mtime_ns == stamp
    assert first.input_size == (416, 256)
    assert resolve("yolox-nano", "room").input_size == (960, 544)
    first.path.write_bytes(b"damaged")
    assert resolve("yolox-nano", "door") == first
    assert resolve(str(first.path), "door") == first


def test_every_entry_of_the_registry_is_complete() -> None:
    for name, entry in registry().models.items():
        assert entry.ships or str(entry.url).startswith("https://"), name
        assert entry.licence == "Apache-2.0", name
        assert set(entry.thresholds) == {"door", "room"}, name


@pytest.mark.parametrize(
    ("change", "match"),
    [({"sha256": None}, "url, bytes and sha256"), ({"layout": "magic"}, "magic"), ({"speed": 3}, "speed"),
     ({"ships": True}, "weights"), ({"thresholds": {"door": 2.0}}, "less than 1")],
)  # fmt: skip
def test_a_wrong_registry_is_refused(change: dict[str, object], match: str) -> None:
    good = registry().models["yolox-nano"].model_dump()
    with pytest.raises(ValueError, match=match):
        ModelEntry.model_validate(good | change)


def test_the_defaults_of_a_registry_exist() -> None:
    with pytest.raises(ValueError, match=r"defaults\.door"):
        Registry.model_validate({"defaults": {"door": "x", "room": "x"}, "models": {}})


def test_a_model_that_ships_is_served_from_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = fake_detector(tmp_path / "own.onnx", {"boxes": np.zeros((1, 1, 4), np.float32),
                                                   "scores": np.zeros((1, 1), np.float32)})  # fmt: skip
    weights = tmp_path / "weights"
    optimise(source, weights / "own.onnx", size=(64, 64), recipe=Recipe(threshold=0.37),
             properties={"headroom.model": "own"})  # fmt: skip
    entry = ModelEntry(title="own", licence="Apache-2.0", origin="here", ships=True,
                       weights=dict.fromkeys(("door", "room"), "own.onnx"),
                       thresholds=dict.fromkeys(("door", "room"), 0.37))  # fmt: skip
    book = Registry(defaults={"door": "own", "room": "own"}, models={"own": entry})
    monkeypatch.setattr(registry_module, "WEIGHTS", weights)
    monkeypatch.setattr(registry_module, "registry", lambda: book)
    found = resolve(None, "room")
    assert (found.name, found.threshold, found.path) == ("own", 0.37, weights / "own.onnx")


# --- int8 -----------------------------------------------------------------------------------------------------------


def convolutions(path: Path) -> Path:
    """Three convolutions with ReLU and a head: enough to quantise."""
    rng = np.random.default_rng(3)
    weights, nodes, last, channels = [], [], "image", 3
    for i in range(3):
        weights.append(numpy_helper.from_array(rng.normal(0, 0.3, (8, channels, 3, 3)).astype(np.float32), f"w{i}"))
        nodes.append(helper.make_node("Conv", [last, f"w{i}"], [f"c{i}"], name=f"conv{i}", pads=[1, 1, 1, 1],
                                      strides=[2, 2]))  # fmt: skip
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"r{i}"]))
        last, channels = f"r{i}", 8
    weights.append(numpy_helper.from_array(rng.normal(0, 0.1, (6, 8, 1, 1)).astype(np.float32), "head"))
    weights.append(numpy_helper.from_array(np.array([1, 6, -1]), "shape"))
    nodes += [helper.make_node("Conv", [last, "head"], ["h"], name="head"),
              helper.make_node("Reshape", ["h", "shape"], ["flat"]),
              helper.make_node("Transpose", ["flat"], ["rows"], perm=[0, 2, 1])]  # fmt: skip
    strides = np.zeros((1, 20, 6), np.float32)
    weights.append(numpy_helper.from_array(strides, "more"))
    nodes.append(helper.make_node("Concat", ["rows", "more"], ["output"], axis=1))
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 64, 64])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 84, 6])], weights,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, str(path))
    return path


def twins(folder: Path, source: Path, recipe: Recipe) -> tuple[Path, Path, list[np.ndarray]]:
    """fp32 and int8, calibrated on the first eight of sixteen pictures."""
    fp32 = optimise(source, folder / "fp32.onnx", size=(64, 64), recipe=recipe).path
    rng = np.random.default_rng(1)
    frames = [rng.integers(0, 255, (48, 64, 3)).astype(np.uint8) for _ in range(16)]
    return fp32, quantise(fp32, folder / "int8.onnx", frames[:8]), frames


def value_of(path: Path, tensor: str, frame: np.ndarray) -> np.ndarray:
    """What a tensor inside of a file holds."""
    model = onnx.load(str(path))
    model.graph.output.append(helper.make_empty_tensor_value_info(tensor))
    value: np.ndarray = session(model).run([tensor], {"frame": frame[None]})[0]
    return value


def chain(graph: onnx.GraphProto, name: str) -> list[str]:
    """The operators on the way back from a tensor to the frame, by first inputs."""
    made_by, kinds = producers(graph), []
    while name in made_by:
        kinds.append(made_by[name].op_type)
        name = made_by[name].input[0]
    return kinds


@pytest.mark.parametrize(("mean", "as_they_are"), [((114.0,) * 3, True), ((0.0,) * 3, True), ((1.0, 2.0, 3.0), False),
                                                   ((0.5,) * 3, False)])  # fmt: skip
def test_the_first_convolution_of_int8_reads_pixels(tmp_path: Path, mean: tuple[float, ...], as_they_are: bool) -> None:
    """A whole number for all channels becomes the zero point of pixels; any other mean goes through float."""
    recipe = Recipe(mean=(mean[0], mean[1], mean[2]), std=(58.0,) * 3, threshold=0.2)
    fp32, int8, frames = twins(tmp_path, convolutions(tmp_path / "net.onnx"), recipe)
    graph = onnx.load(str(int8)).graph
    first = next(node for node in graph.node if node.name == "conv0")
    kinds = chain(graph, first.input[0])
    assert ("Cast" not in kinds) == as_they_are
    assert ("QuantizeLinear" not in kinds) == as_they_are
    a, b = (value_of(path, "r0", frames[8]).clip(0) for path in (fp32, int8))  # int8 needs no Relu: below 0 is 0
    assert np.abs(a - b).max() < 0.02 * a.max()


def residual(path: Path) -> Path:
    """:func:`convolutions` with a way around the third one and a doubling behind it."""
    model = onnx.load(str(convolutions(path)))
    graph = model.graph
    third = next(node for node in graph.node if node.name == "conv2")
    third.CopyFrom(helper.make_node("Conv", ["r1", "w2"], ["c2"], name="conv2", pads=[1, 1, 1, 1]))
    relu = next(node for node in graph.node if node.output[0] == "r2")
    relu.CopyFrom(helper.make_node("Relu", ["sum"], ["r2"], name="after"))
    head = next(node for node in graph.node if node.name == "head")
    head.input[0] = "r4"
    at = list(graph.node).index(head)
    nodes = list(graph.node)
    nodes[at:at] = [
        helper.make_node("Resize", ["r2", "", "twice"], ["r3"], name="double", mode="nearest"),
        helper.make_node("Conv", ["r3", "w3"], ["c4"], name="conv3", pads=[1, 1, 1, 1], strides=[4, 4]),
        helper.make_node("Relu", ["c4"], ["r4"]),
    ]
    nodes.insert(nodes.index(relu), helper.make_node("Add", ["r1", "c2"], ["sum"], name="around"))
    graph.ClearField("node")
    graph.node.extend(nodes)
    rng = np.random.default_rng(4)
    graph.initializer.extend(
        [numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "twice"),
         numpy_helper.from_array(rng.normal(0, 0.3, (8, 8, 3, 3)).astype(np.float32), "w3")]
    )  # fmt: skip
    onnx.save(model, str(path))
    return path


def test_between_int8_convolutions_nothing_goes_back_to_float(tmp_path: Path) -> None:
    fp32, int8, frames = twins(tmp_path, residual(tmp_path / "net.onnx"), Recipe(mean=(114.0,) * 3, threshold=0.2))
    graph = onnx.load(str(int8)).graph
    made_by = producers(graph)
    for name in ("around", "double"):
        node = next(node for node in graph.node if node.name == name)
        data = node.input[:1] if name == "double" else node.input
        assert all(made_by[value].op_type == "DequantizeLinear" for value in data)
    a, b = (value_of(path, "r4", frames[8]) for path in (fp32, int8))
    assert np.abs(a - b).max() < 0.1 * a.max()


def test_int8_weights_cannot_overflow_in_pairs(tmp_path: Path) -> None:
    """Without VNNI two products of unsigned activations and weights are added in 16 signed bits."""
    _, int8, _ = twins(tmp_path, convolutions(tmp_path / "net.onnx"), Recipe(mean=(114.0,) * 3))
    graph = onnx.load(str(int8)).graph
    weights = [
        numpy_helper.to_array(t) for t in graph.initializer if t.data_type == TensorProto.INT8 and len(t.dims) > 1
    ]
    assert len(weights) == 3
    assert all(2 * 255 * np.abs(w.astype(int)).max() < 2**15 for w in weights)


def test_the_int8_twin_keeps_its_head_in_floating_point(tmp_path: Path) -> None:
    recipe = Recipe(std=(255.0, 255.0, 255.0), threshold=0.2)
    fp32, int8, frames = twins(tmp_path, convolutions(tmp_path / "net.onnx"), recipe)
    graph = onnx.load(str(int8)).graph
    made_by = {output: node.op_type for node in graph.node for output in node.output}
    fed_by = {node.name: made_by.get(node.input[0]) for node in graph.node if node.op_type == "Conv"}
    assert sum(kind == "DequantizeLinear" for kind in fed_by.values()) == 3
    assert fed_by[last_convolutions(onnx.load(str(fp32)).graph)[0]] != "DequantizeLinear"
    verdict = assess(fp32, int8, frames[8:], rounds=4)
    assert verdict.people > 0
    assert verdict.recall > 0.5
    with pytest.raises(ModelError, match="too few"):
        quantise(fp32, tmp_path / "no.onnx", frames[:3])
    with pytest.raises(ModelError, match="not an optimised fp32 model"):
        quantise(int8, tmp_path / "no.onnx", frames)


# --- the command line -----------------------------------------------------------------------------------------------


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(command, list(arguments))
    return result.exit_code, result.stdout, result.stderr


def test_list_and_info_give_json_alone() -> None:
    code, out, _ = run("list", "--json")
    assert code == 0
    assert {row["name"] for row in json.loads(out)["models"]} == set(registry().models)
    code, out, _ = run("info", "yolox-nano", "--json")
    assert code == 0
    assert json.loads(out)["sha256"] == registry().models["yolox-nano"].sha256


@pytest.mark.usefixtures("no_data")
@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [(["info", "nope"], 2, "not known"), (["pull", "nope"], 2, "not known"), (["pull"], 2, "Missing argument"),
     (["optimise", "./none.onnx"], 2, "no such"), (["optimise", "yolox-nano"], 1, "headroom models pull"),
     (["optimise", "yolox-nano", "--int8"], 2, "--pictures"),
     (["optimise", "x", "--size", "9x9"], 2, "multiples of 32"),
     (["verify", "yolox-nano"], 1, "headroom models pull")],
)  # fmt: skip
def test_wrong_use_is_explained(arguments: list[str], code: int, text: str) -> None:
    got, out, err = run(*arguments)
    assert got == code
    assert text in out + err


@pytest.mark.footage
def test_a_stand_in_is_said_to_be_one_and_verifies(data_folder: Path, tmp_path: Path) -> None:
    code, _, err = run("pull", "yolox-nano")
    assert code == 0
    assert "stands in for the download" in " ".join(err.split())
    assert not pulled_path("yolox-nano").exists()
    code, out, _ = run("verify", "yolox-nano", "--json")
    assert (code, json.loads(out)["ok"]) == (0, True)
    target = tmp_path / "mine.onnx"
    code, out, _ = run("optimise", str(data_folder / "teachers" / "yolox_nano_416.onnx"), "--out", str(target),
                       "--size", "320x192", "--threshold", "0.33")  # fmt: skip
    assert code == 0
    found = resolve(str(target), "door")
    assert (found.input_size, found.threshold, found.name) == ((320, 192), 0.33, "yolox-nano")
    assert cache_folder() == tmp_path / "cache" / "models"
