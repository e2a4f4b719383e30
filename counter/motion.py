"""The motion model of the tracker: constant velocity, in seconds, for many tracks at once.

Both axes share one noise model that scales with the size of the person in the picture, so the covariance of a track is
one symmetric 2x2 matrix (position, velocity) for x and y alike. That makes the Kalman filter exact and a handful of
element-wise operations over all tracks. Box sizes follow a scalar filter without velocity: a growing box is noise more
often than it is motion. Background: Bar-Shalom, Li, Kirubarajan, *Estimation with Applications to Tracking and
Navigation*, 2001, chapter 6.2 (white noise acceleration).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# All in units of the person's own size (square root of the box area, about 0.9 m for somebody who stands).
ACCELERATION = 1.0  # root of the spectral density: how quickly people start, stop and turn
MEASUREMENT = 0.05  # standard deviation of a certain detection's centre
DOUBT = 0.10  # what a detection of score 0 adds to it
FIRST_SPEED = 1.0  # standard deviation of an unknown velocity, sizes a second
SIZE_DRIFT = 0.3  # how quickly boxes change size, per root second
HIDDEN_DAMPING_SECONDS = 0.7  # an unseen person is assumed to slow down: a wrong guess stays near


@dataclass(slots=True)
class MotionState:
    """Boxes in motion, ``n`` of them.

    Attributes:
        centre: ``[n, 2]`` pixels.
        size: ``[n, 2]`` width and height, pixels.
        velocity: ``[n, 2]`` pixels a second.
        covariance: ``[n, 3]`` variance of position, covariance of position and velocity, variance of velocity,
            for one axis, pixels and seconds.
        size_variance: ``[n]`` relative variance of the size.
    """

    centre: Array
    size: Array
    velocity: Array
    covariance: Array
    size_variance: Array

    def __len__(self) -> int:
        return int(self.centre.shape[0])

    @property
    def boxes(self) -> Array:
        """``[n, 4]`` x1 y1 x2 y2 in pixels."""
        half = self.size * 0.5
        return np.concatenate((self.centre - half, self.centre + half), axis=1)

    @property
    def scale(self) -> Array:
        """``[n]`` square root of the box area, pixels."""
        return np.sqrt(self.size[:, 0] * self.size[:, 1])


def measured(boxes: NDArray[np.floating]) -> tuple[Array, Array]:
    """Centre and size (at least one pixel) of ``[n, 4]`` corner boxes."""
    b = boxes.astype(np.float64)
    return (b[:, :2] + b[:, 2:]) * 0.5, np.maximum(b[:, 2:] - b[:, :2], 1.0)


def start(boxes: NDArray[np.floating], scores: NDArray[np.floating]) -> MotionState:
    """States of people seen for the first time: position as seen, velocity unknown."""
    centre, size = measured(boxes)
    state = MotionState(centre, size, np.zeros_like(centre), np.zeros((len(centre), 3)), np.full(len(centre), 0.01))
    scale = state.scale
    state.covariance[:, 0] = _measurement_variance(scale, scores)
    state.covariance[:, 2] = (FIRST_SPEED * scale) ** 2
    return state


def predict(state: MotionState, dt: float, hidden: NDArray[np.bool_]) -> None:
    """Move all states ``dt`` seconds on, in place. Velocities of ``hidden`` tracks decay."""
    if not len(state) or dt <= 0.0:
        return
    if hidden.any():
        state.velocity[hidden] *= np.exp(-dt / HIDDEN_DAMPING_SECONDS)
    state.centre += state.velocity * dt
    c = state.covariance
    q = (ACCELERATION * ACCELERATION) * state.size[:, 0] * state.size[:, 1]
    c[:, 0] += dt * (2.0 * c[:, 1] + dt * c[:, 2]) + q * (dt**3 / 3.0)
    c[:, 1] += dt * c[:, 2] + q * (dt * dt / 2.0)
    c[:, 2] += q * dt
    state.size_variance += SIZE_DRIFT * SIZE_DRIFT * dt


def correct(
    state: MotionState,
    rows: NDArray[np.intp],
    boxes: NDArray[np.floating],
    scores: NDArray[np.floating],
) -> None:
    """Correct the states ``rows`` with the detections that support them, in place."""
    centre, size = measured(boxes)
    c = state.covariance[rows]
    scale = state.scale[rows]
    gain = c[:, :2] / (c[:, :1] + _measurement_variance(scale, scores)[:, None])
    innovation = centre - state.centre[rows]
    state.centre[rows] += gain[:, :1] * innovation
    state.velocity[rows] += gain[:, 1:] * innovation
    keep = 1.0 - gain[:, 0]
    state.covariance[rows] = np.stack((keep * c[:, 0], keep * c[:, 1], c[:, 2] - gain[:, 1] * c[:, 1]), axis=1)
    variance = state.size_variance[rows]
    weight = variance / (variance + (MEASUREMENT + DOUBT * (1.0 - scores)) ** 2)
    state.size[rows] += weight[:, None] * (size - state.size[rows])
    state.size_variance[rows] = (1.0 - weight) * variance


def take(state: MotionState, rows: NDArray[np.intp] | NDArray[np.bool_]) -> MotionState:
    """The chosen states, as copies."""
    return MotionState(
        state.centre[rows],
        state.size[rows],
        state.velocity[rows],
        state.covariance[rows],
        state.size_variance[rows],
    )


def join(a: MotionState, b: MotionState) -> MotionState:
    """Both states one after the other."""
    return MotionState(
        np.concatenate((a.centre, b.centre)),
        np.concatenate((a.size, b.size)),
        np.concatenate((a.velocity, b.velocity)),
        np.concatenate((a.covariance, b.covariance)),
        np.concatenate((a.size_variance, b.size_variance)),
    )


def _measurement_variance(scale: Array, scores: NDArray[np.floating]) -> Array:
    """Weak detections are less well placed (the idea of the NSA Kalman filter, Du et al., GIAOTracker, 2021)."""
    return np.square((MEASUREMENT + DOUBT * (1.0 - scores)) * scale)
