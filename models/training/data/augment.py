"""What training does to pictures: frame them anew, put four together, and treat them as room cameras do."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from .shards import Sample

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

MIN_VISIBLE, MIN_SIDE = 0.22, 5.0
"""People of whom less can be seen (share of the body, shorter side in pixels) teach nothing, neither yes nor no."""


@dataclass(frozen=True)
class Example:
    """A training picture ``[H, W, 3]`` uint8, the people to find ``[N, 4]`` and boxes to leave out ``[K, 4]``."""

    image: U8
    boxes: F32
    ignore: F32


def frame(sample: Sample, size: tuple[int, int], rng: Generator, zoom: tuple[float, float] = (0.85, 1.9)) -> Example:
    """Cut, scale, turn and mirror into ``size`` (width, height).

    ``zoom`` is relative to the smallest scale at which the picture fills the frame. Views from above may be
    turned any way.
    """
    height, width = sample.image.shape[:2]
    out_w, out_h = size
    above = "door" in sample.kind or "fisheye" in sample.kind
    angle = rng.normal(0, 0.05)
    if above and rng.random() < 0.7:
        any_way, quarters = rng.random() < 0.15, (math.pi / 2, math.pi, -math.pi / 2)
        angle += rng.uniform(0, 2 * math.pi) if any_way else float(rng.choice(quarters))
    quarter = abs(math.sin(angle)) > 0.7
    fill = max(out_w / (height if quarter else width), out_h / (width if quarter else height))
    scale = fill * math.exp(rng.uniform(math.log(zoom[0]), math.log(zoom[1])))
    stretch = math.exp(rng.normal(0, 0.08))
    flip = -1.0 if rng.random() < 0.5 else 1.0
    c, s = math.cos(angle) * scale, math.sin(angle) * scale
    matrix = np.array([[c * stretch * flip, -s, 0], [s * stretch * flip, c, 0]], np.float32)
    reach = np.abs(matrix[:, :2]) @ np.array([width, height], np.float32)
    # where the picture's middle comes to lie: anywhere that keeps the frame filled
    room = np.maximum(reach - [out_w, out_h], 0) / 2
    centre = np.array([out_w / 2, out_h / 2])
    middle = centre + rng.uniform(-1, 1, 2) * room
    if len(sample.boxes) and rng.random() < 0.6:  # rather look where people are
        box = sample.boxes[int(rng.integers(len(sample.boxes)))]
        point = matrix[:, :2] @ (np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]) - [width / 2, height / 2])
        want = np.array([rng.uniform(0.15, 0.85) * out_w, rng.uniform(0.15, 0.85) * out_h]) - point
        middle = np.clip(want, centre - room, centre + room)
    matrix[:, 2] = middle - matrix[:, :2] @ np.array([width / 2, height / 2], np.float32)
    grey = int(rng.integers(0, 255)) if rng.random() < 0.5 else 114
    image = sample.image
    if scale < 0.55:  # halve first: the warp itself does not average
        image = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        warp = np.column_stack([matrix[:, :2] * 2, matrix[:, 2]])
    else:
        warp = matrix
    image = cv2.warpAffine(image, warp, size, flags=cv2.INTER_LINEAR, borderValue=(grey, grey, grey))
    return _label(image, sample, matrix)


def _label(image: U8, sample: Sample, matrix: F32) -> Example:
    boxes = sample.boxes
    if not len(boxes):
        return Example(image, np.zeros((0, 4), np.float32), np.zeros((0, 4), np.float32))
    # a body is nearer to an ellipse than to its box: the hull of a turned box would be too large
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2 @ matrix[:, :2].T + matrix[:, 2]
    half = np.sqrt(((boxes[:, 2:] - boxes[:, :2]) / 2) ** 2 @ (matrix[:, :2] ** 2).T)
    whole = np.concatenate([middle - half, middle + half], 1)
    height, width = image.shape[:2]
    cut = whole.copy()
    cut[:, [0, 2]] = cut[:, [0, 2]].clip(0, width)
    cut[:, [1, 3]] = cut[:, [1, 3]].clip(0, height)
    area = np.prod(np.maximum(whole[:, 2:] - whole[:, :2], 1e-3), 1)
    side = cut[:, 2:] - cut[:, :2]
    left = np.prod(np.maximum(side, 0), 1) / area
    there = (side.min(1) > 1.5) & (left > 0.02)
    visible = sample.labels[:, 9]
    good = there & (visible >= MIN_VISIBLE) & (left >= 0.25) & (side.min(1) >= MIN_SIDE)
    return Example(image, cut[good].astype(np.float32), cut[there & ~good].astype(np.float32))


def mosaic(samples: list[Sample], size: tuple[int, int], rng: Generator) -> Example:
    """Four pictures around a random cross, each smaller than alone."""
    width, height = size
    cx, cy = int(width * rng.uniform(0.35, 0.65)), int(height * rng.uniform(0.35, 0.65))
    image = np.empty((height, width, 3), np.uint8)
    boxes, ignore = [np.zeros((0, 4), np.float32)], [np.zeros((0, 4), np.float32)]
    corners = ((0, 0, cx, cy), (cx, 0, width, cy), (0, cy, cx, height), (cx, cy, width, height))
    for sample, (x0, y0, x1, y1) in zip(samples, corners, strict=True):
        part = frame(sample, (x1 - x0, y1 - y0), rng, (0.95, 2.2))
        image[y0:y1, x0:x1] = part.image
        shift = np.array([x0, y0, x0, y0], np.float32)
        boxes.append(part.boxes + shift)
        ignore.append(part.ignore + shift)
    return Example(image, np.concatenate(boxes), np.concatenate(ignore))


_NOISE: list[F32] = []


def _noise(shape: tuple[int, ...], rng: Generator) -> F32:
    """Normal noise cut from a fixed sheet: drawing it anew costs more than all the rest."""
    if not _NOISE:
        _NOISE.append(np.random.default_rng(99).standard_normal((640, 1024, 3), np.float32))
    sheet = _NOISE[0]
    y, x = int(rng.integers(sheet.shape[0] - shape[0])), int(rng.integers(sheet.shape[1] - shape[1]))
    return sheet[y : y + shape[0], x : x + shape[1]]


def camera_look(image: U8, rng: Generator) -> U8:
    """Light, colour, focus, noise and compression of ordinary room cameras."""
    # exposure, white balance, contrast and gamma are one table a channel
    ramp: NDArray[np.float64] = np.arange(256.0)[:, None].repeat(3, 1)
    mean = float(image[::16, ::16].mean())
    if rng.random() < 0.8 or mean < 40:
        ramp = ramp * (rng.uniform(*((1.0, 2.6) if mean < 55 else (0.65, 1.5))) * rng.uniform(0.88, 1.12, 3))
        pivot = mean
        ramp = (ramp - pivot) * rng.uniform(0.75, 1.35) + pivot + rng.uniform(-18, 18)
    ramp = np.clip(ramp, 0, 255)
    if rng.random() < 0.5:  # gamma, often towards the dark
        ramp = 255 * (ramp / 255) ** float(np.exp(rng.normal(0.0, 0.35)))
    x = cv2.LUT(image, ramp.astype(np.uint8)[None])
    roll = rng.random()
    grey = np.array([[0.114, 0.587, 0.299]], np.float32).repeat(3, 0)
    if roll < 0.14:  # grey or infra-red (red counts most under infra-red lamps)
        x = cv2.transform(x, grey if rng.random() < 0.6 else np.array([[0.0, 0.3, 0.7]], np.float32).repeat(3, 0))
    elif roll < 0.6:
        share = rng.uniform(0.3, 1.5)
        x = cv2.transform(x, (share * np.eye(3) + (1 - share) * grey).astype(np.float32))
    if rng.random() < 0.08:  # the picture falls off towards the corners
        height, width = x.shape[:2]
        v, u = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None]
        x = (x * (1 - rng.uniform(0.2, 0.6) * (u * u + v * v) / 2)[..., None].astype(np.float32)).astype(np.uint8)
    height, width = x.shape[:2]
    roll = rng.random()
    if roll < 0.15:
        x = cv2.GaussianBlur(x, (0, 0), rng.uniform(0.4, 1.4))
    elif roll < 0.21:  # motion
        n = int(rng.integers(3, 8))
        kernel = np.zeros((n, n), np.float32)
        cv2.line(kernel, (0, int(rng.integers(n))), (n - 1, int(rng.integers(n))), 1.0)
        x = cv2.filter2D(x, -1, kernel / max(float(kernel.sum()), 1.0))
    elif roll < 0.32:  # fewer pixels
        f = rng.uniform(0.45, 0.85)
        back = int(rng.choice([cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_NEAREST]))
        x = cv2.resize(
            cv2.resize(x, None, fx=f, fy=f, interpolation=cv2.INTER_AREA), (width, height), interpolation=back
        )
    elif roll < 0.42:  # sharpened
        x = cv2.addWeighted(x, 2.0, cv2.GaussianBlur(x, (0, 0), 1.2), -1.0, 0)
    if rng.random() < 0.4:
        noise = _noise(x.shape, rng)
        strength = rng.uniform(1, 14 if rng.random() < 0.3 else 6)
        if rng.random() < 0.5:
            noise = noise[..., :1].repeat(3, 2)
        x = cv2.add(x, noise * np.float32(strength), dtype=cv2.CV_8U)
    if rng.random() < 0.3:
        data = cv2.imencode(".jpg", x, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(18, 80))])[1]
        x = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return np.ascontiguousarray(x)
