"""Shards, augmentation, matching and thresholds."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.training.data.augment import camera_look, frame, mosaic
from models.training.data.mix import Mix, twice
from models.training.data.paste import cut_out, pasted
from models.training.data.real import empty_views, merge
from models.training.data.shards import COLUMNS, Sample, Shards, write_shard
from models.training.matching import Matcher, letterbox, nms
from models.training.viewpoints import Rate, alarm_threshold, best_f1, expected


def _sample(box: tuple[int, int, int, int] = (100, 60, 180, 240), kind: str = "lobby", visible: float = 1.0) -> Sample:
    """A black picture with one green rectangle for a person."""
    image = np.zeros((320, 512, 3), np.uint8)
    x0, y0, x1, y1 = box
    image[y0:y1, x0:x1, 1] = 255
    row = np.zeros((1, len(COLUMNS)), np.float32)
    row[0, 1:5], row[0, 9], row[0, 10] = box, visible, 1.0
    return Sample(image, row, kind)


def _green(image: np.ndarray) -> tuple[float, float, float, float]:
    ys, xs = np.nonzero(image[..., 1].astype(int) - image[..., 0] > 127)
    return float(xs.min()), float(ys.min()), float(xs.max() + 1), float(ys.max() + 1)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_boxes_move_with_their_pixels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    made = frame(_sample(), (320, 192), rng)
    for box in made.boxes:
        # turned by a few degrees, the hull is a little larger than what is seen of it
        assert np.abs(np.array(_green(made.image)) - box).max() < 16


def test_hardly_visible_people_are_left_out_of_the_loss() -> None:
    made = frame(_sample(visible=0.1), (512, 320), np.random.default_rng(1), (1.0, 1.0))
    assert len(made.boxes) == 0
    assert len(made.ignore) == 1


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_mosaics_and_camera_looks_keep_size_and_type(seed: int) -> None:
    rng = np.random.default_rng(seed)
    made = mosaic([_sample(kind=k) for k in ("lobby", "door", "meeting-fisheye", "office")], (256, 160), rng)
    assert made.image.shape == (160, 256, 3)
    assert (made.boxes[:, :2] >= 0).all()
    assert (made.boxes[:, 2] <= 256).all()
    looked = camera_look(made.image, rng)
    assert looked.shape == made.image.shape
    assert looked.dtype == np.uint8


def test_shards_round_trip_and_repeat_byte_for_byte(tmp_path: Path) -> None:
    samples = [_sample(), Sample(np.full((40, 60, 3), 90, np.uint8), np.zeros((0, len(COLUMNS)), np.float32), "empty")]
    write_shard(tmp_path / "a.npz", samples)
    write_shard(tmp_path / "b.npz", samples)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    for decoded in (False, True):
        back = Shards([tmp_path / "a.npz"], decoded=decoded)
        assert len(back) == 2
        assert back.kinds == ["lobby", "empty"]
        assert np.array_equal(back[0].labels, samples[0].labels)
        assert len(back[1].labels) == 0
        assert np.abs(back[0].image.astype(int) - samples[0].image).mean() < 2


def test_a_batch_comes_again_later_and_stopping_stops_the_source() -> None:
    stopped: list[bool] = []

    def source() -> Generator[int, None, None]:
        try:
            yield from range(100)
        finally:
            stopped.append(True)

    batches = twice(source(), keep=3)
    assert [next(batches) for _ in range(11)] == [0, 1, 2, 3, 0, 4, 1, 5, 2, 6, 3]
    batches.close()
    assert stopped == [True]


def test_batches_are_the_same_for_the_same_seed(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.npz", [_sample(), _sample((300, 100, 380, 300))])
    shards = Shards([tmp_path / "a.npz"])
    batches = []
    for _ in range(2):
        source = Mix(shards, None, 5).batches(3, [(160, 96)], list)
        batches.append([next(source) for _ in range(2)])
        source.close()
    for one, two in zip(*batches, strict=True):
        for a, b in zip(one, two, strict=True):
            assert np.array_equal(a.image, b.image)
            assert np.array_equal(a.boxes, b.boxes)


def test_without_pictures_training_says_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"models\.training\.render"):
        Mix(Shards([]), None, 1)


def test_merging_looks_keeps_the_surest_of_those_that_overlap() -> None:
    found = np.array([[0, 0, 10, 20, 0.6], [1, 0, 11, 20, 0.9], [2, 2, 6, 8, 0.5], [40, 0, 50, 20, 0.4]], np.float32)
    assert sorted(float(s) for s in merge(found)[:, 4]) == pytest.approx([0.4, 0.9])


# --- matching -------------------------------------------------------------------------------------------------------

TRUTH = np.array([[10, 10, 50, 110], [100, 20, 150, 140]], np.float32)


def _with_scores(boxes: np.ndarray, *scores: float) -> np.ndarray:
    return np.column_stack([boxes, np.array(scores, np.float32)]).astype(np.float32)


def test_perfect_detections_have_an_average_precision_of_one() -> None:
    matcher = Matcher()
    matcher.add(_with_scores(TRUTH, 0.9, 0.8), TRUTH)
    assert matcher.ap("iou") == pytest.approx(1)
    assert matcher.ap("top") == pytest.approx(1)
    assert matcher.recall("iou", 0.85) == 0.5
    assert best_f1(matcher) <= 0.8


def test_a_false_alarm_above_all_people_halves_precision() -> None:
    matcher = Matcher()
    noise = np.array([[200, 0, 220, 30]], np.float32)
    matcher.add(_with_scores(np.concatenate([noise, TRUTH[:1]]), 0.9, 0.5), TRUTH[:1])
    assert matcher.ap("iou") == pytest.approx(0.5)
    assert matcher.precision("iou", 0.4) == 0.5


def test_the_top_centre_point_is_fair_to_boxes_that_reach_further_down() -> None:
    matcher = Matcher()
    amodal = TRUTH[:1].copy()
    amodal[0, 3] += 250
    matcher.add(_with_scores(amodal, 0.9), TRUTH[:1])
    assert matcher.recall("top", 0.5) == 1
    assert matcher.recall("iou", 0.5) == 0


def test_a_person_is_found_once_and_ignored_boxes_cost_nothing() -> None:
    matcher = Matcher()
    matcher.add(_with_scores(np.repeat(TRUTH[:1], 2, 0), 0.9, 0.8), TRUTH[:1], suppress=False)
    assert matcher.precision("iou", 0.1) == 0.5
    other = Matcher()
    other.add(_with_scores(TRUTH[1:], 0.9), TRUTH[:1], ignore=TRUTH[1:])
    assert other.records["iou"] == []


def test_suppression_keeps_the_surest() -> None:
    kept = nms(_with_scores(np.concatenate([TRUTH, TRUTH + 1]), 0.3, 0.9, 0.8, 0.2))
    assert [round(float(s), 1) for s in kept[:, 4]] == [0.9, 0.8]


def test_letterbox_and_back() -> None:
    image = np.zeros((100, 300, 3), np.uint8)
    image[40:60, 100:200, 1] = 255
    out, scale, left, top = letterbox(image, (416, 256))
    x0, y0, x1, y1 = _green(out)
    back = np.array([(x0 - left) / scale, (y0 - top) / scale, (x1 - left) / scale, (y1 - top) / scale])
    assert np.abs(back - [100, 40, 200, 60]).max() < 1.5
    assert cv2.countNonZero(out[: int(top), :, 0] - 114) == 0


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=200), st.floats(0.01, 0.5))
def test_the_alarm_threshold_keeps_its_budget(scores: list[float], share: float) -> None:
    at = alarm_threshold(scores, share)
    assert sum(s >= at for s in scores) <= share * len(scores)


def test_wilson_intervals() -> None:
    low, high = Rate(80, 100).interval
    assert (round(low, 3), round(high, 3)) == (0.711, 0.867)
    assert Rate(10, 10).interval[1] == 1.0


def test_truth_outside_all_runs_is_zero() -> None:
    truth = {"present": [[2, 4, 3]]}
    assert [expected(truth, k) for k in (1, 2, 4, 5)] == [0, 3, 3, 0]


# --- real people in other rooms -------------------------------------------------------------------------------------


def _figure() -> tuple[np.ndarray, np.ndarray]:
    """A red figure (head and body) before a bluish wall, and the box around it."""
    rng = np.random.default_rng(1)
    image = np.full((270, 480, 3), (170, 140, 120), np.uint8)
    cv2.circle(image, (240, 70), 18, (40, 40, 190), -1)
    cv2.ellipse(image, (240, 160), (34, 80), 0, 0, 360, (40, 40, 190), -1)
    noisy = image + rng.normal(0, 4, image.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8), np.array([204, 50, 276, 242], np.float32)


def test_a_person_is_cut_out_along_the_outline() -> None:
    image, box = _figure()
    cut = cut_out(image, box)
    assert cut is not None
    inside = cut.colour[cut.alpha > 0.9]
    assert np.abs(inside.mean(0) - [40, 40, 190]).max() < 12
    assert 0.4 < cut.alpha.mean() < 0.95
    assert cut_out(image, np.array([0, 0, 10, 10], np.float32)) is None


def test_pasted_people_are_labelled_where_they_are() -> None:
    image, box = _figure()
    cut = cut_out(image, box)
    assert cut is not None
    room = np.full((320, 512, 3), 128, np.uint8)
    made = list(pasted([cut], [room], 12, 3))
    again = list(pasted([cut], [room], 12, 3))
    assert all(np.array_equal(a.image, b.image) for a, b in zip(made, again, strict=True))
    assert sum(len(m.labels) for m in made) > 8
    for sample in made:
        for x0, y0, x1, y1 in sample.boxes:
            assert 0 <= x0 < x1 <= 512
            assert 0 <= y0 < y1 <= 320
            assert np.abs(sample.image[int(y0) : int(y1), int(x0) : int(x1)].astype(int) - 128).max() > 20


def test_views_into_a_panorama_hold_nobody_and_repeat() -> None:
    rng = np.random.default_rng(2)
    panorama = cv2.resize(rng.uniform(0.05, 0.6, (8, 16, 3)).astype(np.float32), (256, 128))
    first, second = (list(empty_views([panorama], 4, 9, (160, 96))) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert a.image.shape == (96, 160, 3)
        assert len(a.labels) == 0
        assert np.array_equal(a.image, b.image)
    assert not np.array_equal(first[0].image, first[1].image)


def test_the_curve_draws_every_point_of_every_series() -> None:
    from xml.etree import ElementTree

    from models.training.curve import SERIES, drawing

    points = [
        {
            "seen": seen,
            "linto_at_5%_alarms": {"top": {"value": share}},
            "linto": {"ap50": share, "ap_top": share},
            "held_out": {"all": {"ap50": share, "ap_top": share}},
            "classroom": {"mae": 4 * share},
        }
        for seen, share in ((90_000, 0.8), (10_000, 0.3))
    ]
    root = ElementTree.fromstring(drawing(points))
    lines = root.findall("{*}polyline")
    assert len(lines) == len(SERIES)
    assert all(len((line.get("points") or "").split()) == 2 for line in lines)
    first, last = (float(p.split(",")[0]) for p in (lines[0].get("points") or "").split())
    assert first < last  # in the order of training, not of the file
