"""Importance by channel independence: what a unit adds that the others do not have."""

from __future__ import annotations

import torch
from torch import Tensor

from intrafusion.channels import Group
from intrafusion.importance.activation import mean_over_readings
from intrafusion.importance.context import Context, needs

SAMPLES = 16
"""Feature maps looked at; scores hardly change from sample to sample (Sui et al., §3.3), and
each sample costs an eigenvalue problem per unit."""


@needs("samples")
def chip(group: Group, context: Context) -> Tensor:
    """‖A‖_* − ‖A without row j‖_*, A the feature map of a sample as a matrix: (n,) scores.

    The channel independence of Sui et al., CHIP, NeurIPS 2021, eq. 3, mean over samples and over
    the weights that read the units. ‖·‖_* is the nuclear norm.
    """
    return mean_over_readings(group, context, independence)


def independence(activations: Tensor) -> Tensor:
    """Mean channel independence of activations (n, k, samples, …): (n,).

    Where a sample has one number per unit, as after a linear layer, the samples make the matrix.
    """
    maps = activations.double().movedim(2, 0).flatten(2)
    if maps.shape[2] == 1:
        return _losses(maps[:, :, 0].T)
    step = max(1, len(maps) // SAMPLES)
    return torch.stack([_losses(matrix) for matrix in maps[::step][:SAMPLES]]).mean(0)


def _losses(matrix: Tensor) -> Tensor:
    """What the nuclear norm of `matrix` (n, p) loses with each row: (n,)."""
    n, p = matrix.shape
    whole = torch.linalg.matrix_norm(matrix, "nuc")
    if p < n:
        # MᵀM has the same singular values, and losing a row takes its outer product away.
        gram = matrix.T @ matrix
        return torch.stack([whole - _nuclear(gram - torch.outer(row, row)) for row in matrix])
    gram = matrix @ matrix.T
    kept = ~torch.eye(n, dtype=torch.bool, device=matrix.device)
    return torch.stack([whole - _nuclear(gram[rows][:, rows]) for rows in kept])


def _nuclear(gram: Tensor) -> Tensor:
    """The nuclear norm of M from its Gram matrix."""
    eigenvalues: Tensor = torch.linalg.eigvalsh(gram)
    return eigenvalues.clamp_min(0).sqrt().sum()
