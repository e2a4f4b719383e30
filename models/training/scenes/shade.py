"""Deferred shading: what colour the triangle, wall or photographed background behind each pixel has.

Rooms are boxes ``[0, W] x [0, H] x [0, D]`` (x, y up, z) and are met analytically, exactly for every lens. Walls carry
rectangles (windows, doors, boards, pictures, lamps). Light is an ambient from above and below, dimmed near what stands
around, and a few lamps, the first with a shadow map.
"""

from __future__ import annotations

import math

import numba as nb
import numpy as np
from numpy.typing import NDArray

from .camera import pixel_ray, project_point

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
U8 = NDArray[np.uint8]


@nb.njit(cache=True, inline="always", fastmath=True)
def _hash(i: int, j: int, k: int) -> float:
    n = (i * 374761393 + j * 668265263 + k * 1274126177) & 0x7FFFFFFF
    n = ((n ^ (n >> 13)) * 1103515245) & 0x7FFFFFFF
    return ((n ^ (n >> 16)) & 0xFFFF) / 65535.0


@nb.njit(cache=True, fastmath=True)
def _noise(x: float, y: float, z: float) -> float:
    """Value noise in 0 to 1."""
    i, j, k = int(np.floor(x)), int(np.floor(y)), int(np.floor(z))
    u, v, w = x - i, y - j, z - k
    u, v, w = u * u * (3 - 2 * u), v * v * (3 - 2 * v), w * w * (3 - 2 * w)
    total = 0.0
    for a in range(2):
        for b in range(2):
            for c in range(2):
                share = (u if a else 1 - u) * (v if b else 1 - v) * (w if c else 1 - w)
                total += share * _hash(i + a, j + b, k + c)
    return total


@nb.njit(cache=True, fastmath=True)
def _material(part: F32, x: float, y: float, z: float, u: float, v: float, photos: U8):  # type: ignore[no-untyped-def]
    """Colour of a part at a point of its own space (and u, v in 0 to 1 on a rectangle)."""
    kind, scale, seed = int(part[6]), part[7], part[11]
    mix = 0.0
    if kind == 9:  # a photograph (a piece of the open panoramas)
        n = int(part[10])
        row = min(max(int(v * (photos.shape[1] - 1)), 0), photos.shape[1] - 1)
        col = min(max(int(u * (photos.shape[2] - 1)), 0), photos.shape[2] - 1)
        return (
            part[0] * photos[n, row, col, 2] / 255.0,
            part[1] * photos[n, row, col, 1] / 255.0,
            part[2] * photos[n, row, col, 0] / 255.0,
        )
    if kind == 0:
        mix = 0.0
    elif kind == 1:
        mix = 1.0 if (y * scale + seed) % 1.0 < 0.45 else 0.0
    elif kind == 2:
        mix = 1.0 if (x * scale + seed) % 1.0 < 0.4 else 0.0
    elif kind == 3:
        mix = 0.5 * (1.0 if (x * scale + seed) % 1.0 < 0.4 else 0.0) + 0.5 * (
            1.0 if (y * scale + seed) % 1.0 < 0.4 else 0.0
        )
    elif kind == 4:
        mix = 1.0 if _noise(x * scale + seed, y * scale, z * scale) > 0.58 else 0.0
    elif kind == 5:  # wood: stretched rings
        n = _noise(x * scale * 0.25 + seed, y * scale * 4.0, z * scale * 4.0)
        mix = 0.5 + 0.5 * math.sin(18.0 * n)
    elif kind == 6:
        mix = _noise(x * scale * 2.5, y * scale * 0.15 + seed, z * scale * 2.5)
    elif kind == 7:
        fx, fy, fz = (x * scale) % 1.0, (y * scale) % 1.0, (z * scale) % 1.0
        joint = 0.03
        mix = (
            1.0
            if (fx < joint and part[9] >= 0) or fz < joint or (fy < joint and fy > 1e-4)
            else 0.25 * _hash(int(np.floor(x * scale)), int(np.floor(y * scale)), int(np.floor(z * scale)))
        )
    elif kind == 8:
        mix = _noise(x * scale + seed, y * scale, z * scale)
    weak = 1.0 - 0.10 * _noise(x * 3.1 + seed, y * 3.1, z * 3.1)  # nothing is quite even
    return (
        weak * (part[0] + mix * (part[3] - part[0])),
        weak * (part[1] + mix * (part[4] - part[1])),
        weak * (part[2] + mix * (part[5] - part[2])),
    )


