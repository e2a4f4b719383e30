"""``headroom bench`` as a researcher meets it: datasets, results, and what is said when something is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper

from counter.bench.cli import bench
from counter.bench.dataset import DatasetError, load_dataset
from counter.interop import MotRow, SequenceInfo, write_mot, write_seqinfo
from counter.types import Direction
from models.optimise import Recipe, optimise

SIZE, FRAMES, FPS = (160, 96), 30, 10.0
STEP = 4


@pytest.fixture(scope="module")
def bright_spot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector of one white person on black: a fixed box around the brightest column."""
    folder = tmp_path_factory.mktemp("model")
    width = 24.0
    nodes = [
        helper.make_node("ReduceMax", ["image"], ["columns"], axes=[0, 1, 2], keepdims=0),
        helper.make_node("ArgMax", ["columns"], ["left"], axis=0, keepdims=1),
        helper.make_node("Cast", ["left"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["x", "along"], ["moved"]),
        helper.make_node("Add", ["moved", "base"], ["flat"]),
        helper.make_node("Reshape", ["flat", "as_boxes"], ["boxes"]),
        helper.make_node("ReduceMax", ["columns"], ["peak"], keepdims=1),
        helper.make_node("Reshape", ["peak", "as_scores"], ["scores"]),
    ]
    weights = [
        numpy_helper.from_array(np.array([1, 0, 1, 0], np.float32), "along"),
        numpy_helper.from_array(np.array([0, 20, width, 80], np.float32), "base"),
        numpy_helper.from_array(np.array([1, 1, 4]), "as_boxes"),
        numpy_helper.from_array(np.array([1, 1]), "as_scores"),
    ]
    graph = helper.make_graph(
        nodes, "spot", [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 96, 160])],
        [helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, 1, 4]),
         helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 1])], weights,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    source = folder / "spot.onnx"
    onnx.save(model, str(source))
    recipe = Recipe(std=(300.0, 300.0, 300.0), threshold=0.5)
    return optimise(source, folder / "people.onnx", size=SIZE, recipe=recipe).path


