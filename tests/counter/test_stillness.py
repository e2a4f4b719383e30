"""The still-scene gate: noise is no motion, a person is, and nobody rests for ever."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from counter import Frame
from counter.stillness import StillnessGate

VIEW = np.random.default_rng(7).integers(30, 220, (27, 48, 3), np.uint8).repeat(10, 0).repeat(10, 1)


def noisy(rng: np.random.Generator, sigma: float, view: Frame = VIEW) -> Frame:
    return np.clip(view + rng.normal(0, sigma, view.shape), 0, 255).astype(np.uint8)


def with_person(x: int, grey: int = 128) -> Frame:
    frame = VIEW.copy()
    frame[80:200, x : x + 40] = grey
    return frame


@pytest.mark.parametrize("sigma", [0.0, 2.0, 6.0])
def test_noise_is_not_motion(sigma: float) -> None:
    rng, gate = np.random.default_rng(0), StillnessGate(max_rest=1e9, first_rest=1e9)
    ran = 0
    for i in range(300):
        if not gate.may_rest(noisy(rng, sigma), i * 0.1):
            ran += i > 100
            gate.ran(i * 0.1)
    assert ran <= 4


def test_somebody_who_appears_is_seen_on_the_first_frame() -> None:
    rng, gate = np.random.default_rng(0), StillnessGate()
    for i in range(100):
        if not gate.may_rest(noisy(rng, 2.0), i * 0.1):
            gate.ran(i * 0.1)
    assert gate.may_rest(noisy(rng, 2.0), 10.0)
    assert not gate.may_rest(noisy(rng, 2.0, with_person(200)), 10.1)


def test_slow_movement_adds_up() -> None:
    gate = StillnessGate(max_rest=1e9, first_rest=1e9)
    runs = []
    for i in range(400):  # a pixel every two seconds
        if not gate.may_rest(with_person(200 + i // 20), i * 0.1):
            gate.ran(i * 0.1)
            runs.append(i)
    assert [i for i in runs if i > 30]


def test_nobody_rests_longer_than_the_bound() -> None:
    gate = StillnessGate(max_rest=5.0)
    last, longest = 0.0, 0.0
    for i in range(1000):
        t = i * 0.1
        if not gate.may_rest(VIEW, t):
            gate.ran(t)
            longest, last = max(longest, t - last), t
    assert longest <= 5.1


def test_rests_grow_while_nothing_new_is_found_and_shrink_again_after_news() -> None:
    gate = StillnessGate(max_rest=40.0, first_rest=10.0)
    runs: list[float] = []
    for i in range(2000):
        t = i * 0.1
        if not gate.may_rest(VIEW, t):
            gate.ran(t, news=100.0 < t < 120.0)  # the fourth run after the start finds somebody
            runs.append(t)
    settled = [t for t in runs if t > 0.85]
    assert [round(b - a) for a, b in itertools.pairwise(settled)] == [10, 20, 40, 40, 10, 20, 40]


def test_a_lamp_that_goes_out_is_a_change() -> None:
    gate = StillnessGate()
    for i in range(100):
        if not gate.may_rest(VIEW, i * 0.1):
            gate.ran(i * 0.1)
    assert not gate.may_rest((VIEW // 3).astype(np.uint8), 10.0)
