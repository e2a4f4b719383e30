"""A visibility-buffer rasteriser on the CPU: which triangle each pixel sees, how far, and how much of whom."""

from __future__ import annotations

import numba as nb
import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]


@nb.njit(cache=True, fastmath=True)
def rasterise(points: F32, triangles: I32, depth: F32, seen: I32) -> None:
    """Draw triangles into ``depth`` (1 / metres, larger is nearer) and ``seen`` (triangle number, -1 for none).

    Args:
        points: ``[V, 4]`` pixel x, pixel y, distance, visible (see ``camera.project``).
        triangles: ``[T, 3]``; those with a corner that cannot be seen are left out.
        depth, seen: ``[H, W]``, changed in place.
    """
    height, width = depth.shape
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        if points[a, 3] == 0.0 or points[b, 3] == 0.0 or points[c, 3] == 0.0:
            continue
        ax, ay, bx, by, cx, cy = points[a, 0], points[a, 1], points[b, 0], points[b, 1], points[c, 0], points[c, 1]
        x0, x1 = min(ax, bx, cx), max(ax, bx, cx)
        y0, y1 = min(ay, by, cy), max(ay, by, cy)
        if x1 < 0.0 or y1 < 0.0 or x0 >= width or y0 >= height:
            continue
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if abs(area) < 1e-7:
            continue
        ia, ib, ic = 1.0 / points[a, 2], 1.0 / points[b, 2], 1.0 / points[c, 2]
        left, right = max(int(np.ceil(x0 - 0.5)), 0), min(int(np.floor(x1 - 0.5)), width - 1)
        upper, lower = max(int(np.ceil(y0 - 0.5)), 0), min(int(np.floor(y1 - 0.5)), height - 1)
        inv = 1.0 / area
        dwb, dwc = (ay - cy) * inv, (by - ay) * inv  # change of the weights of b and c along x
        dwb = (cy - ay) * inv
        dwc = -(by - ay) * inv
        for y in range(upper, lower + 1):
            py = y + 0.5
            px = left + 0.5
            wb = ((px - ax) * (cy - ay) - (py - ay) * (cx - ax)) * inv
            wc = ((py - ay) * (bx - ax) - (px - ax) * (by - ay)) * inv
            for x in range(left, right + 1):
                wa = 1.0 - wb - wc
                if wa >= -1e-5 and wb >= -1e-5 and wc >= -1e-5:
                    w = wa * ia + wb * ib + wc * ic
                    if w > depth[y, x]:
                        depth[y, x] = w
                        seen[y, x] = t
                wb += dwb
                wc += dwc


@nb.njit(cache=True, fastmath=True)
def silhouettes(points: F32, triangles: I32, person_of: I32, people: int, stamp: I32) -> I32:
    """Pixels each person would cover if nothing hid them: ``[people]``.

    ``triangles`` must be sorted by person; ``stamp`` ``[H, W]`` is scratch space filled with -1.
    """
    height, width = stamp.shape
    count = np.zeros(people, np.int32)
    for t in range(triangles.shape[0]):
        person = person_of[t]
        if person < 0:
            continue
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        if points[a, 3] == 0.0 or points[b, 3] == 0.0 or points[c, 3] == 0.0:
            continue
        ax, ay, bx, by, cx, cy = points[a, 0], points[a, 1], points[b, 0], points[b, 1], points[c, 0], points[c, 1]
        x0, x1 = min(ax, bx, cx), max(ax, bx, cx)
        y0, y1 = min(ay, by, cy), max(ay, by, cy)
        if x1 < 0.0 or y1 < 0.0 or x0 >= width or y0 >= height:
            continue
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if abs(area) < 1e-7:
            continue
        inv = 1.0 / area
        left, right = max(int(np.ceil(x0 - 0.5)), 0), min(int(np.floor(x1 - 0.5)), width - 1)
        upper, lower = max(int(np.ceil(y0 - 0.5)), 0), min(int(np.floor(y1 - 0.5)), height - 1)
        for y in range(upper, lower + 1):
            py = y + 0.5
            for x in range(left, right + 1):
                if stamp[y, x] == person:
                    continue
                px = x + 0.5
                wb = ((px - ax) * (cy - ay) - (py - ay) * (cx - ax)) * inv
                wc = ((py - ay) * (bx - ax) - (px - ax) * (by - ay)) * inv
                if wb >= -1e-5 and wc >= -1e-5 and wb + wc <= 1.00001:
                    stamp[y, x] = person
                    count[person] += 1
    return count


