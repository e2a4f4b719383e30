"""Withhold small counts so that no total gives them away.

A count of 1 to 4 at a known time in a known room is about people. Primary suppression withholds it, complementary
suppression withholds a second one where the first could be had by subtraction (Handbook on Statistical Disclosure
Control, chapter 5).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

THRESHOLD = 5
BoolArray = npt.NDArray[np.bool_]


def small(counts: npt.ArrayLike, k: int = THRESHOLD) -> BoolArray:
    """Counts of 1 to k - 1. Nobody (0) and unknown (NaN) tell nothing about a person."""
    values = np.asarray(counts, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return (values > 0) & (values < k)


def withheld(sizes: npt.ArrayLike, primary: npt.ArrayLike) -> BoolArray:
    """Cells of one total to withhold, shape (cells,), given those that must be.

    Where the withheld cells are a single one, subtraction from the total would show it: the smallest other cell that
    holds anything is withheld with it. Of a group in which only one cell holds anything the total itself gives it
    away: then the caller must withhold the total, which ``total_withheld`` says.

    Args:
        sizes: what each cell holds; decides which is the smallest.
        primary: cells to withhold in any case.
    """
    hidden = np.array(primary, dtype=np.bool_)
    values = np.nan_to_num(np.asarray(sizes, dtype=np.float64))
    if hidden.sum() == 1:
        others = np.flatnonzero(~hidden & (values > 0))
        if others.size:
            hidden[others[values[others].argmin()]] = True
    return hidden


def total_withheld(sizes: npt.ArrayLike, hidden: npt.ArrayLike) -> bool:
    """Whether the total must go too: exactly one cell is hidden and nothing stands beside it to hide it."""
    return int(np.asarray(hidden, dtype=np.bool_).sum()) == 1
