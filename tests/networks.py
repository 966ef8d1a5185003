"""Small networks of the shapes people have, with weights and statistics that look trained."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

INPUT_SHAPE = (3, 16, 16)
"""The shape of one sample for every network here."""

CLASSES = 10


class VGGSmall(nn.Module):
    """Convolutions in a row, flattened into a classifier; 8-12-16 channels."""

    def __init__(self, batch_norm: bool = True) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = INPUT_SHAPE[0]
        for width in (8, 12, 16):
            layers.append(nn.Conv2d(channels, width, 3, padding=1, bias=not batch_norm))
            if batch_norm:
                layers.append(nn.BatchNorm2d(width))
            layers += [nn.ReLU(inplace=True), nn.MaxPool2d(2)]
            channels = width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(16 * 2 * 2, 20), nn.ReLU(), nn.Dropout(), nn.Linear(20, CLASSES)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        return self.classifier(x.view(x.size(0), -1))


class BasicBlock(nn.Module):
    def __init__(self, inward: int, outward: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inward, outward, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outward)
        self.conv2 = nn.Conv2d(outward, outward, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outward)
        self.shortcut = (
            nn.Identity()
            if stride == 1 and inward == outward
            else nn.Sequential(
                nn.Conv2d(inward, outward, 1, stride, bias=False), nn.BatchNorm2d(outward)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += self.shortcut(x)
        return functional.relu(y)


class ResNetSmall(nn.Module):
    """Two stages of basic blocks, the second with a strided shortcut; 8 and 12 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(INPUT_SHAPE[0], 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()
        )
        self.stages = nn.Sequential(
            BasicBlock(8, 8, 1), BasicBlock(8, 12, 2), BasicBlock(12, 12, 1)
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.flatten(self.pool(self.stages(self.stem(x))), 1))


class InvertedResidual(nn.Module):
    def __init__(self, inward: int, outward: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inward * expansion
        self.residual = stride == 1 and inward == outward
        self.conv = nn.Sequential(
            nn.Conv2d(inward, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(inplace=True),
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(inplace=True),
            nn.Conv2d(hidden, outward, 1, bias=False),
            nn.BatchNorm2d(outward),
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.residual:
            return x + self.conv(x)
        return self.conv(x)


class MobileNetSmall(nn.Module):
    """Inverted residuals with depthwise convolutions, as in MobileNetV2."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(INPUT_SHAPE[0], 8, 3, 2, 1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU6(inplace=True),
            InvertedResidual(8, 8, 1, 2),
            InvertedResidual(8, 12, 2, 2),
            InvertedResidual(12, 12, 1, 2),
        )
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(12, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        x = functional.adaptive_avg_pool2d(self.features(x), (1, 1))
        return self.classifier(x.reshape(x.shape[0], -1))


class ConcatSmall(nn.Module):
    """Dense blocks: every layer sees the concatenation of what came before, then batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(INPUT_SHAPE[0], 8, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(8)
        self.conv1 = nn.Conv2d(8, 6, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(14)
        self.conv2 = nn.Conv2d(14, 6, 3, padding=1)
        self.norm3 = nn.BatchNorm2d(20)
        self.fc = nn.Linear(20, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        a = self.stem(x)
        b = self.conv1(functional.relu(self.norm1(a)))
        c = self.conv2(functional.relu(self.norm2(torch.cat([a, b], dim=1))))
        y = functional.relu(self.norm3(torch.cat((a, b, c), 1)))
        return self.fc(y.mean((2, 3)))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "vgg": VGGSmall,
    "resnet": ResNetSmall,
    "mobilenet": MobileNetSmall,
    "concat": ConcatSmall,
}


def build(name: str, seed: int = 0) -> nn.Module:
    """The network `name` in evaluation mode, its batch norms as different as trained ones are."""
    torch.manual_seed(seed)
    return settle(NETWORKS[name]().eval())


def settle(network: nn.Module) -> nn.Module:
    """Give every batch norm statistics and scales of its own, away from 0 and 1."""
    for part in network.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            assert part.running_mean is not None
            assert part.running_var is not None
            part.running_mean.normal_(0, 0.3)
            part.running_var.uniform_(0.5, 1.5)
            if part.affine:
                nn.init.uniform_(part.weight, 0.5, 1.5)
                nn.init.normal_(part.bias, 0, 0.3)
    return network


def samples(count: int, seed: int = 1) -> Tensor:
    """`count` standard normal samples of `INPUT_SHAPE`."""
    return torch.randn((count, *INPUT_SHAPE), generator=torch.Generator().manual_seed(seed))
