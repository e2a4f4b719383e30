"""Which detection belongs to which track: similarity of boxes and an exact assignment.

The solver exploits how easy most frames are: a person has one or two possible places, and rows whose cheapest columns
differ are already optimal. Only where two want the same column are they, and all that they can reach, solved: two by
trying everything, more by shortest augmenting paths (Jonker and Volgenant, *Computing* 38, 1987).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from counter.boxes import Array, area, clipped, intersection
from counter.motion import MotionState

Pair = tuple[int, int, float]
Options = dict[int, dict[int, float]]  # row -> column -> cost

REACH, REACH_SPEED, REACH_SECONDS = 0.3, 1.0, 1.5  # person sizes, person sizes a second, seconds
MAX_GROWTH = 1.8  # logarithm of the ratio of two boxes' areas that may still be one person


def possible_pairs(state: MotionState, boxes: Array, frame: tuple[int, int], unseen: Array) -> list[Pair]:
    """Who could be which detection, and at what cost: lack of overlap and distance from where the person should be.

    A pair is possible where the boxes overlap, or where the detection lies within three standard deviations of the
    prediction and has about the right size: at one frame a second people step out of their own box. However uncertain,
    nobody is looked for farther away than a person walks in the ``unseen`` ``[n]`` seconds: else seated people whom the
    detector misses would move to their neighbour's seat.
    """
    if not len(state) or not len(boxes):
        return []
    mine = clipped(state.boxes, frame)
    shared, own, other = intersection(mine, boxes), area(mine)[:, None] + 1.0, area(boxes) + 1.0
    overlap = shared / (own + other - shared)
    p, q = mine.T, boxes.T
    gap = (p[:2] + p[2:])[:, :, None] - (q[:2] + q[2:])[:, None, :]  # twice the distance
    gap *= gap
    reach = REACH + REACH_SPEED * np.minimum(unseen, REACH_SECONDS)
    spread = np.minimum(36.0 * state.data[6][:, None] + 0.52 * own, (4.0 * reach * reach)[:, None] * own)
    off = (gap[0] + gap[1]) / spread  # 1 at three standard deviations
    rows, columns = ((overlap > 0.2) | (off < 1.0)).nonzero()
    growth = np.abs(np.log(own[rows, 0] / other[columns]))
    overlap, off = overlap[rows, columns], off[rows, columns]
    growth[overlap <= 0.2] *= 2.0
    cost = 0.6 - 0.6 * overlap + 0.3 * np.minimum(off, 1.0)
    cost[growth >= MAX_GROWTH] = np.inf
    return list(zip(rows.tolist(), columns.tolist(), cost.tolist(), strict=True))


def assign(pairs: Iterable[Pair], limit: float) -> dict[int, int]:
    """The assignment of rows to columns with the least total cost, where staying alone costs ``limit``.

    Args:
        pairs: row, column and cost of what is possible, each pair once. Most people have one or two possible places, so
            a list is shorter work than a matrix.
        limit: no pair of this cost or more is ever made.

    Returns:
        The column of each matched row.
    """
    options: Options = {}
    for row, column, cost in pairs:
        if cost < limit:
            options.setdefault(row, {})[column] = cost
    best = {row: next(iter(c)) if len(c) == 1 else min(c, key=c.__getitem__) for row, c in options.items()}
    if len(set(best.values())) == len(best):
        return best  # everybody gets the cheapest column: nothing can be better
    times = Counter(best.values())
    for group in _entangled(options, {column for column in times if times[column] > 1}):
        for row in group:
            del best[row]
        best.update(_two(group, options, limit) if len(group) == 2 else _several(group, options, limit))
    return best


def _two(group: list[int], options: Options, limit: float) -> dict[int, int]:
    """The best columns of two rows. Staying alone is a column of one's own, at the limit."""
    one, other = ({**options[row], -1 - row: limit} for row in group)
    best = min((a + b, i, j) for i, a in one.items() for j, b in other.items() if i != j)
    return {row: column for row, column in zip(group, best[1:], strict=True) if column >= 0}


def _several(group: list[int], options: Options, limit: float) -> dict[int, int]:
    """The best columns of any number of rows."""
    reached = sorted({column for row in group for column in options[row]})
    table = [[options[row].get(column, limit) for column in reached] for row in group]
    return {row: reached[i] for row, i in zip(group, _hungarian(table, limit), strict=True) if i >= 0}


def _entangled(options: Options, contested: set[int]) -> list[list[int]]:
    """The rows that conflicts over ``contested`` columns can reach, in groups that share no column.

    Everybody else keeps the cheapest column.
    """
    rows_of: dict[int, list[int]] = {}
    for row, choices in options.items():
        for column in choices:
            rows_of.setdefault(column, []).append(row)
    groups = []
    while contested:
        waiting = [contested.pop()]
        reached, group = set(waiting), set()
        while waiting:
            for row in rows_of[waiting.pop()]:
                if row not in group:
                    group.add(row)
                    waiting += options[row].keys() - reached
                    reached |= options[row].keys()
        contested -= reached
        groups.append(sorted(group))
    return groups


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
