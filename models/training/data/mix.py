"""Batches for training: renderings and real frames in given shares, prefetched by a thread."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from .augment import Example, camera_look, frame, mosaic
from .shards import Sample, Shards

U8 = NDArray[np.uint8]
T = TypeVar("T")


class Mix:
    """Endless training examples, the same for the same seed and shards."""

    def __init__(
        self, rendered: Shards, real: Shards | None, seed: int, real_share: float = 0.25, mosaic_share: float = 0.25
    ) -> None:
        if not len(rendered):
            raise ValueError("no rendered pictures: run python -m models.training.render first")
        self.rendered, self.real = rendered, real if real is not None and len(real) else None
        self.rng = np.random.default_rng([seed, 23])
        self.real_share, self.mosaic_share = real_share, mosaic_share
        # frames of clips, empty rooms and pasted people equally often, however many there are of each
        kinds = [kind.split("-")[0] for kind in self.real.kinds] if self.real is not None else []
        self.pools = [[k for k, kind in enumerate(kinds) if kind == name] for name in sorted(set(kinds))]

    def _sample(self) -> Sample:
        if self.real is not None and self.rng.random() < self.real_share:
            pool = self.pools[int(self.rng.integers(len(self.pools)))]
            return self.real[pool[int(self.rng.integers(len(pool)))]]
        return self.rendered[int(self.rng.integers(len(self.rendered)))]

    def example(self, size: tuple[int, int]) -> Example:
        rng = self.rng
        if rng.random() < self.mosaic_share:
            made = mosaic([self._sample() for _ in range(4)], size, rng)
        else:
            made = frame(self._sample(), size, rng)
        return Example(camera_look(made.image, rng), made.boxes, made.ignore)

    def batches(
        self, count: int, sizes: list[tuple[int, int]], prepare: Callable[[list[Example]], T], ahead: int = 3
    ) -> Generator[T, None, None]:
        """Batches of ``count`` examples of one size each, each ``prepare``-d by the thread that makes them.

        The sizes alternate at random.
        """
        ready: queue.Queue[T] = queue.Queue(ahead)
        stop = threading.Event()

        def work() -> None:
            while not stop.is_set():
                size = sizes[int(self.rng.integers(len(sizes)))]
                batch = prepare([self.example(size) for _ in range(count)])
                while not stop.is_set():
                    try:
                        ready.put(batch, timeout=1.0)
                        break
                    except queue.Full:
                        continue

        thread = threading.Thread(target=work, name="examples", daemon=True)
        thread.start()
        try:
            while True:
                yield ready.get()
        finally:
            stop.set()
            thread.join()


def twice(batches: Generator[T, None, None], keep: int = 64) -> Generator[T, None, None]:
    """Every batch, and again ``keep`` batches later: making one costs half of what learning from it does."""
    waiting: deque[T] = deque()
    try:
        for batch in batches:
            yield batch
            waiting.append(batch)
            if len(waiting) > keep:
                yield waiting.popleft()
    finally:
        batches.close()


def shards_in(folder: Path, pattern: str = "*.npz") -> list[Path]:
    return sorted(folder.glob(pattern))
