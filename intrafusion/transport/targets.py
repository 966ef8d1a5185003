"""What the n units of a group are transported to."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor

from intrafusion.transport.cost import distances
from intrafusion.transport.units import Units

SAME = 1e-6
"""Unit vectors closer than this are copies: float32 does not tell them apart."""

EMPTY = 1e-3
"""A Gaussian that holds less than this share of a unit has no mean of its own."""


@dataclass(frozen=True)
class Targets:
    """The m points that units are transported to.

    Attributes:
        kept: (m,) the positions of the units in whose places they stand, ascending.
        points: (m, d), each of length 1, as the units are; None where each of them is the unit in
            whose place it stands.
    """

    kept: Tensor
    points: Tensor | None = None


def most_important(importance: Tensor, units: Units, count: int, seed: int) -> Targets:
    """The `count` units of highest importance.

    A copy of a unit that is already chosen stands for nothing new, so copies come last. Equal
    scores are settled by position, so that the choice does not depend on the platform.

    Args:
        importance: (n,) scores.
        units: n of them.
        count: m.
        seed: not used, as nothing here is random.
    """
    order = importance.argsort(descending=True, stable=True)
    repeated = _is_repeated(units, order)
    kept = torch.cat([order[~repeated], order[repeated]])[:count].sort().values
    return Targets(kept)


def kmeans(importance: Tensor, units: Units, count: int, seed: int) -> Targets:
    """The centroids of `count` clusters of units, by k-means. Importance plays no part."""
    vectors = units.vectors()
    return _centroids(_cluster_centres(vectors, count, seed), vectors)


def gmm(importance: Tensor, units: Units, count: int, seed: int) -> Targets:
    """The means of a mixture of `count` round Gaussians. Importance plays no part."""
    vectors = units.vectors()
    centres = _cluster_centres(vectors, count, seed)
    # There are fewer units than dimensions: any richer covariance would be singular.
    mixture = GaussianMixture(
        count, covariance_type="spherical", means_init=centres.numpy(), random_state=seed
    )
    fitted = _fit(mixture, vectors)
    empty = torch.from_numpy(fitted.weights_) * len(vectors) < EMPTY
    means = torch.from_numpy(fitted.means_).to(centres)
    return _centroids(torch.where(empty[:, None], centres, means), vectors)


def _cluster_centres(vectors: Tensor, count: int, seed: int) -> Tensor:
    model = _fit(KMeans(count, n_init=1, random_state=seed), vectors)
    return torch.from_numpy(model.cluster_centers_)


def _fit(model: Any, vectors: Tensor) -> Any:
    """A scikit-learn `model` of the units."""
    with warnings.catch_warnings():
        # Where copies make fewer kinds of units than targets, some targets are the same.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(vectors.cpu().numpy())


def _centroids(centres: Tensor, vectors: Tensor) -> Targets:
    """Targets at `centres` (m, d), in the places of units that lie near and each used once."""
    points = torch.nn.functional.normalize(centres.to(vectors), dim=1, eps=1e-12)
    away = distances(points, vectors, 2).cpu().numpy()
    kept, order = torch.from_numpy(linear_sum_assignment(away)[1]).sort()
    return Targets(kept, points[order.to(points.device)])


def _is_repeated(units: Units, order: Tensor) -> Tensor:
    """Whether an equal unit stands before, in that order of the units: (n,) booleans."""
    generator = torch.Generator().manual_seed(0)
    # Copies agree in every projection, and others practically never in four.
    shadow = units.lengths.new_zeros(len(units), 4)
    for block in units.blocks():
        shadow += block @ torch.randn(4, block.shape[1], generator=generator).to(block).T
    shadow = shadow[order]
    by_shadow = shadow[:, 0].argsort(stable=True)
    steps = (shadow[by_shadow].diff(dim=0).abs() > SAME * units.dimensions**0.5).any(1)
    kind = torch.zeros(len(units), dtype=torch.int64, device=shadow.device)
    kind[by_shadow[1:]] = steps.cumsum(0)
    first = torch.full((len(units),), len(units), device=shadow.device)
    positions = torch.arange(len(units), device=shadow.device)
    first = first.scatter_reduce(0, kind, positions, "amin")
    return positions != first[kind]