@pytest.fixture(scope="module")
def sequence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MOTChallenge sequence: one white person walks to the right, four pixels a frame."""
    folder = tmp_path_factory.mktemp("data") / "WALK-01"
    write_seqinfo(folder, SequenceInfo("WALK-01", FPS, FRAMES, *SIZE, image_suffix=".png"))
    (folder / "img1").mkdir()
    (folder / "gt").mkdir()
    rows = []
    for k in range(FRAMES):
        frame = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
        frame[20:80, 10 + STEP * k : 34 + STEP * k] = 255
        cv2.imwrite(str(folder / "img1" / f"{k + 1:06d}.png"), frame)
        rows.append(MotRow(k + 1, 1, 10 + STEP * k, 20, 24, 60, 1.0, 1, 1.0))
        rows.append(MotRow(k + 1, 2, 0, 0, 9, 9, 0.0, 1, 1.0))  # marked: not to be evaluated
        rows.append(MotRow(k + 1, 3, 50, 50, 9, 9, 1.0, 3, 1.0))  # a car
    write_mot(folder / "gt" / "gt.txt", rows)
    return folder


@pytest.fixture(scope="module")
def manifest(sequence: Path) -> Path:
    """The same pictures with a line in the middle."""
    path = sequence.parent / "walk.toml"
    # The middle of the person is at 22 + 4 k: on the line x = 80 in frame 14.5.
    path.write_text(
        """
        [[clips]]
        name = "walk"
        source = "WALK-01"
        fps = 10
        present = [[0, 29, 1]]
        lines = [{ name = "middle", start = [0.5, 1.0], end = [0.5, 0.0] }]
        events = [{ line = "middle", direction = "entered", frame = 14 }]
        """,
        encoding="utf-8",
    )
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(bench, [str(a) for a in arguments])


def test_a_sequence_of_the_challenge_is_scored(sequence: Path, bright_spot: Path) -> None:
    result = run(sequence, "--model", bright_spot, "--json", "--threads", 1)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    (score,) = document["scores"]
    assert score["frames"] == FRAMES
    assert score["tracking"]["hota"] > 0.9
    assert score["tracking"]["switches"] == 0
    assert score["presence"]["within_one"] == 1.0
    assert score["presence"]["exact"] > 0.8
    assert set(score["stage_ms"]) >= {"decode", "detect", "track", "count"}
    assert document["systems"] == [f"{bright_spot}+headroom"]


def test_a_manifest_scores_events_and_writes_a_page(manifest: Path, bright_spot: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    compared = f"{bright_spot}+headroom-noskip"
    result = run(manifest, "--model", bright_spot, "--compare", compared, "--interval", 1, "--html", page, "--json")
    assert result.exit_code == 0, result.output
    for score in json.loads(result.stdout)["scores"]:
        assert score["events"] == {"hits": 1, "invented": 0, "missed": 0, "precision": 1.0, "recall": 1.0}
        assert score["event_totals"]["absolute_error"] == 0
        assert score["interval_events"]["n"] == 3
        assert score["interval_events"]["wape"] == 0
    text = page.read_text(encoding="utf-8")
    assert "Plotly.newPlot" in text
    assert "People present: walk" in text
    assert 'src="http' not in text, "the page works without a network"
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_the_table_is_whole_in_a_pipe(manifest: Path, bright_spot: Path) -> None:
    result = run(manifest, "--model", bright_spot)
    assert result.exit_code == 0, result.output
    for heading in ("exact", "within 1", "events P", "frames/s", "MiB"):
        assert heading in result.stdout


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("clips = []", "clips: Tuple should have at least 1 item"),
        ("[[clips]]\nsource = 'x.mp4'", "there is no"),
        ("[[clips]]\nsource = '$NO_SUCH_PLACE/x.mp4'", "environment variable NO_SUCH_PLACE is not set"),
        ("[[clips]]\nsource = 'a'\nspeed = 3", r"clips\.0\.speed"),
        ("[[clips]]\nsource = 'a'\nevents = [{line = 'door', direction = 'left'}]", "names the line 'door'"),
        ("[[clips]]\nsource = 'a'\npresent = [[9, 3, 1]]", "lies before the first"),
        ("[[clips]]\nsource = 'a'\nzone = 'hall'", "none of the clip's zones"),
        ("clips = [", "not valid TOML"),
    ],
)
def test_a_wrong_manifest_names_the_field(text: str, match: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError, match=match):
        load_dataset(path)
    result = run(path)
    assert result.exit_code == 2
    assert "wrong.toml" in result.output


def test_a_manifest_may_be_json_and_leave_stretches_open(sequence: Path) -> None:
    path = sequence.parent / "walk.json"
    line = {"name": "door", "start": [0.5, 0], "end": [0.5, 1]}
    events = [{"line": "door", "direction": "left", "count": 3}, {"line": "door", "direction": "left", "t": 1.5}]
    clip = {"source": "WALK-01", "present": [[2, 5, 2]], "unknown": [[4, 4]], "lines": [line], "events": events}
    path.write_text(json.dumps({"clips": [clip]}), encoding="utf-8")
    (loaded,) = load_dataset(path)
    assert loaded.truth.presence(8).tolist() == [0, 0, 2, 2, -1, 2, 0, 0]
    assert loaded.truth.totals == {("door", Direction.LEFT): 4}
    assert [e.t for e in loaded.truth.timed_events(np.arange(8.0))] == [1.5]


@pytest.mark.parametrize(
    ("arguments", "code", "match"),
    [
        (["/no/such/place"], 2, "there is no such file or folder"),
        (["."], 2, "neither a MOTChallenge sequence"),
        (["{m}", "--model", "yolo99"], 2, "not known"),
        (["{m}", "--compare", "x+sort"], 2, "tracker 'sort' is not known"),
        (["{m}", "--compare", "+bytetrack", "--peers", "/none"], 2, "make bench"),
        (["{m}", "--compare", "+headroom"], 2, "named twice"),
        (["{m}", "--clip", "run"], 2, "no clip of the dataset; it has walk"),
        (["{m}", "--html", "/no/such/folder/r.html"], 2, "cannot be written"),
        (["{m}", "--interval", "0"], 2, "not in the range"),
    ],
)
def test_wrong_use_is_explained(
    arguments: list[str], code: int, match: str, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*(text.replace("{m}", str(manifest)) for text in arguments))
    assert result.exit_code == code, result.output
    assert match in " ".join(result.output.split())


def test_a_sequence_without_truth_is_refused(sequence: Path, tmp_path: Path) -> None:
    write_seqinfo(tmp_path, SequenceInfo("EMPTY", FPS, 1, *SIZE))
    result = run(tmp_path)
    assert result.exit_code == 2
    assert "gt.txt" in result.output


@pytest.mark.footage
def test_the_truth_of_the_footage_fits_the_footage(data_folder: Path) -> None:
    truth = json.loads((data_folder / "truth.json").read_text(encoding="utf-8"))
    clips = load_dataset(Path(__file__).parents[1] / "bench" / "data" / "footage.toml")
    assert {Path(clip.source).name for clip in clips} == set(truth)
    for clip in clips:
        facts = truth[Path(clip.source).name]
        people = clip.truth.presence(facts["frames"])
        assert people.max() == facts["max_present"]
        for first, last, count in facts.get("present", []):
            assert (people[first : last + 1] == count).all(), clip.name
