"""A small residual network for Fashion-MNIST."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

CLASSES = 10


class BasicBlock(nn.Module):
    """conv-BN-ReLU-conv-BN beside a skip, which is a 1×1 convolution where the shape changes."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, images: Tensor) -> Tensor:
        hidden = functional.relu(self.bn1(self.conv1(images)))
        return functional.relu(self.bn2(self.conv2(hidden)) + self.downsample(images))


class FashionResNet(nn.Module):
    """A convolution, then three stages of two basic blocks, 16-32-64 channels, one linear layer.

    174,970 parameters at full width. The second and third stage halve height and width.
    """

    def __init__(self, widths: tuple[int, int, int] = (16, 32, 64)) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        channels = widths[0]
        stages = []
        for index, width in enumerate(widths):
            stages.append(
                nn.Sequential(
                    BasicBlock(channels, width, stride=1 if index == 0 else 2),
                    BasicBlock(width, width, stride=1),
                )
            )
            channels = width
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.stages(functional.relu(self.bn1(self.conv1(images))))
        return self.classifier(torch.flatten(self.pool(hidden), 1))
