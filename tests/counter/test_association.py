"""The assignment is exact: compared with a reference solver on thousands of small and awkward problems."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from counter.association import assign
from counter.boxes import iou


def pairs(cost: np.ndarray) -> list[tuple[int, int, float]]:
    """All pairs of a matrix."""
    return [(row, column, float(value)) for (row, column), value in np.ndenumerate(cost)]


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 7), st.integers(0, 7), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.3, 0.8]), st.booleans())
def test_total_cost_is_the_least_possible(n: int, m: int, seed: int, forbidden: float, coarse: bool) -> None:
    rng = np.random.default_rng(seed)
    cost = rng.random((n, m))
    if coarse:  # many ties
        cost = np.round(cost * 3) / 3
    cost[rng.random((n, m)) < forbidden] = np.inf
    limit = 0.8
    matched = assign(pairs(cost), limit)
    rows, columns = np.array(list(matched), np.intp), np.array(list(matched.values()), np.intp)
    assert len(set(matched.values())) == len(matched)
    assert (cost[rows, columns] < limit).all()
    mine = cost[rows, columns].sum() + limit * (n - len(rows))
    wide = np.full((n, m + n), 1e6)
    wide[:, :m] = np.where(cost < limit, cost, 1e6)
    wide[np.arange(n), m + np.arange(n)] = limit
    a, b = linear_sum_assignment(wide)
    assert mine <= wide[a, b].sum() + 1e-9


def test_two_who_want_the_same_column_share_what_is_best_for_both() -> None:
    assert assign(pairs(np.array([[0.1, 0.2], [0.15, 0.9]])), 0.8) == {0: 1, 1: 0}


def test_of_two_who_want_the_only_column_the_dearer_stays_alone() -> None:
    assert assign([(0, 5, 0.3), (7, 5, 0.2)], 0.8) == {7: 5}


def test_iou_of_known_boxes() -> None:
    a = np.array([[0.0, 0.0, 10.0, 10.0]])
    b = np.array([[0.0, 0.0, 10.0, 10.0], [5.0, 0.0, 15.0, 10.0], [20.0, 0.0, 30.0, 10.0]])
    assert np.allclose(iou(a, b), [[1.0, 1 / 3, 0.0]])
