"""Attention heads turned so that their channels stand in the order of what they are worth.

A score q·k stays as it is when q becomes R q and k becomes R⁻ᵀ k, and so does what a head puts out
when its values become R v and what reads them W R⁻¹. So each head may have any axes, and as trained
none of them may be free to go. With

    A = Σ^½ Σ′^½ = U S Vᵀ,   R = S^½ Uᵀ Σ^−½,   R⁻ᵀ = S^½ Vᵀ Σ′^−½

the first m channels come as near to the product as any m can, in the mean over both sides (Eckart
and Young, 1936). Of scores Σ is the second moment of the queries and Σ′ the covariance of the keys
within a sample: what a query adds to all its scores no softmax sees. Of values Σ is the covariance
of what is read, and Σ′ = Wᵀ W.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx

from intrafusion.batches import in_parts, samples_at_a_time
from intrafusion.channels import Analysis, Group
from intrafusion.channels.head_products import Factor, Product, products
from intrafusion.program import Program

LEAST = 1e-5
"""Directions with a smaller share of the largest variance count as if they had this."""


Heads = Mapping[str, Sequence[Product]]
"""By the name of a group whose units are the channels of heads, what these heads multiply."""


def heads_of(analysis: Analysis) -> Heads:
    """The heads that may have any axes.

    Not among them are those where something stands between the layers and the product, as rotary
    positions and norms do, and those whose channels something else sees.
    """
    by_tensor: dict[str, list[Product]] = {}
    for product in products(analysis):
        by_tensor.setdefault(product.first.tensors[0][0], []).append(product)
    if not by_tensor:
        return {}
    found = {group.name: _multiplied(group, by_tensor) for group in analysis.groups}
    return {name: own for name, own in found.items() if own}


def turn_heads(analysis: Analysis, heads: Heads, samples: Sequence[Tensor]) -> Program:
    """The same network with other axes in each of `heads`.

    Args:
        analysis: of the program.
        heads: of it, as `heads_of` finds them.
        samples: one tensor per input, (samples, …).
    """
    due = [product for own in heads.values() for product in own]
    moments = _Moments(analysis.program, due)
    with torch.no_grad():
        for part in in_parts(samples, samples_at_a_time(analysis.program, analysis.walk)):
            moments.run(*part)
    tensors = dict(analysis.program.tensors)
    for product, both in zip(due, moments.found(), strict=True):
        # What overflows is told by those who come to it, and a dead head has no axes.
        if not all(bool(moment.isfinite().all() and moment.any()) for moment in both):
            continue
        for factor, turn in zip((product.first, product.second), _turns(*both), strict=True):
            for name, dim in factor.tensors:
                tensors[name] = _turned(tensors[name], dim, factor.places, turn)
    return replace(analysis.program, tensors=tensors)


def _turned(tensor: Tensor, dim: int, heads: Tensor, turn: Tensor) -> Tensor:
    """`tensor` with the lines of each of `heads` (heads, channels) along `dim` turned."""
    result = tensor.clone()
    lines = result.movedim(dim, 0)
    for places in heads.to(tensor.device):
        own = lines[places]
        lines[places] = (turn @ own.double().reshape(len(own), -1)).reshape(own.shape).to(own)
    return result


def _turns(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """R and R⁻ᵀ (channels, channels) by the second moments of both sides."""
    (root, inverse), (other_root, other_inverse) = _roots(first), _roots(second)
    u, s, v = torch.linalg.svd(root @ other_root)
    scale = s.sqrt()[:, None]
    return scale * (u.T @ inverse), scale * (v @ other_inverse)


def _roots(moment: Tensor) -> tuple[Tensor, Tensor]:
    """M^½ and M^−½ of a symmetric M, with no eigenvalue far below the largest."""
    values, axes = torch.linalg.eigh(moment)
    values = values.clamp_min(max(LEAST * float(values[-1]), torch.finfo(torch.float32).tiny))
    return (axes * values.sqrt()) @ axes.T, (axes * values.rsqrt()) @ axes.T


def _multiplied(group: Group, by_tensor: Mapping[str, Sequence[Product]]) -> list[Product]:
    """What the heads multiply whose channels the units of `group` are, the same in each of them.

    There are none where `group` has other channels too.
    """
    bound = dict.fromkeys(binding.tensor for binding in group.bindings)
    near = [product for name in bound for product in by_tensor.get(name, ())]
    if not near:
        return []
    unit = {
        (binding.tensor, binding.dim, place): number
        for binding in group.bindings
        for number, places in enumerate(binding.index.tolist())
        for place in places
    }
    found: list[Product] = []
    seen: set[tuple[str, int, int]] = set()
    orders: set[tuple[int, ...]] = set()
    for product in near:
        stands = [
            [(name, dim, place) for place in places]
            for factor in (product.first, product.second)
            for name, dim in factor.tensors
            for places in factor.places.tolist()
        ]
        if stands[0][0] in unit:
            found.append(product)
            seen.update(*stands)
            orders.update(tuple([unit.get(place, -1) for place in each]) for each in stands)
    whole = seen == unit.keys() and [sorted(order) for order in orders] == [[*range(len(group))]]
    return found if whole else []


class _Moments(fx.Interpreter):
    """Sums up, run by run, the second moments of both factors of every product."""

    def __init__(self, program: Program, due: Sequence[Product]) -> None:
        super().__init__(program.network())
        self._tensors = program.tensors
        self._due = [(product.first, product.second) for product in due]
        self._sums: dict[int, _Sum] = {}
        self._at: dict[str, list[_Sum]] = {}
        for pair in self._due:
            for factor in pair:
                if factor.moment != "weights":
                    own = self._sums[id(factor)] = _Sum(factor, program.device)
                    self._at.setdefault(factor.node.name, []).append(own)

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        for own in self._at.get(n.name, ()):
            own.add(value)
        return value

    def found(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Σ and Σ′ (channels, channels) of one product after the other."""
        for first, second in self._due:
            yield self._moment(first), self._moment(second)

    def _moment(self, factor: Factor) -> Tensor:
        if factor.moment != "weights":
            return self._sums[id(factor)].moment()
        name, dim = factor.tensors[0]
        lines = self._tensors[name].movedim(dim, 0)
        own = lines[factor.places.to(lines.device)].double().flatten(2)
        return torch.einsum("hci,hdi->cd", own, own)


class _Sum:
    """The second moment of one factor while the parts go by."""

    def __init__(self, factor: Factor, device: torch.device) -> None:
        width = factor.seen.shape[1]
        self._factor, self._count = factor, 0
        self._total = torch.zeros(width, width, dtype=torch.float64, device=device)
        self._mean = torch.zeros(width, dtype=torch.float64, device=device)

    def add(self, value: Tensor) -> None:
        """Add what a part of the samples has, (samples, …, channels of all heads)."""
        for places in self._factor.seen.to(value.device):
            own = value[..., places].double()
            if self._factor.moment == "within":
                own = own - own.mean(tuple(range(1, own.dim() - 1)) or 0, keepdim=True)
            own = own.flatten(0, -2)
            self._total += own.T @ own
            self._mean += own.sum(0)
            self._count += len(own)

    def moment(self) -> Tensor:
        """(channels, channels), about the mean where it does not count."""
        mean = self._mean / self._count
        about = 0.0 if self._factor.moment == "raw" else mean[:, None] * mean
        return self._total / self._count - about
