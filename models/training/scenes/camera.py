"""Cameras of rooms: perspective with barrel distortion, equidistant fisheye, and the unrolled panorama.

Camera axes: x to the right, y down, z along the view. World axes: x and z on the floor, y up, metres.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba as nb
import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]

PERSPECTIVE, FISHEYE, PANORAMA = 0, 1, 2
NEAR = 0.06


@dataclass(frozen=True)
class Camera:
    """One view.

    Attributes:
        kind: PERSPECTIVE, FISHEYE (equidistant) or PANORAMA (equirectangular).
        width, height: pixels of the picture.
        focal: pixels (perspective), pixels a radian (the two others).
        k1: radial distortion of the perspective camera; negative bends lines outwards (barrel).
        position: ``[3]`` metres.
        rotation: ``[3, 3]`` world to camera; rows are the right, down and forward axes.
    """

    kind: int
    width: int
    height: int
    focal: float
    k1: float
    position: F32
    rotation: F32

    def scaled(self, factor: float) -> Camera:
        """The same view with more or fewer pixels."""
        width, height = round(self.width * factor), round(self.height * factor)
        return Camera(self.kind, width, height, self.focal * factor, self.k1, self.position, self.rotation)

    def packed(self) -> F32:
        """For the compiled kernels: kind, focal, k1, cx, cy, position, rotation: ``[17]`` float32."""
        head = [self.kind, self.focal, self.k1, self.width / 2, self.height / 2]
        return np.concatenate([np.array(head, np.float32), self.position.ravel(), self.rotation.ravel()]).astype(
            np.float32
        )

    def project(self, points: F32) -> F32:
        """World points ``[N, 3]`` to ``[N, 4]``: pixel x, pixel y, distance in metres, 1 where it can be seen."""
        return project(np.ascontiguousarray(points, np.float32), self.packed())


def look(yaw: float, pitch: float, roll: float = 0.0) -> F32:
    """World-to-camera rotation. ``yaw`` 0 looks along +z, positive turns to +x; ``pitch`` positive looks down."""
    forward = np.array([math.sin(yaw) * math.cos(pitch), -math.sin(pitch), math.cos(yaw) * math.cos(pitch)], np.float64)
    # with y up and z forward, the right hand is where x grows when looking along +z from behind: -x in a
    # right-handed system; the mirror is taken out by building the axes from cross products
    up = np.array([math.sin(yaw) * math.sin(pitch), math.cos(pitch), math.cos(yaw) * math.sin(pitch)])
    right = np.cross(forward, up)
    c, s = math.cos(roll), math.sin(roll)
    right, down = c * right - s * up, -(s * right + c * up)
    return np.stack([right, down, forward]).astype(np.float32)


def look_at(position: F32, target: F32, roll: float = 0.0) -> F32:
    """Rotation of a camera at ``position`` that sees ``target`` in its middle."""
    d = np.asarray(target, np.float64) - np.asarray(position, np.float64)
    return look(math.atan2(d[0], d[2]), math.atan2(-d[1], math.hypot(d[0], d[2])), roll)


@nb.njit(cache=True, inline="always")
def project_point(cam: F32, x: float, y: float, z: float):  # type: ignore[no-untyped-def]
    """One world point to pixel x, pixel y, distance, visible (0 or 1)."""
    dx, dy, dz = x - cam[5], y - cam[6], z - cam[7]
    cx = cam[8] * dx + cam[9] * dy + cam[10] * dz
    cy = cam[11] * dx + cam[12] * dy + cam[13] * dz
    cz = cam[14] * dx + cam[15] * dy + cam[16] * dz
    r = math.sqrt(cx * cx + cy * cy + cz * cz)
    kind = int(cam[0])
    f, k1 = cam[1], cam[2]
    if r < NEAR:
        return 0.0, 0.0, r, 0.0
    if kind == 0:
        if cz < NEAR:
            return 0.0, 0.0, r, 0.0
        u, v = cx / cz, cy / cz
        q = u * u + v * v
        if 1.0 + 3.0 * k1 * q < 0.15:
            return 0.0, 0.0, r, 0.0
        d = 1.0 + k1 * q
        return cam[3] + f * u * d, cam[4] + f * v * d, r, 1.0
    if kind == 1:
        h = math.sqrt(cx * cx + cy * cy)
        theta = math.atan2(h, cz)
        if theta > 1.85:
            return 0.0, 0.0, r, 0.0
        k = f * theta / max(h, 1e-6)
        return cam[3] + k * cx, cam[4] + k * cy, r, 1.0
    lon = math.atan2(cx, cz)
    if abs(lon) > 2.6:
        return 0.0, 0.0, r, 0.0
    lat = math.atan2(cy, math.sqrt(cx * cx + cz * cz))
    return cam[3] + f * lon, cam[4] + f * lat, r, 1.0


@nb.njit(cache=True, inline="always")
def pixel_ray(cam: F32, px: float, py: float):  # type: ignore[no-untyped-def]
    """Unit world direction through a pixel; the last value is 0 where the lens shows nothing."""
    u, v = (px - cam[3]) / cam[1], (py - cam[4]) / cam[1]
    kind = int(cam[0])
    ok = 1.0
    if kind == 0:
        k1 = cam[2]
        x, y = u, v
        for _ in range(6):
            d = 1.0 + k1 * (x * x + y * y)
            x, y = u / max(d, 0.2), v / max(d, 0.2)
        n = 1.0 / math.sqrt(x * x + y * y + 1.0)
        cx, cy, cz = x * n, y * n, n
    elif kind == 1:
        theta = math.sqrt(u * u + v * v)
        if theta > 1.65:
            ok = 0.0
        k = math.sin(theta) / max(theta, 1e-6)
        cx, cy, cz = u * k, v * k, math.cos(theta)
    else:
        cx, cy, cz = math.sin(u) * math.cos(v), math.sin(v), math.cos(u) * math.cos(v)
    wx = cam[8] * cx + cam[11] * cy + cam[14] * cz
    wy = cam[9] * cx + cam[12] * cy + cam[15] * cz
    wz = cam[10] * cx + cam[13] * cy + cam[16] * cz
    return wx, wy, wz, ok


@nb.njit(cache=True)
def project(points: F32, cam: F32) -> F32:
    """World points ``[N, 3]`` to ``[N, 4]``: pixel x, pixel y, distance, visible."""
    out = np.empty((points.shape[0], 4), np.float32)
    for i in range(points.shape[0]):
        a, b, r, ok = project_point(cam, points[i, 0], points[i, 1], points[i, 2])
        out[i, 0], out[i, 1], out[i, 2], out[i, 3] = a, b, r, ok
    return out
