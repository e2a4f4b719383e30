"""Conversions: ``supervision.Detections`` and MOTChallenge folders."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counter.interop import (
    InteropError,
    MotRow,
    SequenceInfo,
    from_supervision,
    mot_detections,
    mot_rows,
    read_mot,
    read_seqinfo,
    to_supervision,
    write_mot,
    write_seqinfo,
)
from counter.types import Detections, Track


@dataclass
class StandIn:
    """The attributes and the checks of ``supervision.Detections`` (its ``validate_detections_fields``)."""

    xyxy: np.ndarray
    mask: Any = None
    confidence: np.ndarray | None = None
    class_id: np.ndarray | None = None
    tracker_id: np.ndarray | None = None
    data: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (isinstance(self.xyxy, np.ndarray) and self.xyxy.ndim == 2 and self.xyxy.shape[1] == 4):
            raise ValueError("xyxy must be a 2D np.ndarray with shape (_, 4)")
        n = len(self.xyxy)
        for name in ("confidence", "class_id", "tracker_id"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, np.ndarray) and value.shape == (n,)):
                raise ValueError(f"{name} must be a 1D np.ndarray with shape ({n},)")
        for name, value in self.data.items():
            if isinstance(value, list | np.ndarray) and len(value) != n:
                raise ValueError(f"length of data {name!r} must be {n}")


@pytest.fixture
def supervision(monkeypatch: pytest.MonkeyPatch) -> None:
    if "supervision" not in sys.modules:
        module = ModuleType("supervision")
        module.Detections = StandIn  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "supervision", module)


TWO = Detections(np.array([[1, 2, 3, 4], [5, 6, 9, 9]], np.float32), np.array([0.9, 0.4], np.float32))


@pytest.mark.usefixtures("supervision")
@pytest.mark.parametrize("people", [TWO, Detections.empty()])
def test_detections_there_and_back(people: Detections) -> None:
    back = from_supervision(to_supervision(people))
    assert np.array_equal(back.boxes, people.boxes)
    assert np.array_equal(back.scores, people.scores)


@pytest.mark.usefixtures("supervision")
def test_tracks_bring_their_ids() -> None:
    tracks = [Track(7, (0, 0, 4, 8), 0.8, 0, 1), Track(9, (1, 1, 2, 2), 0.5, 0, 1, hidden=True)]
    out = to_supervision(tracks)
    assert out.tracker_id.tolist() == [7, 9]
    assert out.data["hidden"].tolist() == [False, True]
    assert to_supervision([]).xyxy.shape == (0, 4)


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(InteropError, match="pip install supervision"):
        to_supervision(TWO)


def test_only_people_are_taken_over() -> None:
    given_ = StandIn(TWO.boxes, confidence=TWO.scores, class_id=np.array([2, 0]))
    assert from_supervision(given_).boxes.tolist() == [[5, 6, 9, 9]]
    assert len(from_supervision(given_, person=None)) == 2
    assert from_supervision(StandIn(TWO.boxes)).scores.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"xyxy": np.zeros((2, 5))}, r"xyxy: expected shape \[N, 4\]"),
        ({"confidence": np.zeros(3)}, r"confidence: expected shape \[2\]"),
        ({"confidence": np.array([0.5, 40.0])}, "0 to 1"),
        ({"xyxy": np.full((2, 4), np.nan)}, "finite"),
    ],
)
def test_foreign_data_that_cannot_be(change: dict[str, Any], reason: str) -> None:
    item = StandIn(TWO.boxes, confidence=TWO.scores)
    for name, value in change.items():
        setattr(item, name, value)
    with pytest.raises(InteropError, match=reason):
        from_supervision(item)


number = st.integers(-4000, 40_000).map(lambda v: v / 10)
rows = st.builds(
    MotRow, st.integers(1, 9999), st.integers(-1, 500), number, number, number, number,
    st.integers(0, 1000).map(lambda v: v / 1000),
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(st.lists(rows, max_size=8))
def test_motchallenge_there_and_back(given_: list[MotRow]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "det.txt"
        write_mot(path, given_)
        back = read_mot(path)
    assert len(back) == len(given_)
    for a, b in zip(given_, back, strict=True):
        assert (a.frame, a.id, a.category) == (b.frame, b.id, b.category)
        assert (a.left, a.top, a.width, a.height, a.score) == pytest.approx((b.left, b.top, b.width, b.height, b.score))


def test_the_format_of_the_benchmark(tmp_path: Path) -> None:
    """Lines as the MOTChallenge instructions print them: pixels count from 1 there, from 0 here."""
    path = tmp_path / "gt.txt"
    path.write_text("1,3,794.27,247.59,71.245,174.88,1,1,0.8\n2, 3, 795, 248, 71, 175, 0, 8, 1\n")
    first, second = read_mot(path)
    assert (first.left, first.top, first.category, first.visibility) == (793.27, 246.59, 1, 0.8)
    assert (second.score, second.category) == (0, 8), "0 stands for: ignore"
    write_mot(tmp_path / "out.txt", [first])
    assert (tmp_path / "out.txt").read_text() == "1,3,794.27,247.59,71.245,174.88,1,1,0.8\n"
    path.write_text("1,-1,10,20,30,40,0.9,-1,-1,-1\n")
    detections = mot_detections(read_mot(path))
    assert detections[1].boxes.tolist() == [[9, 19, 39, 59]]


def test_results_of_frames(tmp_path: Path) -> None:
    tracks = [Track(4, (10, 20, 30, 60), 0.75, 0, 1), Track(5, (0, 0, 1, 1), 0.5, 0, 1, hidden=True)]
    write_mot(tmp_path / "r.txt", [*mot_rows(1, tracks), *mot_rows(2, TWO)])
    lines = (tmp_path / "r.txt").read_text().splitlines()
    assert lines[0] == "1,4,11,21,20,40,0.75,-1,-1,-1"
    assert [line.split(",")[:2] for line in lines] == [["1", "4"], ["2", "-1"], ["2", "-1"]], (
        "hidden people were not seen"
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1,2,3\n", "3 values"),
        ("1,1,0,0,5,5\nx,1,0,0,5,5\n", r":2: frame 'x'"),
        ("0,1,0,0,5,5\n", "frame from 1"),
        ("1.5,1,0,0,5,5\n", "whole"),
        ("1,1,nan,0,5,5\n", "left 'nan'"),
    ],
)
def test_motchallenge_files_that_cannot_be(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "det.txt").write_text(text)
    with pytest.raises(InteropError, match=reason) as caught:
        read_mot(tmp_path / "det.txt")
    assert "det.txt" in str(caught.value)


def test_seqinfo_there_and_back(tmp_path: Path) -> None:
    info = SequenceInfo("hall", 12.5, 100, 640, 480)
    write_seqinfo(tmp_path / "hall", info)
    assert read_seqinfo(tmp_path / "hall") == info
    with pytest.raises(InteropError, match="no such file"):
        read_seqinfo(tmp_path)
    (tmp_path / "seqinfo.ini").write_text("[Sequence]\nname=x\nframeRate=fast\n")
    with pytest.raises(InteropError, match=r"seqinfo\.ini"):
        read_seqinfo(tmp_path)
