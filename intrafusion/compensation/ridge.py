"""The ridge solve behind every refit: W = (Cov(Y, U) + λ̄ W₀)(Cov(U) + λ̄ I)⁻¹."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from intrafusion.errors import ErrorCode, IntraFusionError

FLAT_ROUNDS = 3
BLOCK_ROWS = 4096


@dataclass(frozen=True)
class Rows:
    """What a layer reads and what it should put out, row by row, on the same samples.

    The layer is in g parts, each with inputs of its own: 1 where every output reads every input,
    one per channel in a depthwise convolution or a norm.

    Attributes:
        read: U (rows, g, d), the compressed input: for a convolution all channels and taps.
        wanted: Y (rows, g·o), what the original put out, mapped to the kept channels.
        added: (rows, g·o), what is added to the output before the nonlinearity that follows.
        low: below this the nonlinearity is flat (0 for ReLU); None where there is none.
        high: above this it is flat (6 for ReLU6); None where it is not.
    """

    read: Tensor
    wanted: Tensor
    added: Tensor | None = None
    low: float | None = None
    high: float | None = None

    def __len__(self) -> int:
        return len(self.wanted)

    def __getitem__(self, some: slice) -> Rows:
        added = None if self.added is None else self.added[some]
        return replace(self, read=self.read[some], wanted=self.wanted[some], added=added)


@dataclass(frozen=True)
class Solution:
    """W (g, o, d) and b (g·o,), or None where the layer has no bias."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, read: Tensor) -> Tensor:
        """The outputs (rows, g·o) for what is read (rows, g, d)."""
        out = _by_part(read, self.weight.to(read))
        return out if self.bias is None else out + self.bias.to(read)


def solve(rows: Rows, prior: Tensor, ridge: float, *, intercept: bool) -> Solution:
    """Fit W and b so that W U + b is close to Y, and W to `prior` where the data say nothing.

    All moments are centred when there is an intercept; they are summed in blocks, in float64,
    and factored by Cholesky. Where there are fewer rows than inputs, the same comes from the rows'
    products with each other, which are smaller. Where a ReLU reads the output alone, an output in
    its flat part is as good as the wanted one there, so wanted values are replaced by predicted
    ones wherever both are flat, and W is solved for again with the same factor.

    Args:
        rows: the samples.
        prior: W₀ (g, o, d), plain fusion. λ → ∞ gives it back.
        ridge: λ, as a share of the mean variance of each part's inputs.
        intercept: whether the layer has a bias.
    """
    read = rows.read
    mean_read = read.double().mean(0) if intercept else torch.zeros_like(read[0]).double()
    read = read - mean_read.to(read)
    few = len(read) < read.shape[2]
    weights = _weights_of_few(read, prior, ridge) if few else _weights(read, prior, ridge)

    def fit(wanted: Tensor) -> Solution:
        mean_wanted = wanted.double().mean(0)
        centred = wanted - mean_wanted.to(wanted) if intercept else wanted
        weight = weights(centred.reshape(len(centred), *prior.shape[:2]))
        offset = mean_wanted - _by_part(mean_read[None], weight)[0]
        return Solution(weight, offset if intercept else None)

    solution = fit(rows.wanted)
    for _ in range(FLAT_ROUNDS if _has_flat_part(rows) else 0):
        solution = fit(_relaxed(rows, solution(rows.read)))
    return solution


Weights = Callable[[Tensor], Tensor]
"""From what is wanted, centred (rows, g, o), to W (g, o, d)."""


def _weights(read: Tensor, prior: Tensor, ridge: float) -> Weights:
    """The solve by the moments of what is read, centred (rows, g, d): matrices of d × d."""
    covariance = _product(read, read)
    strength = _strength(covariance.diagonal(dim1=1, dim2=2).mean(1), ridge)
    covariance.diagonal(dim1=1, dim2=2).add_(strength[:, None])
    factor = _factored(covariance)
    pull = strength[:, None, None] * prior.to(covariance)
    return lambda wanted: torch.cholesky_solve((_product(wanted, read) + pull).mT, factor).mT


