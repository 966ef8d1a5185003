"""A perceptron for MNIST: linear layers and ReLU, no norm anywhere."""

from __future__ import annotations

from torch import Tensor, nn

CLASSES = 10


class MnistMLP(nn.Module):
    """784 pixels, three hidden layers, one linear layer."""

    def __init__(self, widths: tuple[int, int, int] = (192, 128, 96)) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        channels = 784
        for width in widths:
            layers += [nn.Linear(channels, width), nn.ReLU(inplace=True)]
            channels = width
        self.layers = nn.Sequential(*layers, nn.Linear(channels, CLASSES))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)
