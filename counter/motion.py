"""The motion model of the tracker: constant velocity, in seconds, for many tracks at once.

Both axes share one noise model that scales with the size of the person in the picture, so the covariance of a track is
one symmetric 2x2 matrix (position, velocity) for x and y alike. That makes the Kalman filter exact and a handful of
element-wise operations over all tracks. Box sizes follow a scalar filter without velocity: a growing box is noise more
often than it is motion. Background: Bar-Shalom, Li, Kirubarajan, *Estimation with Applications to Tracking and
Navigation*, 2001, chapter 6.2 (white noise acceleration).
"""

from __future__ import annotations

import math
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
    """Boxes in motion, ``n`` of them, all in one array so that picking and joining tracks is one operation.

    Attributes:
        data: ``[n, 10]``: see the properties, which are views.
    """

    data: Array

    def __len__(self) -> int:
        return len(self.data)

    @property
    def centre(self) -> Array:
        """``[n, 2]`` pixels."""
        return self.data[:, 0:2]

    @property
    def size(self) -> Array:
        """``[n, 2]`` width and height, pixels."""
        return self.data[:, 2:4]

    @property
    def velocity(self) -> Array:
        """``[n, 2]`` pixels a second."""
        return self.data[:, 4:6]

    @property
    def covariance(self) -> Array:
        """``[n, 3]`` variance of position, covariance of position and velocity, variance of velocity, for one axis."""
        return self.data[:, 6:9]

    @property
    def size_variance(self) -> Array:
        """``[n]`` relative variance of the size."""
        return self.data[:, 9]

    @property
    def boxes(self) -> Array:
        """``[n, 4]`` x1 y1 x2 y2 in pixels."""
        half = self.size * 0.5
        return np.concatenate((self.centre - half, self.centre + half), axis=1)

    @property
    def scale(self) -> Array:
        """``[n]`` square root of the box area, pixels."""
        return np.sqrt(self.data[:, 2] * self.data[:, 3])


def measured(boxes: NDArray[np.floating]) -> tuple[Array, Array]:
    """Centre and size (at least one pixel) of ``[n, 4]`` corner boxes."""
    b = boxes.astype(np.float64, copy=False)
    return (b[:, :2] + b[:, 2:]) * 0.5, np.maximum(b[:, 2:] - b[:, :2], 1.0)


def start(boxes: NDArray[np.floating], scores: NDArray[np.floating]) -> MotionState:
    """States of people seen for the first time: position as seen, velocity unknown."""
    state = MotionState(np.zeros((len(boxes), 10)))
    state.centre[:], state.size[:] = measured(boxes)
    scale = state.scale
    state.covariance[:, 0] = np.square((MEASUREMENT + DOUBT * (1.0 - scores)) * scale)
    state.covariance[:, 2] = (FIRST_SPEED * scale) ** 2
    state.size_variance[:] = 0.01
    return state


def predict(state: MotionState, dt: float, hidden: NDArray[np.bool_]) -> None:
    """Move all states ``dt`` seconds on, in place. Velocities of ``hidden`` tracks decay."""
    if not len(state) or dt <= 0.0:
        return
    if hidden.any():
        state.velocity[hidden] *= math.exp(-dt / HIDDEN_DAMPING_SECONDS)
    d = state.data
    d[:, 0:2] += d[:, 4:6] * dt
    c = state.covariance
    q = (ACCELERATION * ACCELERATION) * d[:, 2] * d[:, 3]
    c[:, 0] += dt * (2.0 * c[:, 1] + dt * c[:, 2]) + q * (dt**3 / 3.0)
    c[:, 1] += dt * c[:, 2] + q * (dt * dt / 2.0)
    c[:, 2] += q * dt
    d[:, 9] += SIZE_DRIFT * SIZE_DRIFT * dt


def correct(
    state: MotionState,
    rows: NDArray[np.intp],
    boxes: NDArray[np.floating],
    scores: NDArray[np.floating],
) -> None:
    """Correct the states ``rows`` with the detections that support them, in place.

    Weak detections are less well placed (the idea of the NSA Kalman filter, Du et al., *GIAOTracker*, 2021).
    """
    centre, size = measured(boxes)
    s = MotionState(state.data[rows])
    c = s.covariance
    noise = np.square(MEASUREMENT + DOUBT * (1.0 - scores))
    gain = c[:, :2] / (c[:, 0] + noise * (s.data[:, 2] * s.data[:, 3]))[:, None]
    innovation = centre - s.centre
    s.data[:, 0:2] += gain[:, :1] * innovation
    s.data[:, 4:6] += gain[:, 1:] * innovation
    c[:, 2] -= gain[:, 1] * c[:, 1]
    c[:, :2] *= 1.0 - gain[:, :1]
    weight = s.size_variance / (s.size_variance + noise)
    s.data[:, 2:4] += weight[:, None] * (size - s.size)
    s.data[:, 9] *= 1.0 - weight
    state.data[rows] = s.data


def take(state: MotionState, rows: NDArray[np.intp] | NDArray[np.bool_]) -> MotionState:
    """The chosen states, as copies."""
    return MotionState(state.data[rows])


def join(a: MotionState, b: MotionState) -> MotionState:
    """Both states one after the other."""
    return MotionState(np.concatenate((a.data, b.data)))