def _weights_of_few(read: Tensor, prior: Tensor, ridge: float) -> Weights:
    """The same where there are fewer rows r than inputs d: matrices of r × r and r × d.

    With the rows U and E = Y − U W₀ᵀ, W = W₀ + Eᵀ (U Uᵀ + r λ̄ I)⁻¹ U.
    """
    rows, own = read.transpose(0, 1).double(), prior.double()
    kernel = rows @ rows.mT
    total = kernel.diagonal(dim1=1, dim2=2).sum(1)
    strength = _strength(total / rows.shape[1] / rows.shape[2], ridge)
    kernel.diagonal(dim1=1, dim2=2).add_(rows.shape[1] * strength[:, None])
    factor = _factored(kernel)

    def weights(wanted: Tensor) -> Tensor:
        missing = wanted.transpose(0, 1) - rows @ own.mT
        return torch.baddbmm(own, torch.cholesky_solve(missing, factor).mT, rows)

    return weights


def _strength(variance: Tensor, ridge: float) -> Tensor:
    """λ̄ (g,) from the mean variance of each part's inputs.

    A constant input says nothing about W: only the offset is wrong.
    """
    strength = ridge * variance
    return torch.where(strength > 0, strength, torch.ones_like(strength))


def residual(rows: Rows, solution: Solution) -> float:
    """Squared error of `solution` on `rows`, relative to the variance of what was wanted.

    A variance that is mere rounding does not count as one.
    """
    predicted = solution(rows.read)
    wanted = _relaxed(rows, predicted) if _has_flat_part(rows) else rows.wanted
    error = (predicted - wanted).double().square().sum()
    spread = (rows.wanted - rows.wanted.mean(0)).double().square().sum()
    rounding = torch.finfo(torch.float32).eps * rows.wanted.double().square().sum()
    least = torch.finfo(torch.float32).tiny
    return float(error / torch.maximum(spread, rounding).clamp_min(least))


def _factored(covariance: Tensor) -> Tensor:
    """The Cholesky factor of (…, d, d); raises `COMPRESSION_FAILED` where overflow left none."""
    factor: Tensor
    factor, failed = torch.linalg.cholesky_ex(covariance)
    if bool(failed.any()) or not bool(factor.isfinite().all()):
        raise IntraFusionError(
            ErrorCode.COMPRESSION_FAILED,
            "A layer cannot be refitted: what it reads on the samples is too large for float32.",
            "Give samples of the scale the network was trained on, or compensation 'none'.",
        )
    return factor


def _by_part(read: Tensor, weight: Tensor) -> Tensor:
    """(rows, g, d) through (g, o, d): (rows, g·o)."""
    if len(weight) == 1:
        return read[:, 0] @ weight[0].T
    return torch.einsum("rgd,god->rgo", read, weight).flatten(1)


def _has_flat_part(rows: Rows) -> bool:
    return rows.low is not None or rows.high is not None


def _relaxed(rows: Rows, predicted: Tensor) -> Tensor:
    """What is wanted, but where it and the prediction are both flat the prediction itself."""
    added = 0.0 if rows.added is None else rows.added
    free = torch.zeros_like(predicted, dtype=torch.bool)
    if rows.low is not None:
        free |= (predicted + added < rows.low) & (rows.wanted + added < rows.low)
    if rows.high is not None:
        free |= (predicted + added > rows.high) & (rows.wanted + added > rows.high)
    return torch.where(free, predicted, rows.wanted)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """aᵀ b / rows of each part (g, …) in float64, from float32 products of blocks of rows."""
    total = a.new_zeros(a.shape[1], a.shape[2], b.shape[2], dtype=torch.float64)
    for start in range(0, a.shape[0], BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        total += (a[block].permute(1, 2, 0) @ b[block].transpose(0, 1)).double()
    return total / a.shape[0]
