"""A small causal transformer that reads text and says which character comes next."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from examples.networks.attention import Block

CLASSES = 128
WINDOW = 64


class TextTransformer(nn.Module):
    """Characters and their places, three causal blocks, a layer norm, one linear layer."""

    def __init__(self, width: int = 64, heads: int = 4, hidden: int = 256, depth: int = 3) -> None:
        super().__init__()
        self.characters = nn.Embedding(CLASSES, width)
        self.positions = nn.Parameter(0.02 * torch.randn(1, WINDOW, width))
        self.blocks = nn.Sequential(
            *(Block(width, heads, hidden, causal=True) for _ in range(depth))
        )
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, CLASSES)

    def forward(self, characters: Tensor) -> Tensor:
        """Scores (n, 128) of what follows windows (n, 64)."""
        return self.classifier(self._read(characters)[:, -1])

    def everywhere(self, characters: Tensor) -> Tensor:
        """Scores (n, 128, 64) of what follows each character, for training."""
        return self.classifier(self._read(characters)).transpose(1, 2)

    def _read(self, characters: Tensor) -> Tensor:
        return self.norm(self.blocks(self.characters(characters) + self.positions))
