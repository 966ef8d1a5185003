"""One-dimensional convolutions that name the pitch class of a tone."""

from __future__ import annotations

from torch import Tensor, nn

CLASSES = 12


class TonesConvNet(nn.Module):
    """Four strided conv-BN-ReLU layers, 32-48-64-96 channels, a mean over time, a linear layer."""

    def __init__(self, widths: tuple[int, int, int, int] = (32, 48, 64, 96)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for index, width in enumerate(widths):
            kernel, stride = (32, 4) if index == 0 else (9, 2)
            layers += [
                nn.Conv1d(channels, width, kernel, stride, kernel // 2, bias=False),
                nn.BatchNorm1d(width),
                nn.ReLU(inplace=True),
            ]
            channels = width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, CLASSES)

    def forward(self, sounds: Tensor) -> Tensor:
        return self.classifier(self.features(sounds).mean(2))
