"""Crossings and what is seen correct each other's drift."""

from __future__ import annotations

import numpy as np

from counter.occupancy import Occupancy


def run(occupancy: Occupancy, seconds: float, seen: int, begin: float = 0.0) -> int:
    inside = 0
    for i in range(round(seconds * 5)):
        inside = occupancy.update(begin + i / 5, seen, 0, 0)
    return inside


def test_a_crossing_counts_at_once_and_never_below_nobody() -> None:
    occupancy = Occupancy(sees_room=False)
    assert occupancy.update(0.0, 0, 2, 0) == 2
    assert occupancy.update(0.1, 0, 0, 1) == 1
    assert occupancy.update(0.2, 0, 0, 3) == 0


def test_people_seen_though_nobody_came_in_are_believed() -> None:
    occupancy = Occupancy(sees_room=True, rise_seconds=2.0)
    assert run(occupancy, 1.0, 3) == 0
    assert run(occupancy, 3.0, 3, begin=1.0) == 3


def test_a_ghost_of_a_moment_is_not() -> None:
    occupancy = Occupancy(sees_room=True)
    for i in range(100):
        assert occupancy.update(i / 5, 1 if i % 5 == 0 else 0, 0, 0) == 0


def test_hidden_people_stay_for_a_while_and_are_given_up_then() -> None:
    occupancy = Occupancy(sees_room=True, fall_seconds=30.0)
    run(occupancy, 5.0, 4)
    assert run(occupancy, 20.0, 3, begin=5.0) == 4
    assert run(occupancy, 20.0, 3, begin=25.0) == 3


def test_a_door_camera_never_gives_up_people_it_cannot_see() -> None:
    occupancy = Occupancy(sees_room=False)
    occupancy.update(0.0, 0, 5, 0)
    assert run(occupancy, 3600.0, 0, begin=0.2) == 5


def test_drift_of_missed_crossings_does_not_add_up() -> None:
    """A day of comings and goings; one crossing in ten is missed, and one person in ten is hidden at a time."""
    rng = np.random.default_rng(0)
    occupancy, naive, truth = Occupancy(sees_room=True), 0, 0
    wrong, naive_wrong = [], []
    for i in range(8 * 3600):
        entered = int(rng.random() < 0.01)
        left = int(truth > 0 and rng.random() < 0.0005 * truth)
        truth += entered - left
        counted = entered * int(rng.random() > 0.1), left * int(rng.random() > 0.1)
        naive += counted[0] - counted[1]
        seen = int(rng.binomial(truth, 0.9))
        wrong.append(abs(occupancy.update(float(i), seen, *counted) - truth))
        naive_wrong.append(abs(naive - truth))
    assert np.mean(wrong) < 1.0
    assert np.mean(wrong) < np.mean(naive_wrong) / 3