@nb.njit(cache=True)
def visible_extents(seen: I32, owner: I32, people: int) -> tuple[I32, I32]:
    """Visible pixels and extents of each owner: counts ``[people]`` and ``[people, 4]`` x0 y0 x1 y1 (inclusive).

    Rows and columns that hold next to nothing of a person (a strand of hair, a sliver between two chairs) do not
    stretch the extent: the first and last 0.4 % of the pixels along each axis are passed over, as an annotator would.
    """
    height, width = seen.shape
    count = np.zeros(people, np.int32)
    columns = np.zeros((people, width), np.int32)
    rows = np.zeros((people, height), np.int32)
    for y in range(height):
        for x in range(width):
            t = seen[y, x]
            if t >= 0 and owner[t] >= 0:
                p = owner[t]
                count[p] += 1
                columns[p, x] += 1
                rows[p, y] += 1
    box = np.zeros((people, 4), np.int32)
    for p in range(people):
        if count[p] == 0:
            continue
        spare = int(count[p] * 0.004)
        for axis in range(2):
            line = columns[p] if axis == 0 else rows[p]
            total = 0
            for k in range(line.shape[0]):
                total += line[k]
                if total > spare:
                    box[p, axis] = k
                    break
            total = 0
            for k in range(line.shape[0] - 1, -1, -1):
                total += line[k]
                if total > spare:
                    box[p, axis + 2] = k
                    break
    return count, box


@nb.njit(cache=True, fastmath=True)
def vertex_normals(vertices: F32, triangles: I32) -> F32:
    """Smooth normals ``[V, 3]`` by the areas of the faces around each vertex."""
    out = np.zeros_like(vertices)
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ux, uy, uz = vertices[b, 0] - vertices[a, 0], vertices[b, 1] - vertices[a, 1], vertices[b, 2] - vertices[a, 2]
        vx, vy, vz = vertices[c, 0] - vertices[a, 0], vertices[c, 1] - vertices[a, 1], vertices[c, 2] - vertices[a, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for k in (a, b, c):
            out[k, 0] += nx
            out[k, 1] += ny
            out[k, 2] += nz
    for i in range(out.shape[0]):
        n = np.sqrt(out[i, 0] ** 2 + out[i, 1] ** 2 + out[i, 2] ** 2)
        if n > 0:
            out[i] /= n
    return out


@nb.njit(cache=True)
def height_map(vertices: F32, triangles: I32, extent: F32, cells: int) -> F32:
    """What stands on the floor, from above: highest vertex per cell ``[cells, cells]`` (a soft occlusion map)."""
    out = np.zeros((cells, cells), np.float32)
    sx, sz = cells / extent[0], cells / extent[1]
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        y = (vertices[a, 1] + vertices[b, 1] + vertices[c, 1]) / 3
        for k in range(4):  # corners and middle: furniture is cut into pieces below half a metre
            if k == 3:
                x = (vertices[a, 0] + vertices[b, 0] + vertices[c, 0]) / 3
                z = (vertices[a, 2] + vertices[b, 2] + vertices[c, 2]) / 3
            else:
                x, z = vertices[triangles[t, k], 0], vertices[triangles[t, k], 2]
            i, j = int(z * sz), int(x * sx)
            if 0 <= i < cells and 0 <= j < cells and y > out[i, j]:
                out[i, j] = y
    return out
