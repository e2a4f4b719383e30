"""Whether the view can be trusted, from the picture's statistics alone: dark, blocked, moved, frozen.

All of it works on a small grey picture, in a grid of cells. What the view is like when all is well is learned while it
is, in memory only; after a restart the view that is found is the view.

* **dark**: the bright parts of the picture are darker than a limit.
* **frozen**: picture after picture the same to the last bit, which no living sensor gives. It is reported as
  ``no_signal``: what arrives is no signal any more.
* **blocked**: more than half of the view lost what was there. Each textured cell is compared with its own past by
  normalised correlation, which light and shade do not change. A view that never had anything to see is blocked too.
* **moved**: the picture as a whole lies elsewhere (phase correlation of its edges: Kuglin and Hines, *The phase
  correlation image alignment method*, 1975), or all of it is another one, as sharp as before.

People are neither: they move, a cover and a turned camera do not. Only cells that hold still are judged.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from counter.types import Frame
from uplink.messages import Health

Grey = NDArray[np.float32]

COLUMNS, ROWS, CELL = 16, 9, 10
WIDTH, HEIGHT = COLUMNS * CELL, ROWS * CELL
"""The small picture: 160 x 90, in 16 x 9 cells of 10 x 10."""
LOOK_SECONDS = 1.0
TEXTURED = 3.0  # grey levels of deviation in a cell from which there is something to recognise
MATCH = 0.6  # correlation from which a cell shows what it showed
SAME = 0.8  # correlation of a cell with itself some seconds ago from which it holds still
LEARN_SECONDS = 10.0  # how long a view must hold still to be believed
MEMORY_SECONDS = 120.0  # how quickly the learned view follows the light
EMPTY_SHARE = 0.04  # a view with fewer textured cells shows nothing
SURE_SHIFT = 0.12  # least response of the phase correlation


@dataclass(slots=True)
class _Latch:
    """A condition that must hold for some seconds to be believed, and be gone for some to be over."""

    raise_after: float
    clear_after: float
    on: bool = False
    _since: float | None = None

    def update(self, condition: bool, t: float) -> bool:
        if condition == self.on:
            self._since = None
        elif self._since is None:
            self._since = t
        elif t - self._since >= (self.clear_after if self.on else self.raise_after):
            self.on, self._since = condition, None
        return self.on

    def rest(self) -> None:
        self._since = None


@dataclass(slots=True)
class ViewHealth:
    """Watches one camera's view. Feed it every frame; it looks at one a second.

    Attributes:
        dark: grey level, 0 to 255, that the bright parts of a picture must reach.
        blocked: share of the textured view whose loss blocks it.
        shift: share of the width by which the view may lie elsewhere.
    """

    dark: float = 28.0
    blocked: float = 0.5
    shift: float = 0.04
    _dark: _Latch = field(init=False, default_factory=lambda: _Latch(10.0, 3.0))
    _frozen: _Latch = field(init=False, default_factory=lambda: _Latch(18.0, 0.0))
    _wrong: _Latch = field(init=False, default_factory=lambda: _Latch(15.0, 4.0))
    _away: float = field(init=False, default=0.0)  # of the looks at a wrong view, those that found it elsewhere
    _kind: Health = field(init=False, default=Health.BLOCKED)
    _next: float = field(init=False, default=-np.inf)
    _shape: tuple[int, ...] | None = field(init=False, default=None)
    _sample: NDArray[np.uint8] | None = field(init=False, default=None)
    _view: Grey | None = field(init=False, default=None)  # what is seen when all is well
    _textured: NDArray[np.bool_] | None = field(init=False, default=None)
    _recent: Grey | None = field(init=False, default=None)  # follows the picture within seconds
    _calm_since: float | None = field(init=False, default=None)
    _found: frozenset[Health] = field(init=False, default=frozenset())

    def update(self, frame: Frame, t: float) -> frozenset[Health]:
        """Take a frame.

        Args:
            frame: uint8 ``[height, width, 3]``, BGR.
            t: monotonic seconds.

        Returns:
            The faults that hold now; empty when the view is well.
        """
        if t < self._next:
            return self._found
        self._next = t + LOOK_SECONDS
        if frame.shape != self._shape:
            self._forget(frame.shape)
        frozen = self._frozen.update(self._same(frame), t)
        small = shrink(frame)
        dark = self._dark.update(float(np.percentile(small, 95.0)) < self.dark, t)
        if dark or frozen or self._dark._since is not None:
            self._wrong.rest()
        else:
            self._judge(small, t)
        found = set()
        if dark:
            found.add(Health.DARK)
        if frozen:
            found.add(Health.NO_SIGNAL)
        if self._wrong.on:
            found.add(self._kind)
        self._found = frozenset(found)
        return self._found

    def pause(self) -> None:
        """The camera was closed: faults begin anew when it opens; the learned view stays."""
        self._dark, self._frozen = _Latch(10.0, 3.0), _Latch(18.0, 0.0)
        self._wrong = _Latch(15.0, 4.0)
        self._sample = self._recent = None
        self._calm_since = None
        self._next, self._found = -np.inf, frozenset()

    def _forget(self, shape: tuple[int, ...]) -> None:
        self.pause()
        self._shape = shape
        self._view = self._textured = None

    def _same(self, frame: Frame) -> bool:
        """Whether no sampled pixel differs from the last look: one in 7 x 7, all channels."""
        sample = np.ascontiguousarray(frame[3::7, 3::7])
        same = self._sample is not None and np.array_equal(sample, self._sample)
        self._sample = sample
        return same

    def _judge(self, small: Grey, t: float) -> None:
        """Blocked and moved."""
        recent = self._recent
        if recent is None:
            self._recent = small.copy()
            return
        still = correlation(small, recent) > SAME
        flat = deviation(small) < TEXTURED
        recent += 0.25 * (small - recent)
        if self._view is None or self._textured is None:
            self._first(small, flat, t)
            return
        textured = self._textured
        seen = int(textured.sum())
        match = correlation(small, self._view) > MATCH
        # A cell that holds still, or shows nothing at all, and is not what it was.
        lost = textured & ~match & (still | flat)
        lost_share = max(float(lost.sum()) / seen, covered(lost, textured))
        sharp = int((~flat).sum()) >= 0.5 * seen
        dx, dy, sure = displacement(self._view, small)
        shifted = float(np.hypot(dx, dy)) / WIDTH > self.shift and sure >= SURE_SHIFT
        shifted = shifted and self._fits(small, dx, dy)
        away = shifted or (lost_share > 0.75 and sharp)
        self._conclude(away, away or lost_share > self.blocked, t)
        if not away and lost_share < 0.5 * self.blocked and not self._wrong.on:
            self._learn(small, match | flat)

    def _conclude(self, away: bool, wrong: bool, t: float) -> None:
        """One clock for both faults: a view on the border between them is wrong all the same."""
        if wrong:
            self._away += 0.2 * (away - self._away)
        before = self._wrong.on
        if self._wrong.update(wrong, t) and not before:
            self._kind = Health.MOVED if self._away > 0.5 else Health.BLOCKED
        if not wrong and not self._wrong.on:
            self._away = 0.0

    def _first(self, small: Grey, flat: NDArray[np.bool_], t: float) -> None:
        """Nothing is known yet: a view that holds still for some seconds and shows something is believed."""
        if float((~flat).mean()) < EMPTY_SHARE:
            self._calm_since = None
            self._conclude(away=False, wrong=True, t=t)
            return
        self._conclude(away=False, wrong=False, t=t)
        if self._calm_since is None:
            self._calm_since = t
        elif t - self._calm_since >= LEARN_SECONDS and not self._wrong.on:
            assert self._recent is not None
            self._view = self._recent.copy()
            self._textured = deviation(self._view) >= TEXTURED

    def _learn(self, small: Grey, cells: NDArray[np.bool_]) -> None:
        assert self._view is not None
        rate = LOOK_SECONDS / MEMORY_SECONDS
        mask = np.kron(cells.astype(np.float32), np.ones((CELL, CELL), np.float32))
        self._view += rate * mask * (small - self._view)
        self._textured = deviation(self._view) >= TEXTURED

    def _fits(self, small: Grey, dx: float, dy: float) -> bool:
        """Whether the picture, moved back, is the view: more cells match than where it lies."""
        assert self._view is not None
        assert self._textured is not None
        back = np.roll(small, (-round(dy), -round(dx)), (0, 1))
        there, here = correlation(back, self._view), correlation(small, self._view)
        good = self._textured
        if not good.any():
            return False
        return float((there > MATCH)[good].mean()) > float((here > MATCH)[good].mean()) + 0.2


def shrink(frame: Frame) -> Grey:
    """The green channel as ``[90, 160]`` means of areas."""
    step = max(1, frame.shape[1] // (WIDTH * 4))
    plane = np.ascontiguousarray(frame[::step, ::step, 1])
    small: NDArray[np.uint8] = cv2.resize(plane, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32)


def cells(picture: Grey) -> Grey:
    """``[90, 160]`` as ``[9, 16, 100]``: the pixels of each cell."""
    return picture.reshape(ROWS, CELL, COLUMNS, CELL).swapaxes(1, 2).reshape(ROWS, COLUMNS, CELL * CELL)


def deviation(picture: Grey) -> Grey:
    """Standard deviation in each cell, ``[9, 16]`` grey levels."""
    found: Grey = cells(picture).std(axis=2)
    return found


def correlation(a: Grey, b: Grey) -> Grey:
    """Normalised correlation of each cell, ``[9, 16]``, -1 to 1; 0 where one of them is flat."""
    x, y = cells(a), cells(b)
    x = x - x.mean(axis=2, keepdims=True)
    y = y - y.mean(axis=2, keepdims=True)
    above = (x * y).sum(axis=2)
    below = np.sqrt((x * x).sum(axis=2) * (y * y).sum(axis=2))
    found: Grey = np.divide(above, below, out=np.zeros_like(above), where=below > 1e-3)
    return found


def covered(lost: NDArray[np.bool_], textured: NDArray[np.bool_]) -> float:
    """Share of the whole view that is lost: cells in which nothing can be recognised go by those around them."""
    known = cv2.GaussianBlur(textured.astype(np.float32), (0, 0), 2.0, borderType=cv2.BORDER_CONSTANT)
    gone = cv2.GaussianBlur(lost.astype(np.float32), (0, 0), 2.0, borderType=cv2.BORDER_CONSTANT)
    return float((gone > 0.5 * known)[known > 1e-3].mean()) if textured.any() else 0.0


_WINDOW: Grey = cv2.createHanningWindow((WIDTH, HEIGHT), cv2.CV_32F)


def displacement(a: Grey, b: Grey) -> tuple[float, float, float]:
    """How far ``b`` lies right of and below ``a`` in pixels of the small picture, and how sure that is, 0 to 1."""
    (dx, dy), sure = cv2.phaseCorrelate(_edges(a), _edges(b), _WINDOW)
    return float(dx), float(dy), float(sure)


def _edges(picture: Grey) -> Grey:
    across = cv2.Sobel(picture, cv2.CV_32F, 1, 0, ksize=3)
    down = cv2.Sobel(picture, cv2.CV_32F, 0, 1, ksize=3)
    found: Grey = np.sqrt(np.hypot(across, down))  # the root: one bright edge must not speak for all
    return found
