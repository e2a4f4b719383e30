"""The detector: plain 3x3 convolutions and ReLU, three scales, no anchors, one class.

Sized for a Raspberry Pi 4 class CPU and for int8 kernels: no depthwise convolutions, no attention, nothing that does
not fold into a convolution. Height and width are free, multiples of 32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

STRIDES = (8, 16, 32)
MEAN, SCALE = 114.0, 1 / 58.0
"""Pixels (BGR, 0 to 255) enter as ``(pixel - MEAN) * SCALE``."""


@dataclass(frozen=True)
class Size:
    """Widths at strides 2, 4, 8, 16, 32 and of neck and head; blocks at strides 8, 16, 32."""

    widths: tuple[int, int, int, int, int] = (12, 24, 40, 72, 112)
    blocks: tuple[int, int, int] = (1, 2, 2)
    neck: int = 40


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs, momentum=0.03),
        nn.ReLU(),
    )


class Block(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.a = conv(width, width)
        self.b = nn.Sequential(nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width, momentum=0.03))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.b(self.a(x)))


class Detector(nn.Module):
    """``[B, 3, H, W]`` normalised pixels to raw maps.

    ``forward`` returns one ``[B, 5, H/s, W/s]`` map a stride: the score's logit and the logarithms of the distances
    left, top, right, bottom in strides.
    """

    def __init__(self, size: Size = Size()) -> None:
        super().__init__()
        a, b, c, d, e = size.widths
        n = size.neck
        self.stem = nn.Sequential(conv(3, a, 3, 2), conv(a, b, 3, 2))
        self.c3 = nn.Sequential(conv(b, c, 3, 2), *(Block(c) for _ in range(size.blocks[0])))
        self.c4 = nn.Sequential(conv(c, d, 3, 2), *(Block(d) for _ in range(size.blocks[1])))
        self.c5 = nn.Sequential(conv(d, e, 3, 2), *(Block(e) for _ in range(size.blocks[2])), conv(e, e))
        self.l3, self.l4, self.l5 = conv(c, n, 1), conv(d, n, 1), conv(e, n, 1)
        self.m4 = conv(n, n)
        self.down3, self.down4 = conv(n, n, 3, 2), conv(n, n, 3, 2)
        self.heads = nn.ModuleList(conv(n, n) for _ in STRIDES)
        self.score = nn.ModuleList(nn.Conv2d(n, 1, 1) for _ in STRIDES)
        self.box = nn.ModuleList(nn.Conv2d(n, 4, 1) for _ in STRIDES)
        for layer in self.score:
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.constant_(layer.bias, -math.log(99))
        for layer in self.box:
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.constant_(layer.bias, 0.7)

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.predict(self.features(x))

    def predict(self, features: list[Tensor]) -> list[Tensor]:
        """From the features of each stride to the raw maps."""
        return [torch.cat([self.score[k](f), self.box[k](f)], 1) for k, f in enumerate(features)]

    def features(self, x: Tensor) -> list[Tensor]:
        """The last features of each stride, ``[B, neck, H/s, W/s]``."""
        c3 = self.c3(self.stem(x))
        c4 = self.c4(c3)
        c5 = self.l5(self.c5(c4))
        p4 = self.m4(self.l4(c4) + nn.functional.interpolate(c5, scale_factor=2.0, mode="nearest"))
        p3 = self.l3(c3) + nn.functional.interpolate(p4, scale_factor=2.0, mode="nearest")
        f3 = self.heads[0](p3)
        f4 = self.heads[1](p4 + self.down3(f3))
        return [f3, f4, self.heads[2](c5 + self.down4(f4))]


def decode(maps: list[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Raw maps to logits ``[B, A]``, boxes ``[B, A, 4]`` in pixels, cell centres ``[A, 2]`` and strides ``[A]``."""
    logits, boxes, centres, strides = [], [], [], []
    for raw, stride in zip(maps, STRIDES, strict=True):
        height, width = raw.shape[2:]
        y, x = torch.meshgrid(
            torch.arange(height, device=raw.device), torch.arange(width, device=raw.device), indexing="ij"
        )
        centre = (torch.stack([x, y], -1).reshape(-1, 2).float() + 0.5) * stride
        flat = raw.float().permute(0, 2, 3, 1).reshape(raw.shape[0], -1, 5)
        reach = torch.exp(flat[..., 1:].clamp(-4, 5)) * stride
        logits.append(flat[..., 0])
        boxes.append(torch.cat([centre - reach[..., :2], centre + reach[..., 2:]], -1))
        centres.append(centre)
        strides.append(torch.full((len(centre),), float(stride), device=raw.device))
    return torch.cat(logits, 1), torch.cat(boxes, 1), torch.cat(centres), torch.cat(strides)


def cost(net: nn.Module, height: int = 256, width: int = 416) -> tuple[int, int]:
    """Parameters (batch norms folded) and multiply-adds of one picture."""
    total = 0

    def count(layer: nn.Module, _: object, output: Tensor) -> None:
        nonlocal total
        assert isinstance(layer, nn.Conv2d)
        total += output.shape[2] * output.shape[3] * layer.weight.numel()

    hooks = [m.register_forward_hook(count) for m in net.modules() if isinstance(m, nn.Conv2d)]
    was = net.training
    net.eval()
    with torch.no_grad():
        net(torch.zeros(1, 3, height, width))
    net.train(was)
    for hook in hooks:
        hook.remove()
    parameters = sum(m.weight.numel() + m.out_channels for m in net.modules() if isinstance(m, nn.Conv2d))
    return parameters, total
