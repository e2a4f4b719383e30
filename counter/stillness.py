"""Whether anything moved: a look at a small grey picture that decides if the network must run.

The picture is compared with the one on which the network ran last, so slow movement adds up and is seen. What counts as
a change depends on the noise of each cell, learned while nothing happens: a dark camera and a flickering screen are not
motion for ever.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from counter.types import Frame

CELLS = 80  # cells across; a person who is counted covers several
FLOOR = 5.0  # grey levels that never count as a change
NOISES = 5.0  # mean deviations above the noise of a cell
MAX_NOISE = 5.0  # a cell is never believed to be noisier: somebody who fidgets there must be seen
LEARNING = 0.05


@dataclass(slots=True)
class StillnessGate:
    """Says for each frame whether the network may rest.

    Attributes:
        max_rest: most seconds after which the network runs though nothing moved. Longer saves more, and notices later
            what no motion told of.
        first_rest: the same after a motion; each run that only finds what was known doubles it, up to ``max_rest``.
        settle: seconds for which the network goes on after the last motion, so that tracks come to rest.
    """

    max_rest: float = 10.0
    first_rest: float = 10.0
    settle: float = 1.0
    _reference: NDArray[np.float32] | None = field(init=False, default=None)
    _previous: NDArray[np.float32] | None = field(init=False, default=None)
    _noise: NDArray[np.float32] | None = field(init=False, default=None)
    _moved_at: float = field(init=False, default=0.0)
    _ran_at: float = field(init=False, default=0.0)
    _rest: float = field(init=False, default=0.0)

    def may_rest(self, frame: Frame, t: float) -> bool:
        """Look at a frame. True: nothing moved since the network ran, and it did not long ago.

        The caller reports with :meth:`ran` when it ran the network on this frame.
        """
        small = _shrink(frame)
        if self._reference is None or self._reference.shape != small.shape or self._noise is None:
            self._previous, self._moved_at = small, t
            self._noise = np.full_like(small, 2.0)
            return False
        assert self._previous is not None
        limit = FLOOR + NOISES * self._noise
        change = np.abs(small - self._reference)
        moved = int(np.count_nonzero(change > limit)) >= 2 or bool((change > 3.0 * limit).any())
        step = np.abs(small - self._previous)
        # Single steps above the limit are events, not noise; they teach slowly.
        self._noise += LEARNING * (np.minimum(step, 2.0 * self._noise + 0.5) - self._noise)
        np.minimum(self._noise, MAX_NOISE, out=self._noise)
        self._previous = small
        if moved:
            self._moved_at = t
        return not moved and t - self._moved_at >= self.settle and t - self._ran_at < self._rest

    def ran(self, t: float, *, news: bool = True) -> None:
        """The network ran on the frame last looked at.

        Args:
            t: monotonic seconds of that frame.
            news: whether it found other people than were known: then it is asked again soon.
        """
        confirmed = not news and self._moved_at <= self._ran_at < t - self.settle
        self._rest = min(2.0 * self._rest if confirmed else self.first_rest, self.max_rest)
        self._reference, self._ran_at = self._previous, t

    def reset(self) -> None:
        """Forget what the view looks like."""
        self._reference = self._previous = self._noise = None


def _shrink(frame: Frame) -> NDArray[np.float32]:
    """The green channel on a grid of :data:`CELLS` across, each cell the mean of 8 pixels or so spread over it.

    Rows cost more than columns: what counts is how much of the frame is fetched from memory.
    """
    height, width = frame.shape[:2]
    step = max(1, width // (4 * CELLS))
    sample = np.ascontiguousarray(frame[step // 2 :: 2 * step, ::step, 1])
    rows = max(1, round(CELLS * height / width))
    small: NDArray[np.uint8] = cv2.resize(sample, (CELLS, rows), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32)
