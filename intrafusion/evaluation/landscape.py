"""A slice through the loss around a network's weights (figure 6 of the paper)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss

from intrafusion.calibration.datasets import Dataset, check_fits
from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.program.program import Program

BATCH = 64


@dataclass(frozen=True)
class Landscape:
    """The loss on a square around the weights; they are in its middle.

    Attributes:
        steps: (points,) how far the weights are moved along each of the two directions; 1 is as
            far as the weights of a filter are long.
        loss: (points, points) mean loss, rows by the first direction.
    """

    steps: Tensor
    loss: Tensor


def loss_landscape(
    program: Program, dataset: Dataset, *, points: int = 11, reach: float = 0.5, seed: int = 0
) -> Landscape:
    """The loss of `program` with its weights moved along two random directions.

    Each filter of a direction is as long as the filter of the weight it moves, so that slices of
    networks of different widths can be compared; biases and what else has one dimension stay (Li
    et al., Visualizing the Loss Landscape of Neural Nets, NeurIPS 2018, section 4). The loss is the
    cross-entropy with `labels`, or the mean squared error with `targets`.

    Args:
        program: original or compressed.
        dataset: samples with labels or targets; all are run `points`² times.
        points: of each side, odd so that the weights themselves are among them.
        reach: the largest step.
        seed: of the directions.

    Raises:
        IntraFusionError: `DATASET_LABELS_INVALID` without labels or targets, and as
            `intrafusion.calibration.check_fits` does; `INVALID_SPEC` for an even number of points.
    """
    if points % 2 == 0:
        raise IntraFusionError(
            ErrorCode.INVALID_SPEC,
            f"{points} points have none in the middle.",
            "Ask for an odd number.",
        )
    check_fits(dataset, program)
    dataset = dataset.to(program.device)
    loss = _loss_on(dataset)
    generator = torch.Generator().manual_seed(seed)
    first, second = (_direction(program, generator) for _ in range(2))
    side = points // 2
    steps = torch.arange(-side, side + 1) * (reach / max(1, side))
    rows = [[loss(_moved(program, first, a, second, b)) for b in steps] for a in steps]
    return Landscape(steps, torch.tensor(rows, dtype=torch.float64))


def _loss_on(dataset: Dataset) -> Callable[[Program], float]:
    measure: Callable[..., Tensor]
    if dataset.labels is not None:
        measure, wanted = cross_entropy, dataset.labels
    elif dataset.targets is not None:
        measure, wanted = mse_loss, dataset.targets
    else:
        raise IntraFusionError(
            ErrorCode.DATASET_LABELS_INVALID,
            "A loss needs to know what is right, and the samples have neither labels nor targets.",
            "Add the array 'labels' or 'targets'.",
        )

    def loss(program: Program) -> float:
        total = 0.0
        for start in range(0, len(dataset), BATCH):
            part = slice(start, start + BATCH)
            found = program.outputs(*(x[part] for x in dataset.inputs))[0]
            total += float(measure(found, wanted[part])) * len(found)
        return total / len(dataset)

    return loss


def _direction(program: Program, generator: torch.Generator) -> dict[str, Tensor]:
    """A random tensor for every weight, each of its filters as long as the weight's."""
    directions = {}
    for name in sorted(program.trainable):
        weight = program.tensors[name]
        if weight.dim() > 1 and weight.is_floating_point():
            noise = torch.randn(weight.shape, generator=generator).to(weight)
            lengths = weight.flatten(1).norm(dim=1) / noise.flatten(1).norm(dim=1)
            directions[name] = noise * lengths.reshape(-1, *[1] * (weight.dim() - 1))
    return directions


def _moved(
    program: Program,
    first: Mapping[str, Tensor],
    a: Tensor,
    second: Mapping[str, Tensor],
    b: Tensor,
) -> Program:
    moved = {
        name: program.tensors[name] + float(a) * first[name] + float(b) * second[name]
        for name in first
    }
    return replace(program, tensors={**program.tensors, **moved})
