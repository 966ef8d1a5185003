"""A recurrent network that reads an image row by row."""

from __future__ import annotations

from torch import Tensor, nn

CLASSES = 10
ROW = 28


class FashionGRU(nn.Module):
    """A linear layer on each row, a GRU over the rows, the mean of its states, a linear layer."""

    def __init__(self, width: int = 32, units: int = 128) -> None:
        super().__init__()
        self.rows = nn.Linear(ROW, width)
        self.recurrent = nn.GRU(width, units, batch_first=True)
        self.classifier = nn.Linear(units, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        states, _ = self.recurrent(self.rows(images.squeeze(1)).relu())
        return self.classifier(states.mean(1))
