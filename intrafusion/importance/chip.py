"""Importance by channel independence: what a unit adds that the others do not have."""

from __future__ import annotations

import torch
from torch import Tensor

from intrafusion.channels import Group
from intrafusion.importance.activation import mean_over_readings
from intrafusion.importance.context import Context, needs

SAMPLES = 16
"""Feature maps looked at; scores hardly change from sample to sample (Sui et al., §3.3)."""


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


STEP, REACH = 0.4, 25.0
"""Of the quadrature over u = log(s / σ): the trapezoidal rule is off by e^(−π²/STEP), as the
integrand has no singularity within π/2 of the line, and e^−REACH of it lies outside."""


def _losses(matrix: Tensor) -> Tensor:
    """What the nuclear norm of `matrix` A (n, p) loses with each row: (n,).

    All n at the price of one decomposition. With G = A Aᵀ = V diag(λ) Vᵀ, Σ√λ is
    (1/π) ∫ log det(I + G/s²) ds over s > 0, and det(G_without_j + s²) is
    det(G + s²) · [(G + s²)⁻¹]_jj, so that row j is worth

        −(1/π) ∫ log q_j(s) ds,   q_j(s) = Σ_k V_jk² s² / (λ_k + s²).
    """
    n, p = matrix.shape
    if n <= p:
        eigenvalues, vectors = torch.linalg.eigh(matrix @ matrix.T)
    else:
        vectors, singular, _ = torch.linalg.svd(matrix, full_matrices=False)
        eigenvalues = singular.square()
    largest = eigenvalues.amax()
    if largest <= 0:
        return matrix.new_zeros(n)
    shares = vectors.square()
    null = (1 - shares.sum(1, keepdim=True)).clamp_min(0)
    u = torch.arange(-REACH, REACH, STEP, dtype=matrix.dtype, device=matrix.device)
    s = largest.sqrt() * u.exp()
    kept = s.square() / (eigenvalues.clamp_min(0)[:, None] + s.square())
    q, rest = null + shares @ kept, shares @ (1 - kept)
    # For large s, q is 1 − rest with a rest too small for q to hold.
    log_q = torch.where(rest < 0.5, torch.log1p(-rest), q.log())
    lost: Tensor = (log_q * s).sum(1) * (-STEP / torch.pi)
    return lost
