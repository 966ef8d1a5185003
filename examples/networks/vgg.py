"""A plain stack of convolutions, as in VGG, for Fashion-MNIST."""

from __future__ import annotations

import torch
from torch import Tensor, nn

CLASSES = 10


class FashionVGG(nn.Module):
    """Four conv-BN-ReLU layers of 32-64-128-128 channels, two max pools, one linear layer.

    241,898 parameters at full width. `widths` are the channels of the four convolutions.
    """

    def __init__(self, widths: tuple[int, int, int, int] = (32, 64, 128, 128)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for index, width in enumerate(widths):
            layers += [
                nn.Conv2d(channels, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            if index < 2:
                layers.append(nn.MaxPool2d(2))
            channels = width
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.pool(self.features(images)), 1))
