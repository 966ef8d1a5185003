"""A small vision transformer for MNIST."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from examples.networks.attention import Block

CLASSES = 10
TOKENS = 16


class MnistViT(nn.Module):
    """Patches of 7×7, learned positions, four blocks, the mean token, one linear layer."""

    def __init__(self, width: int = 64, heads: int = 4, hidden: int = 128, depth: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 7, stride=7)
        self.positions = nn.Parameter(0.02 * torch.randn(1, TOKENS, width))
        self.blocks = nn.Sequential(*(Block(width, heads, hidden) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2) + self.positions
        return self.classifier(self.norm(self.blocks(tokens)).mean(1))
