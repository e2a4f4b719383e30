"""Which detection belongs to which track: similarity of boxes and an exact assignment.

The solver exploits how easy most frames are: rows whose cheapest columns differ are already optimal. Only where two
want the same column are they, and all that they can reach, solved by shortest augmenting paths (Jonker and Volgenant,
*Computing* 38, 1987).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Rows = NDArray[np.intp]


def iou(a: Array, b: Array) -> Array:
    """``[n, m]`` intersection over union of corner boxes ``[n, 4]`` and ``[m, 4]``."""
    inter = intersection(a, b)
    return inter / np.maximum(area(a)[:, None] + area(b)[None, :] - inter, 1e-9)


def intersection(a: Array, b: Array) -> Array:
    """``[n, m]`` shared area of corner boxes."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    side = np.maximum(high - low, 0.0)
    shared: Array = side[..., 0] * side[..., 1]
    return shared


def area(boxes: Array) -> Array:
    """``[n]`` areas of corner boxes."""
    areas: Array = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return areas


def assign(cost: Array, limit: float) -> tuple[Rows, Rows]:
    """The assignment of rows to columns with the least total cost, where staying alone costs ``limit``.

    Args:
        cost: ``[n, m]`` finite or infinite costs.
        limit: no pair of this cost or more is ever made.

    Returns:
        Matched rows and their columns, ``[k]`` each, in order of rows.
    """
    n, m = cost.shape
    if n == 0 or m == 0:
        return np.empty(0, np.intp), np.empty(0, np.intp)
    best = cost.argmin(axis=1)
    active = np.flatnonzero(cost[np.arange(n), best] < limit)
    wanted = best[active]
    if len(active) < 2:
        return active, wanted
    demand = np.bincount(wanted, minlength=m)
    if demand.max() <= 1:
        return active, wanted  # everybody gets the cheapest column: nothing can be better
    entangled, columns = _entangled(cost[active] < limit, demand > 1)
    best[active[entangled]] = -1
    rows = active[entangled]
    for row, choice in enumerate(_hungarian(cost[rows[:, None], columns].tolist(), limit)):
        if choice >= 0:
            best[rows[row]] = columns[choice]
    active = active[best[active] >= 0]
    return active, best[active]


def _entangled(possible: NDArray[np.bool_], columns: NDArray[np.bool_]) -> tuple[Rows, Rows]:
    """The rows and columns that conflicts over ``columns`` can reach; everything else keeps its cheapest pair."""
    while True:
        rows = np.logical_or.reduce(possible[:, columns], axis=1)
        reached = np.logical_or.reduce(possible[rows], axis=0)
        if np.count_nonzero(reached) == np.count_nonzero(columns):
            return np.flatnonzero(rows), np.flatnonzero(columns)
        columns = reached


def _hungarian(cost: list[list[float]], limit: float) -> list[int]:
    """The column of each row, -1 for none, by shortest augmenting paths with potentials.

    Plain lists: conflicts involve two or three people, for which arrays are slower. Each row has one column of its own
    at ``limit``, behind the real ones, that stands for staying alone.
    """
    n, m = len(cost), len(cost[0])
    infinity = float("inf")
    wide = [
        [c if c < limit else infinity for c in row] + [limit if i == k else infinity for k in range(n)]
        for i, row in enumerate(cost)
    ]
    u, v = [0.0] * n, [0.0] * (m + n)
    row_of = [-1] * (m + n)
    for start in range(n):
        distance = [infinity] * (m + n)
        came_from = [-1] * (m + n)  # the column before on the path
        done = [False] * (m + n)
        row, column, length = start, -1, 0.0
        while row >= 0:
            nearest, following = infinity, -1
            for j, c in enumerate(wide[row]):
                if done[j]:
                    continue
                through = length + c - u[row] - v[j]
                if through < distance[j]:
                    distance[j], came_from[j] = through, column
                if distance[j] < nearest:
                    nearest, following = distance[j], j
            column, length = following, nearest
            done[column] = True
            row = row_of[column]
        u[start] += length
        for j in range(m + n):
            if done[j] and j != column:
                u[row_of[j]] += length - distance[j]
                v[j] += distance[j] - length
        while came_from[column] >= 0:
            row_of[column] = row_of[came_from[column]]
            column = came_from[column]
        row_of[column] = start
    result = [-1] * n
    for j in range(m):
        if row_of[j] >= 0:
            result[row_of[j]] = j
    return result
