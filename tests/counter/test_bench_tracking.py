"""HOTA by its definition, against the worked example of the field and against another implementation."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from counter.bench.tracking import FrameTracks, hota, iou, track_scores

PEERS = Path(os.environ.get("HEADROOM_PEERS") or Path(__file__).parents[2] / ".venv-peers" / "bin" / "python")
NOBODY: FrameTracks = (np.empty(0, np.int64), np.empty((0, 4)))


def walk(frames: int, shift: float = 0.0, ids: tuple[int, int] = (1, 2)) -> list[FrameTracks]:
    """Two people who walk to the right, three metres of picture apart."""
    return [
        (
            np.array(ids),
            np.array([[10 + k + shift, 10, 30 + k + shift, 60], [200 + k + shift, 10, 220 + k + shift, 60]]),
        )
        for k in range(frames)
    ]


def noisy(seed: int) -> tuple[list[FrameTracks], list[FrameTracks]]:
    """Truth, and tracks with jitter, misses, false alarms and switched ids."""
    rng = np.random.default_rng(seed)
    true, found = [], []
    for k in range(40):
        boxes = np.array([[20 * i + 3 * k, 10 + 5 * i, 20 * i + 3 * k + 25, 70 + 5 * i] for i in range(5)], float)
        ids = np.arange(5) + 1
        here = rng.random(5) > 0.15
        true.append((ids, boxes))
        moved = boxes[here] + rng.normal(0, 3, (int(here.sum()), 4))
        names = ids[here] + (10 if k >= 20 else 0) * (ids[here] % 2)
        extra = rng.random() < 0.3
        if extra:
            corner = rng.uniform(0, 60, 2)
            moved = np.vstack([moved, np.concatenate([corner, corner + np.array([30, 60])])])
            names = np.append(names, 90 + k)
        found.append((names.astype(np.int64), moved))
    return true, found


def test_iou_of_boxes() -> None:
    a = np.array([[0, 0, 10, 10]], float)
    b = np.array([[5, 0, 15, 10], [0, 0, 10, 10], [20, 20, 30, 30], [3, 3, 3, 3]], float)
    np.testing.assert_allclose(iou(a, b), [[1 / 3, 1, 0, 0]])


def test_perfect_tracks_score_one() -> None:
    scores = track_scores(walk(20), walk(20, ids=(7, 8)))
    assert (scores.hota, scores.idf1, scores.mota, scores.switches) == (1.0, 1.0, 1.0, 0)


def test_a_switch_costs_association_and_not_detection() -> None:
    switched = walk(20)[:10] + walk(20, ids=(1, 9))[10:]
    scores = track_scores(walk(20), switched)
    assert scores.deta == 1.0
    # One of two people keeps the id, the other is split in halves: (1 + 1/2) / 2.
    assert scores.assa == pytest.approx(0.75)
    assert scores.hota == pytest.approx(np.sqrt(0.75))
    assert scores.idf1 == pytest.approx(0.75)
    assert scores.switches == 1
    assert scores.mota == pytest.approx(1 - 1 / 40)


def test_nobody_found_and_nobody_there() -> None:
    assert hota(walk(5), [NOBODY] * 5) == (0.0, 0.0, 0.0)
    assert hota([NOBODY] * 5, walk(5)) == (0.0, 0.0, 0.0)
    assert hota([NOBODY] * 5, [NOBODY] * 5) == (1.0, 1.0, 1.0)
    assert track_scores(walk(5), [NOBODY] * 5).mota == 0.0
    with pytest.raises(ValueError, match="5 frames of truth and 4"):
        track_scores(walk(5), walk(4))


@pytest.mark.skipif(not PEERS.is_file(), reason="no environment with the package trackers: make bench creates it")
def test_hota_equals_that_of_another_implementation() -> None:
    jobs = []
    ours = []
    for seed in range(4):
        true, found = noisy(seed)
        ours.append(hota(true, found))
        jobs.append(
            [[a[0].tolist(), b[0].tolist(), iou(a[1], b[1]).tolist()] for a, b in zip(true, found, strict=True)]
        )
    program = (
        "import json, sys, numpy as np\n"
        "from trackers.eval import compute_hota_metrics as f\n"
        "out = []\n"
        "for job in json.load(sys.stdin):\n"
        "    g, t, s = zip(*job)\n"
        "    r = f([np.array(x) for x in g], [np.array(x) for x in t],\n"
        "          [np.array(x).reshape(len(a), len(b)) for x, a, b in zip(s, g, t)])\n"
        "    out.append([float(r[k]) for k in ('HOTA', 'DetA', 'AssA')])\n"
        "print(json.dumps(out))\n"
    )
    done = subprocess.run(
        [str(PEERS), "-c", program], input=json.dumps(jobs), capture_output=True, text=True, check=True
    )
    np.testing.assert_allclose(ours, json.loads(done.stdout), atol=1e-9)
    assert 0.3 < ours[0][0] < 0.9
