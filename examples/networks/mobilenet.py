"""Inverted residual blocks with depthwise convolutions, as in MobileNetV2, for Fashion-MNIST."""

from __future__ import annotations

import torch
from torch import Tensor, nn

CLASSES = 10


def conv(channels: int, width: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution that keeps the size but for its stride, and its batch norm."""
    return nn.Sequential(
        nn.Conv2d(channels, width, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(width),
    )


class InvertedResidual(nn.Module):
    """1×1 to `expansion` times the channels, 3×3 depthwise, 1×1 back, beside a skip if it fits."""

    def __init__(self, channels: int, width: int, stride: int, expansion: int = 4) -> None:
        super().__init__()
        hidden = expansion * channels
        self.expand = nn.Sequential(conv(channels, hidden, 1), nn.ReLU6(inplace=True))
        self.filter = nn.Sequential(
            conv(hidden, hidden, 3, stride, groups=hidden), nn.ReLU6(inplace=True)
        )
        self.project = conv(hidden, width, 1)
        self.skips = stride == 1 and channels == width

    def forward(self, images: Tensor) -> Tensor:
        changed = self.project(self.filter(self.expand(images)))
        return images + changed if self.skips else changed


class FashionMobileNet(nn.Module):
    """A strided convolution, six inverted residuals of 16-24-40 channels, a 1×1, one linear layer.

    46,106 parameters at full width.
    """

    def __init__(self, widths: tuple[int, int, int] = (16, 24, 40), last: int = 160) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(1, widths[0], 3, stride=2), nn.ReLU6(inplace=True))
        blocks: list[nn.Module] = []
        channels = widths[0]
        for index, width in enumerate(widths):
            blocks += [
                InvertedResidual(channels, width, stride=1 if index == 0 else 2),
                InvertedResidual(width, width, stride=1),
            ]
            channels = width
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(conv(channels, last, 1), nn.ReLU6(inplace=True))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(last, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.head(self.blocks(self.stem(images)))
        return self.classifier(torch.flatten(self.pool(hidden), 1))