@nb.njit(cache=True, fastmath=True)
def shade(
    cam: F32, depth: F32, seen: I32, points: F32, triangles: I32, vertices: F32, normals: F32, rest: F32,
    part_of: I32, parts: F32, room: F32, walls: I32, decals: F32, lights: F32, ambient: F32, shadow_cam: F32,
    shadow: F32, occlusion: F32, panorama: F32, pano: F32, photos: U8, out: F32,
) -> None:  # fmt: skip
    """Fill ``out`` ``[H, W, 3]`` (linear RGB) from the visibility buffer.

    Args:
        room: width, height, depth in metres.
        walls: part of each of the six surfaces: floor, ceiling, x=0, x=W, z=0, z=D.
        decals: ``[K, 6]`` surface, u0, v0, u1, v1 (metres on the surface), part.
        lights: ``[L, 7]`` position, colour, size.
        ambient: ``[2, 3]`` from above and from below.
        shadow_cam, shadow: map of the first lamp (1 / metres), see ``camera``.
        occlusion: ``[C, C]`` blurred heights of what stands in the room.
        panorama: ``[h, w, 3]`` linear, used instead of the room where ``pano[0]`` is 1; ``pano`` = on, yaw, floor y.
        photos: ``[N, h, w, 3]`` BGR pictures for the walls.
    """
    height, width = depth.shape
    cells = occlusion.shape[0]
    for py in range(height):
        for px in range(width):
            dx, dy, dz, ok = pixel_ray(cam, px + 0.5, py + 0.5)
            if ok == 0.0:
                out[py, px, 0], out[py, px, 1], out[py, px, 2] = 0.0, 0.0, 0.0
                continue
            t = seen[py, px]
            emission, gloss = 0.0, 0.0
            if t >= 0:
                a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                ax, ay, bx, by = points[a, 0], points[a, 1], points[b, 0], points[b, 1]
                cx, cy = points[c, 0], points[c, 1]
                area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
                wb = ((px + 0.5 - ax) * (cy - ay) - (py + 0.5 - ay) * (cx - ax)) / area
                wc = ((py + 0.5 - ay) * (bx - ax) - (px + 0.5 - ax) * (by - ay)) / area
                wa = (1.0 - wb - wc) / points[a, 2]
                wb, wc = wb / points[b, 2], wc / points[c, 2]
                total = wa + wb + wc
                wa, wb, wc = wa / total, wb / total, wc / total
                x = wa * vertices[a, 0] + wb * vertices[b, 0] + wc * vertices[c, 0]
                y = wa * vertices[a, 1] + wb * vertices[b, 1] + wc * vertices[c, 1]
                z = wa * vertices[a, 2] + wb * vertices[b, 2] + wc * vertices[c, 2]
                nx = wa * normals[a, 0] + wb * normals[b, 0] + wc * normals[c, 0]
                ny = wa * normals[a, 1] + wb * normals[b, 1] + wc * normals[c, 1]
                nz = wa * normals[a, 2] + wb * normals[b, 2] + wc * normals[c, 2]
                length = max(math.sqrt(nx * nx + ny * ny + nz * nz), 1e-6)
                if nx * dx + ny * dy + nz * dz > 0.0:
                    length = -length
                nx, ny, nz = nx / length, ny / length, nz / length
                rx = wa * rest[a, 0] + wb * rest[b, 0] + wc * rest[c, 0]
                ry = wa * rest[a, 1] + wb * rest[b, 1] + wc * rest[c, 1]
                rz = wa * rest[a, 2] + wb * rest[b, 2] + wc * rest[c, 2]
                part = parts[part_of[t]]
                r, g, bl = _material(part, rx, ry, rz, rx, 1.0 - ry, photos)
                emission, gloss = part[9], part[8]
            elif pano[0] > 0.0:
                lon = math.atan2(dx, dz) + pano[1]
                lat = math.asin(min(max(dy, -1.0), 1.0))
                fx = (lon / (2 * math.pi) + 0.5) % 1.0 * panorama.shape[1] - 0.5
                fy = min(max((0.5 - lat / math.pi) * panorama.shape[0] - 0.5, 0.0), panorama.shape[0] - 1.001)
                ix, iy = int(np.floor(fx)), int(fy)
                sx, sy = fx - ix, fy - iy
                jx = (ix + 1) % panorama.shape[1]
                ix = ix % panorama.shape[1]
                # people stand on the photographed floor: their soft shadow darkens it
                dim = 1.0
                if dy < -0.02:
                    hit = (pano[2] - cam[6]) / dy
                    u, v = cam[5] + dx * hit, cam[7] + dz * hit
                    gi, gj = int(v / room[2] * cells), int(u / room[0] * cells)
                    if 0 <= gi < cells and 0 <= gj < cells:
                        dim = 1.0 - 0.6 * min(1.0, occlusion[gi, gj] / 0.6)
                for ch in range(3):
                    value = (panorama[iy, ix, ch] * (1 - sx) + panorama[iy, jx, ch] * sx) * (1 - sy) + (
                        panorama[iy + 1, ix, ch] * (1 - sx) + panorama[iy + 1, jx, ch] * sx
                    ) * sy
                    out[py, px, ch] = value * dim
                continue
            else:
                far, side = 1e9, 0
                if dy < -1e-6:
                    far, side = -cam[6] / dy, 0
                elif dy > 1e-6:
                    far, side = (room[1] - cam[6]) / dy, 1
                if dx < -1e-6 and -cam[5] / dx < far:
                    far, side = -cam[5] / dx, 2
                elif dx > 1e-6 and (room[0] - cam[5]) / dx < far:
                    far, side = (room[0] - cam[5]) / dx, 3
                if dz < -1e-6 and -cam[7] / dz < far:
                    far, side = -cam[7] / dz, 4
                elif dz > 1e-6 and (room[2] - cam[7]) / dz < far:
                    far, side = (room[2] - cam[7]) / dz, 5
                x, y, z = cam[5] + dx * far, cam[6] + dy * far, cam[7] + dz * far
                nx = 1.0 if side == 2 else (-1.0 if side == 3 else 0.0)
                ny = 1.0 if side == 0 else (-1.0 if side == 1 else 0.0)
                nz = 1.0 if side == 4 else (-1.0 if side == 5 else 0.0)
                u, v = (x, z) if side < 2 else ((z, y) if side < 4 else (x, y))
                which, du, dv = walls[side], 0.0, 0.0
                for k in range(decals.shape[0]):
                    if (
                        int(decals[k, 0]) == side
                        and decals[k, 1] <= u <= decals[k, 3]
                        and decals[k, 2] <= v <= decals[k, 4]
                    ):
                        which = int(decals[k, 5])
                        du = (u - decals[k, 1]) / (decals[k, 3] - decals[k, 1])
                        dv = 1.0 - (v - decals[k, 2]) / (decals[k, 4] - decals[k, 2])
                part = parts[which]
                r, g, bl = _material(part, x, y, z, du, dv, photos)
                emission, gloss = part[9], part[8]
            # how open the place is: heights around it, blurred, against its own height
            gi = min(max(int(z / room[2] * cells), 0), cells - 1)
            gj = min(max(int(x / room[0] * cells), 0), cells - 1)
            covered = min(max((occlusion[gi, gj] - y) / 0.8, 0.0), 1.0)
            free = 1.0 - 0.55 * covered * (1.0 if t < 0 else 0.6)
            up = 0.5 + 0.5 * ny
            lr = (ambient[0, 0] * up + ambient[1, 0] * (1 - up)) * free
            lg = (ambient[0, 1] * up + ambient[1, 1] * (1 - up)) * free
            lb = (ambient[0, 2] * up + ambient[1, 2] * (1 - up)) * free
            for k in range(lights.shape[0]):
                lx, ly, lz = lights[k, 0] - x, lights[k, 1] - y, lights[k, 2] - z
                d2 = lx * lx + ly * ly + lz * lz
                d = math.sqrt(d2) + 1e-6
                cosine = (lx * nx + ly * ny + lz * nz) / d
                # a soft terminator: lamps are wide
                cosine = max((cosine + 0.15) / 1.15, 0.0)
                if cosine <= 0.0:
                    continue
                power = cosine / (d2 + lights[k, 6])
                if k == 0:
                    sx_, sy_, sr, sok = project_point(shadow_cam, x + nx * 0.04, y + ny * 0.04, z + nz * 0.04)
                    if sok > 0.0:
                        hits = 0.0
                        for oy in range(2):
                            for ox in range(2):
                                qx, qy = int(sx_ - 0.5 + ox), int(sy_ - 0.5 + oy)
                                if (
                                    0 <= qx < shadow.shape[1]
                                    and 0 <= qy < shadow.shape[0]
                                    and shadow[qy, qx] > 1.0 / max(sr - 0.03, 0.05)
                                ):
                                    hits += 0.25
                        power *= 1.0 - 0.85 * hits
                shine = 0.0
                if gloss > 0.0:
                    dot = 2.0 * (dx * nx + dy * ny + dz * nz)
                    spec = max(((dx - dot * nx) * lx + (dy - dot * ny) * ly + (dz - dot * nz) * lz) / d, 0.0)
                    shine = gloss * spec**12
                lr += power * lights[k, 3] * (1 + 3 * shine)
                lg += power * lights[k, 4] * (1 + 3 * shine)
                lb += power * lights[k, 5] * (1 + 3 * shine)
            out[py, px, 0] = r * (lr + emission)
            out[py, px, 1] = g * (lg + emission)
            out[py, px, 2] = bl * (lb + emission)
