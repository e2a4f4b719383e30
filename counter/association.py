"""Which detection belongs to which track: similarity of boxes and an exact assignment.

The solver is a shortest augmenting path method (Jonker and Volgenant, *Computing* 38, 1987) that exploits how easy most
frames are: rows whose cheapest columns differ are already optimal, and only rows in conflict are searched for.
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
    lowest = cost[np.arange(n), best]
    active = np.flatnonzero(lowest < limit)
    wanted = best[active]
    if len(active) < 2 or np.bincount(wanted, minlength=m).max() <= 1:
        return active, wanted  # everybody gets the cheapest column: nothing can be better
    return _augment(cost[active], limit, active)


def _augment(cost: Array, limit: float, names: Rows) -> tuple[Rows, Rows]:
    """Shortest augmenting paths over real columns and, for each row, one column of its own at ``limit``."""
    n, m = cost.shape
    wide = np.full((n, m + n), np.inf)
    wide[:, :m] = np.where(cost < limit, cost, np.inf)
    wide[np.arange(n), m + np.arange(n)] = limit
    row_of = np.full(m + n, -1, np.intp)
    column_of = np.full(n, -1, np.intp)
    u = wide.min(axis=1)
    v = np.zeros(m + n)
    late = []
    for row, column in enumerate(wide.argmin(axis=1)):
        if row_of[column] < 0:
            row_of[column], column_of[row] = row, column
        else:
            late.append(row)
    for row in late:
        _insert(wide, row, u, v, row_of, column_of)
    real = np.flatnonzero(column_of < m)
    return names[real], column_of[real]


def _insert(wide: Array, start: int, u: Array, v: Array, row_of: Rows, column_of: Rows) -> None:
    """Give ``start`` a column by Dijkstra's method on reduced costs; matched rows move over where that is cheaper."""
    distance = wide[start] - u[start] - v
    came_from = np.full(len(v), start, np.intp)
    done = np.zeros(len(v), bool)
    open_distance = distance.copy()
    while True:
        column = int(open_distance.argmin())
        length = distance[column]
        done[column] = True
        open_distance[column] = np.inf
        row = int(row_of[column])
        if row < 0:
            break
        through = length + wide[row] - u[row] - v
        better = (through < distance) & ~done
        distance[better] = through[better]
        open_distance[better] = through[better]
        came_from[better] = row
    rows_on_way = row_of[done & (row_of >= 0)]
    u[rows_on_way] += length - distance[column_of[rows_on_way]]
    u[start] += length
    v[done] += distance[done] - length
    while True:  # flip the path
        row = int(came_from[column])
        row_of[column] = row
        column_of[row], column = column, int(column_of[row])
        if row == start:
            break
