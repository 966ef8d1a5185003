"""Layers that read all layers before them, as in DenseNet, for Fashion-MNIST."""

from __future__ import annotations

import torch
from torch import Tensor, nn

CLASSES = 10


class DenseLayer(nn.Module):
    """BN-ReLU-conv 1×1, BN-ReLU-conv 3×3; what it makes is put behind what it read."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, 4 * growth, 1, bias=False),
            nn.BatchNorm2d(4 * growth),
            nn.ReLU(inplace=True),
            nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
        )

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([images, self.layers(images)], 1)


class FashionDenseNet(nn.Module):
    """A strided convolution, three dense blocks of four layers, transitions between, a linear.

    Every layer adds `growth` channels; a transition halves the channels and the size. The batch
    norms stand before their convolutions, so that most cannot be folded.
    """

    def __init__(self, growth: int = 12, stem: int = 24) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, stem, 3, stride=2, padding=1, bias=False)
        channels = stem
        blocks: list[nn.Module] = []
        for block in range(3):
            if block:
                blocks += [
                    nn.BatchNorm2d(channels),
                    nn.ReLU(inplace=True),
                    nn.Conv2d(channels, channels // 2, 1, bias=False),
                    nn.AvgPool2d(2),
                ]
                channels //= 2
            for _ in range(4):
                blocks.append(DenseLayer(channels, growth))
                channels += growth
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(channels)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        hidden = torch.relu(self.norm(self.blocks(self.stem(images))))
        return self.classifier(torch.flatten(self.pool(hidden), 1))
