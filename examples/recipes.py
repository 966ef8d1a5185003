"""How each example network is trained: for how long, with what, on how varied samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from examples.networks.transformer import TextTransformer


def moved(images: Tensor, generator: torch.Generator) -> Tensor:
    """Move each image (n, 1, 28, 28) by up to two pixels each way."""
    count, _, height, width = images.shape
    padded = functional.pad(images, (2, 2, 2, 2))
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    down, right = torch.randint(0, 5, (2, count), generator=generator)
    return windows[torch.arange(count), :, down, right]


def moved_and_mirrored(images: Tensor, generator: torch.Generator) -> Tensor:
    """The same, and mirror each image by chance."""
    result = moved(images, generator)
    mirror = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(mirror[:, None, None, None], result.flip(3), result)


def unchanged(samples: Tensor, generator: torch.Generator) -> Tensor:
    """The samples as they are."""
    return samples


def of_classes(network: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    """How unsure the network is of the labels (n,): cross-entropy."""
    return functional.cross_entropy(network(inputs).float(), labels)


def of_every_character(network: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    """The same of a text network, which learns what follows everywhere in the windows (n, 64)."""
    assert isinstance(network, TextTransformer)
    following = torch.cat([inputs[:, 1:], labels[:, None]], 1)
    return functional.cross_entropy(network.everywhere(inputs).float(), following)


def momentum(network: nn.Module) -> torch.optim.Optimizer:
    """Stochastic gradient descent with Nesterov momentum; its rate comes from a schedule."""
    return torch.optim.SGD(
        network.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4
    )


def adam(network: nn.Module) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay; its rate comes from a schedule."""
    return torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.05)


@dataclass(frozen=True)
class Recipe:
    """How one network is trained.

    Attributes:
        epochs: passes over the training samples.
        rate: the highest learning rate of one cycle.
        optimizer: for the network.
        augment: makes of a batch (n, …) another of the same shape.
        bfloat16: whether the forward pass computes in it, where that is faster.
        loss: of the network on a batch of inputs and labels, which descent lowers.
    """

    epochs: int
    rate: float
    optimizer: Callable[[nn.Module], torch.optim.Optimizer] = momentum
    augment: Callable[[Tensor, torch.Generator], Tensor] = moved_and_mirrored
    bfloat16: bool = True
    loss: Callable[[nn.Module, Tensor, Tensor], Tensor] = of_classes


RECIPES: dict[str, Recipe] = {
    "fashion_vgg": Recipe(12, 0.1),
    "fashion_resnet": Recipe(12, 0.1),
    "fashion_mobilenet": Recipe(5, 0.1, bfloat16=False),
    "fashion_densenet": Recipe(5, 0.1),
    "fashion_gru": Recipe(4, 3e-3, adam, bfloat16=False),
    "mnist_vit": Recipe(8, 3e-3, adam, moved, bfloat16=False),
    "mnist_mlp": Recipe(20, 3e-3, adam, moved, bfloat16=False),
    "tones_conv": Recipe(8, 0.1, augment=unchanged),
    "text_transformer": Recipe(1, 3e-3, adam, unchanged, bfloat16=False, loss=of_every_character),
}
