"""What a larger network sees in every cell, as a second thing to learn beside the labels.

A teacher that has seen many real people (YOLOX-Nano, Apache-2.0) looks at the very pictures that training shows, with
all their changes. The student learns to tell from its own features what the teacher's last layers hold (after Romero
et al., FitNets, 2015) and how sure the teacher is of a person in each cell, through small linear heads that do not
ship. It works on pictures that the teacher never saw, renderings and empty rooms included: a function is copied, not
labels (Beyer et al., Knowledge distillation: a good teacher is patient and consistent, 2022).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .loss import giou
from .net import STRIDES
from .teacher import WIDTH, Seen


class Copies(nn.Module):
    """The heads that learn from the teacher; thrown away when the student ships."""

    def __init__(self, width: int, count: int = len(STRIDES)) -> None:
        super().__init__()
        self.features = nn.ModuleList(nn.Conv2d(width, WIDTH, 1) for _ in range(count))
        self.score = nn.ModuleList(nn.Conv2d(width, 1, 1) for _ in range(count))
        self.box = nn.ModuleList(nn.Conv2d(width, 4, 1) for _ in range(count))
        # running mean and variance of the teacher's channels: every channel weighs the same
        self.scale = nn.ModuleList(nn.BatchNorm2d(WIDTH, affine=False, momentum=0.01) for _ in range(count))
        for layer in self.score:
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.constant_(layer.bias, -4.6)
        for layer in self.box:
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.constant_(layer.bias, 0.7)

    def loss(self, features: Sequence[Tensor], seen: Sequence[Seen]) -> tuple[Tensor, dict[str, float]]:
        """How far the student is from the teacher.

        Args:
            features: the student's last features, ``[B, width, h, w]`` a stride.
        """
        copied, sure, fit, norm = [], [], [], 1.0
        for k, (mine, its) in enumerate(zip(features, seen, strict=True)):
            stride = STRIDES[k]
            score = torch.from_numpy(its.score).to(mine.device)
            wanted = self.scale[k](torch.from_numpy(its.features).to(mine.device)).clamp(-6, 6)
            difference = (self.features[k](mine).float() - wanted).square().mean(1)
            weight = 1 + 8 * score  # people matter more than walls
            copied.append((difference * weight).sum() / weight.sum())
            logit = self.score[k](mine).float()[:, 0]
            entropy = nn.functional.binary_cross_entropy_with_logits(logit, score, reduction="none")
            floor = nn.functional.binary_cross_entropy(score, score, reduction="none")  # what cannot be saved
            sure.append(((entropy - floor) * (score - logit.detach().sigmoid()).abs().clamp(min=0.1)).sum())
            chosen = score > 0.2
            norm += float(score[chosen].sum())
            reach = torch.exp(self.box[k](mine).float().clamp(-4, 5)) * stride
            y, x = torch.meshgrid(*(torch.arange(n, device=mine.device) for n in score.shape[1:]), indexing="ij")
            x, y = ((x + 0.5) * stride).expand_as(score), ((y + 0.5) * stride).expand_as(score)
            boxes = torch.stack([x - reach[:, 0], y - reach[:, 1], x + reach[:, 2], y + reach[:, 3]], -1)
            target = torch.from_numpy(its.boxes).to(mine.device)
            fit.append(((1 - giou(boxes[chosen], target[chosen])) * score[chosen]).sum())
        parts = torch.stack([torch.stack(copied).mean(), torch.stack(sure).sum() / norm, torch.stack(fit).sum() / norm])
        names = ("copied", "teacher", "teacher_box")
        return parts.sum(), dict(zip(names, (float(p) for p in parts.detach()), strict=True))
