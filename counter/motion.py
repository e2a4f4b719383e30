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
        data: ``[10, n]``, a row for each quantity: numpy is faster along all tracks than along the two or four numbers
            of one. See the properties, which are views with one row for each track.
    """

    data: Array

    def __len__(self) -> int:
        return int(self.data.shape[1])

    @property
    def centre(self) -> Array:
        """``[n, 2]`` pixels."""
        return self.data[0:2].T

    @property
    def size(self) -> Array:
        """``[n, 2]`` width and height, pixels."""
        return self.data[2:4].T

    @property
    def velocity(self) -> Array:
        """``[n, 2]`` pixels a second."""
        return self.data[4:6].T

    @property
    def covariance(self) -> Array:
        """``[n, 3]`` variance of position, covariance of position and velocity, variance of velocity, for one axis."""
        return self.data[6:9].T

    @property
    def size_variance(self) -> Array:
        """``[n]`` relative variance of the size."""
        variance: Array = self.data[9]
        return variance

    @property
    def boxes(self) -> Array:
        """``[n, 4]`` x1 y1 x2 y2 in pixels, a copy."""
        centre, half = self.data[0:2], self.data[2:4] * 0.5
        boxes: Array = np.concatenate((centre - half, centre + half)).T
        return boxes

    @property
    def scale(self) -> Array:
        """``[n]`` square root of the box area, pixels."""
        scale: Array = np.sqrt(self.data[2] * self.data[3])
        return scale


def measured(boxes: NDArray[np.floating]) -> tuple[Array, Array]:
    """Centre ``[2, n]`` and size ``[2, n]`` (at least one pixel) of ``[n, 4]`` corner boxes."""
    b = boxes.T.astype(np.float64, copy=False)
    return (b[:2] + b[2:]) * 0.5, np.maximum(b[2:] - b[:2], 1.0)


def start(boxes: NDArray[np.floating], scores: NDArray[np.floating]) -> MotionState:
    """States of people seen for the first time: position as seen, velocity unknown."""
    data = np.zeros((10, len(boxes)))
    data[0:2], data[2:4] = measured(boxes)
    scale = np.sqrt(data[2] * data[3])
    data[6] = np.square((MEASUREMENT + DOUBT * (1.0 - scores)) * scale)
    data[8] = (FIRST_SPEED * scale) ** 2
    data[9] = 0.01
    return MotionState(data)


def predict(state: MotionState, dt: float, hidden: NDArray[np.bool_]) -> None:
    """Move all states ``dt`` seconds on, in place. Velocities of ``hidden`` tracks decay."""
    if not len(state) or dt <= 0.0:
        return
    d = state.data
    if hidden.any():
        d[4:6, hidden] *= math.exp(-dt / HIDDEN_DAMPING_SECONDS)
    centre, position, both, velocity, size_variance = d[0:2], d[6], d[7], d[8], d[9]
    centre += d[4:6] * dt
    q = (ACCELERATION * ACCELERATION) * d[2] * d[3]
    position += dt * (2.0 * both + dt * velocity) + q * (dt**3 / 3.0)
    both += dt * velocity + q * (dt * dt / 2.0)
    velocity += q * dt
    size_variance += SIZE_DRIFT * SIZE_DRIFT * dt


def correct(
    state: MotionState,
    rows: NDArray[np.intp],
    boxes: NDArray[np.floating],
    scores: NDArray[np.floating],
) -> None:
    """Correct the states ``rows`` (rising) with the detections that support them, in place.

    Weak detections are less well placed (the idea of the NSA Kalman filter, Du et al., *GIAOTracker*, 2021).
    """
    seen, seen_size = measured(boxes)
    everybody = len(rows) == len(state)
    d = state.data if everybody else state.data.take(rows, axis=1)
    centre, size, velocity, covariance, size_variance = d[0:2], d[2:4], d[4:6], d[6:8], d[9]
    noise = (MEASUREMENT + DOUBT) - DOUBT * scores
    noise *= noise
    gain, speed_gain = covariance / (d[6] + noise * (d[2] * d[3]))
    innovation = seen - centre
    centre += gain * innovation
    velocity += speed_gain * innovation
    d[8] -= speed_gain * d[7]
    covariance *= 1.0 - gain
    weight = size_variance / (size_variance + noise)
    size += weight * (seen_size - size)
    size_variance *= 1.0 - weight
    if not everybody:
        state.data[:, rows] = d


def take(state: MotionState, rows: NDArray[np.intp] | NDArray[np.bool_]) -> MotionState:
    """The chosen states, as copies."""
    return MotionState(state.data[:, rows])


def join(a: MotionState, b: MotionState) -> MotionState:
    """Both states one after the other."""
    return MotionState(np.concatenate((a.data, b.data), axis=1))
