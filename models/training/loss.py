"""Assignment and losses: which cells learn which person, how well a box fits, how sure to be.

Task-aligned assignment (Feng et al., TOOD, 2021: score^a * IoU^b picks the cells) with a quality focal loss (Li et al.,
Generalized Focal Loss, 2020) on IoU targets and GIoU (Rezatofighi et al., 2019) on boxes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .net import decode


def pair_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of ``[..., N, 4]`` and ``[..., M, 4]``: ``[..., N, M]``."""
    low = torch.maximum(a[..., :, None, :2], b[..., None, :, :2])
    high = torch.minimum(a[..., :, None, 2:], b[..., None, :, 2:])
    inter = (high - low).clamp(min=0).prod(-1)
    area_a = (a[..., 2:] - a[..., :2]).clamp(min=0).prod(-1)[..., :, None]
    area_b = (b[..., 2:] - b[..., :2]).clamp(min=0).prod(-1)[..., None, :]
    return inter / (area_a + area_b - inter + 1e-6)


def giou(a: Tensor, b: Tensor) -> Tensor:
    """Generalised IoU of ``[N, 4]`` pairs."""
    inter = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(-1)
    union = (a[:, 2:] - a[:, :2]).clamp(min=0).prod(-1) + (b[:, 2:] - b[:, :2]).clamp(min=0).prod(-1) - inter + 1e-6
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).clamp(min=0).prod(-1) + 1e-6
    return inter / union - (hull - union) / hull


@torch.no_grad()
def assign(
    score: Tensor, boxes: Tensor, centres: Tensor, strides: Tensor, truth: Tensor, real: Tensor, top: int = 9
) -> tuple[Tensor, Tensor]:
    """Which cell learns whom, and how sure it shall be.

    Args:
        score: ``[B, A]`` sigmoid. boxes: ``[B, A, 4]``. truth: ``[B, N, 4]`` padded.
        real: ``[B, N]``, False for the padding.

    Returns:
        index of the person each cell learns (-1: none) ``[B, A]`` and the target of its score ``[B, A]``.
    """
    iou = pair_iou(truth, boxes)  # B, N, A
    # a cell may learn a person when its centre lies in the box, or within a stride of the middle of a tiny one
    x, y = centres[:, 0], centres[:, 1]
    inside = (x > truth[..., 0:1]) & (x < truth[..., 2:3]) & (y > truth[..., 1:2]) & (y < truth[..., 3:4])
    middle = (truth[..., :2] + truth[..., 2:]) / 2
    near = torch.maximum((x - middle[..., 0:1]).abs(), (y - middle[..., 1:2]).abs()) < strides * 0.9
    side = (truth[..., 2:] - truth[..., :2]).prod(-1).clamp(min=1).sqrt()
    # and at a scale that suits it: helps before boxes mean anything
    fit = torch.exp(-0.5 * (torch.log2(side[..., None] / (strides * 4.5)) / 1.1) ** 2)
    metric = score.clamp(min=1e-4)[:, None].sqrt() * (iou + 0.02) ** 4 * (fit + 0.02)
    metric = metric * ((inside | near) & real[..., None])
    value, cell = metric.topk(min(top, metric.shape[-1]), dim=-1)
    picked = torch.zeros_like(metric)
    picked.scatter_(-1, cell, (value > 0).to(metric))
    contested = metric * picked
    best, owner = contested.max(1)
    chosen = best > 0
    norm = contested.amax(-1).clamp(min=1e-12).gather(1, owner)
    peak = (iou * picked).amax(-1).gather(1, owner)
    quality = ((best / norm).clamp(max=1) * peak).clamp(min=0.05)
    return torch.where(chosen, owner, -1), torch.where(chosen, quality, 0.0)


def _padded(boxes: list[Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    most = max(1, max(len(b) for b in boxes))
    out = torch.zeros(len(boxes), most, 4)  # filled on the CPU, moved once
    real = torch.zeros(len(boxes), most, dtype=torch.bool)
    for k, b in enumerate(boxes):
        out[k, : len(b)] = b
        real[k, : len(b)] = True
    return out.to(device), real.to(device)


def detection_loss(maps: list[Tensor], truths: list[Tensor], ignores: list[Tensor]) -> tuple[Tensor, dict[str, float]]:
    """Loss of a batch.

    Args:
        maps: see ``Detector.forward``.
        truths: people to find, ``[N, 4]`` a picture.
        ignores: boxes in which nothing is taught (hardly visible people, unsure labels), ``[K, 4]`` a picture.
    """
    logits, boxes, centres, strides = decode(maps)
    score = logits.detach().sigmoid()
    truth, real = _padded(truths, score.device)
    which, target = assign(score, boxes.detach(), centres, strides, truth, real)
    chosen = which >= 0
    hidden, _ = _padded(ignores, score.device)
    x, y = centres[:, 0], centres[:, 1]
    covered = (
        (x > hidden[..., 0:1] - 4) & (x < hidden[..., 2:3] + 4)
        & (y > hidden[..., 1:2] - 4) & (y < hidden[..., 3:4] + 4)
        & (hidden[..., 2:3] > 0)
    ).any(1)  # fmt: skip
    weight = (chosen | ~covered).to(score)
    focal = (target - score) ** 2 * torch.where(chosen, 1.0, 0.75)
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    total_class = (entropy * focal * weight).sum()
    part = target[chosen].clamp(min=0.1)
    wanted = truth[chosen.nonzero()[:, 0], which[chosen]]
    total_box = ((1 - giou(boxes[chosen], wanted)) * part).sum()
    norm = max(float(part.sum()), 1.0)
    loss = total_class / norm + 2.0 * total_box / norm
    parts = {
        "class": float(total_class.detach()) / norm,
        "box": float(total_box.detach()) / norm,
        "cells": float(chosen.sum()),
    }
    return loss, parts
