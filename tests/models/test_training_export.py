"""The exported graph says what the network says; the network learns; the shipped files work."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort
import pytest

from models.errors import ModelError
from models.optimise import session
from models.registry import Mode, registry, resolve
from models.training import export

WEIGHTS = Path(export.__file__).parents[1] / "weights"
CLIPS = Path(__file__).parents[1] / "clips"


def _random_state(widths: tuple[int, ...] = (4, 4, 8, 8, 8), neck: int = 8, seed: int = 1) -> export.State:
    """Weights of a very small network with the names of ``net.Detector``, made without torch."""
    rng = np.random.default_rng(seed)
    state: export.State = {}

    def conv(name: str, a: int, b: int, k: int = 3) -> None:
        state[f"{name}.0.weight"] = rng.normal(0, (a * k * k) ** -0.5, (b, a, k, k)).astype(np.float32)
        state[f"{name}.1.weight"] = rng.uniform(0.5, 1.5, b).astype(np.float32)
        state[f"{name}.1.bias"] = rng.normal(0, 0.1, b).astype(np.float32)
        state[f"{name}.1.running_mean"] = rng.normal(0, 0.1, b).astype(np.float32)
        state[f"{name}.1.running_var"] = rng.uniform(0.5, 2, b).astype(np.float32)

    a, b, c, d, e = widths
    conv("stem.0", 3, a)
    conv("stem.1", a, b)
    for name, i, o in (("c3", b, c), ("c4", c, d), ("c5", d, e)):
        conv(f"{name}.0", i, o)
        conv(f"{name}.1.a", o, o)
        conv(f"{name}.1.b", o, o)
    conv("c5.2", e, e)
    for name, i in (("l3", c), ("l4", d), ("l5", e)):
        conv(name, i, neck, 1)
    for name in ("m4", "down3", "down4", "heads.0", "heads.1", "heads.2"):
        conv(name, neck, neck)
    for k in range(3):
        for head, outputs in (("score", 1), ("box", 4)):
            state[f"{head}.{k}.weight"] = rng.normal(0, 0.3, (outputs, neck, 1, 1)).astype(np.float32)
            state[f"{head}.{k}.bias"] = rng.normal(0, 0.3, outputs).astype(np.float32)
    return state


def test_one_graph_takes_any_size() -> None:
    model = export.network(_random_state())
    run = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for height, width in ((64, 96), (128, 32)):
        boxes, scores = run.run(["boxes", "scores"], {"image": np.zeros((1, 3, height, width), np.float32)})
        cells = height * width * (1 / 64 + 1 / 256 + 1 / 1024)
        assert boxes.shape == (1, cells, 4)
        assert scores.shape == (1, cells)
        assert (boxes[..., 2:] > boxes[..., :2]).all()
        # the first cell lies in the top left corner, the last in the bottom right one
        assert boxes[0, 0, 0] < 4 < boxes[0, 0, 2]
        assert boxes[0, -1, 2] > width - 16 > boxes[0, -1, 0]


def test_what_learned_from_the_teacher_does_not_ship(tmp_path: Path) -> None:
    state = _random_state()
    heads = {f"copies.{n}": v + 1 for n, v in state.items() if n.split(".")[0] in ("score", "box")}
    assert export.without_teacher(state | heads).keys() == state.keys()
    export.write_small(state | heads, tmp_path / "small.npz")  # but goes along for who trains on
    assert export.read_checkpoint(tmp_path / "small.npz").keys() == (state | heads).keys()


def test_small_checkpoints_come_back(tmp_path: Path) -> None:
    state = _random_state()
    export.write_small(state, tmp_path / "small.npz")
    back = export.read_checkpoint(tmp_path / "small.npz")
    assert back.keys() == state.keys()
    assert all(np.abs(back[n] - v).max() < 2e-3 for n, v in state.items())


def test_export_writes_both_modes_and_their_twins(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    frames = [rng.integers(0, 255, (90, 120, 3), np.uint8) for _ in range(8)]
    written = export.export(_random_state(), tmp_path, {"door": 0.4, "room": 0.35}, frames)
    assert set(written) == {"door", "room"}
    for files in written.values():
        for path in files.values():
            found = session(path).run(None, {"frame": frames[0][None]})[0]
            assert found.shape[1] == 6
            assert (found[:, 4] >= 0.1).all()
    assert not list(tmp_path.glob("*network*"))


def test_the_exported_graph_equals_the_network() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed (extra 'training')")
    from models.training.net import Detector, decode

    torch.manual_seed(1)
    net = Detector().eval()
    state = {name: value.numpy() for name, value in net.state_dict().items()}
    run = ort.InferenceSession(export.network(state).SerializeToString(), providers=["CPUExecutionProvider"])
    x = torch.randn(1, 3, 64, 96)
    boxes, scores = run.run(["boxes", "scores"], {"image": x.numpy()})
    with torch.no_grad():
        logits, expected, _, _ = decode(net(x))
    assert np.abs(boxes - expected.numpy()).max() < 1e-3
    assert np.abs(scores - logits.sigmoid().numpy()).max() < 1e-5


def test_the_network_is_small_enough() -> None:
    pytest.importorskip("torch", reason="torch is not installed (extra 'training')")
    from models.training.net import Detector, cost

    parameters, multiply_adds = cost(Detector())
    assert parameters < 1_500_000
    assert 0.3e9 <= 2 * multiply_adds <= 0.6e9


def test_the_loss_falls_to_a_fit_on_one_picture() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed (extra 'training')")
    from models.training.loss import detection_loss
    from models.training.net import Detector, Size, decode

    torch.manual_seed(1)
    torch.set_num_threads(1)
    net = Detector(Size((8, 8, 16, 16, 16), (1, 1, 1), 16))
    x = torch.zeros(2, 3, 96, 96)
    x[0, :, 20:80, 30:60] = 2.0
    people = [torch.tensor([[30.0, 20.0, 60.0, 80.0]]), torch.zeros(0, 4)]
    ignore = [torch.zeros(0, 4)] * 2
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(120):
        loss, _ = detection_loss(net(x), people, ignore)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        logits, boxes, _, _ = decode(net(x))
    best = int(logits[0].argmax())
    assert torch.allclose(boxes[0, best], people[0][0], atol=6)
    assert logits[0].max().sigmoid() > 0.5 > logits[1].max().sigmoid()


def _shipped() -> list[Path]:
    return sorted(WEIGHTS.glob("headroom-person-*.onnx"))


def _clip_frames(name: str, step: int) -> list[np.ndarray]:
    video, frames = cv2.VideoCapture(str(CLIPS / name)), []
    while True:
        ok, image = video.read()
        if not ok:
            return frames[::step]
        frames.append(image)


def test_shipped_files_are_small() -> None:
    assert len(_shipped()) == 4
    assert all(f.stat().st_size < 8 * 2**20 for f in _shipped())


@pytest.mark.parametrize("mode", ["door", "room"])
def test_int8_scores_have_not_collapsed(mode: str) -> None:
    """Score and box heads stay in floating point: the int8 twin must find what fp32 finds, about as surely."""
    plain, twin = (
        session(WEIGHTS / f"headroom-person-{mode}.onnx"),
        session(WEIGHTS / f"headroom-person-{mode}-int8.onnx"),
    )
    clip = "door-overhead-rendered.mp4" if mode == "door" else "meeting-room-rendered.mp4"
    differences, people = [], 0
    for image in _clip_frames(clip, 8):
        a, b = (s.run(None, {"frame": image[None]})[0] for s in (plain, twin))
        sure = a[a[:, 4] >= 0.3]
        people += len(sure)
        for box in sure:
            near = b[np.hypot(b[:, 0] - box[0], b[:, 1] - box[1]) < 12]
            differences.append(abs(float(box[4]) - (float(near[:, 4].max()) if len(near) else 0.0)))
    assert people > 5
    assert np.median(differences) < 0.1


@pytest.mark.parametrize("mode", ["door", "room"])
def test_the_default_counts_with_nothing_pulled(
    mode: Mode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("HEADROOM_DATA", raising=False)
    found = resolve(None, mode)
    assert found.name == registry().defaults[mode]
    assert found.path.parent == WEIGHTS
    with pytest.raises(ModelError, match="headroom models pull"):
        resolve("yolox-nano", mode)


def test_training_stops_and_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed (extra 'training')")
    import json

    from click.testing import CliRunner

    from models.training.data.shards import COLUMNS, Sample, write_shard
    from models.training.train import main

    row = np.zeros((1, len(COLUMNS)), np.float32)
    row[0, 1:5], row[0, 9] = (40, 30, 90, 140), 1.0
    (tmp_path / "shards").mkdir()
    write_shard(tmp_path / "shards" / "a.npz", [Sample(np.full((160, 256, 3), 90, np.uint8), row, "lobby")])
    common = [
        "--shards",
        str(tmp_path / "shards"),
        "--batch",
        "2",
        "--sizes",
        "small",
        "--threads",
        "1",
        "--save-every",
        "2",
    ]

    def run(out: str, *more: str) -> list[dict[str, object]]:
        result = CliRunner().invoke(main, [*common, "--out", str(tmp_path / out), *more], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return [json.loads(line) for line in (tmp_path / out / "log.jsonl").read_text().splitlines()]

    assert run("a", "--iterations", "2")[-1]["seen"] == 0
    log = run("a", "--iterations", "4")
    assert (log[-1]["start"], log[-1]["seen"]) == (2, 4)
    final = run("b", "--iterations", "2", "--stage", "decay", "--resume", str(tmp_path / "a" / "last.pt"))
    assert (final[-1]["start"], final[-1]["seen"]) == (0, 8)
    state = export.read_checkpoint(tmp_path / "b" / "last.pt")
    export.write_small(state, tmp_path / "small.npz")
    run("c", "--iterations", "1", "--resume", str(tmp_path / "small.npz"))
