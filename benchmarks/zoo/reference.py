"""What a network must compute once units are removed, found without removing any.

The original at its full width, with the removed units' parameters zeroed. Layers that average
over channels would still count the zeros: here they count the channels that stay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from intrafusion.channels import Analysis, Group
from intrafusion.channels.planes import varying
from intrafusion.program import Program
from intrafusion.program.nodes import name_of

Kept = Mapping[Group, Tensor]
"""For each group the positions of the units that stay."""


def random_half(analysis: Analysis, seed: int = 0) -> dict[Group, Tensor]:
    """A random half of the units of every group, rounded up."""
    generator = torch.Generator().manual_seed(seed)
    return {
        group: torch.randperm(len(group), generator=generator)[: (len(group) + 1) // 2].sort()[0]
        for group in analysis.groups
        if len(group) > 1
    }


def masked_outputs(
    analysis: Analysis, kept: Kept, inputs: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """The outputs of the analysed program on `inputs`, as if it had only the `kept` units.

    A group that `kept` does not name stays whole.
    """
    return _Masked(analysis, kept).run(*inputs)


def error(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest difference of any output, relative to the largest value it should have.

    Raises `ValueError` where shapes differ; the result is NaN where a value is.
    """
    worst = torch.zeros(())
    for a, b in zip(found, expected, strict=True):
        if a.shape != b.shape:
            raise ValueError(f"an output of shape {list(a.shape)} instead of {list(b.shape)}")
        scale = b.abs().max().clamp_min(1e-9)
        # torch.maximum keeps NaN, Python's max may lose it.
        worst = torch.maximum(worst, (a - b).abs().max() / scale)
    return float(worst)


class _Masked:
    """The original with zeros for the removed units, run node by node."""

    def __init__(self, analysis: Analysis, kept: Kept) -> None:
        self._analysis = analysis
        gone = [torch.zeros(0, dtype=torch.int64)]
        for group, staying in kept.items():
            dead = torch.ones(len(group), dtype=torch.bool)
            dead[staying] = False
            gone.append(group.units[dead])
        self._alive = ~torch.isin(torch.from_numpy(analysis.units.unit), torch.cat(gone))
        self._tensors = zeroed_tensors(analysis.program, kept)

    @torch.no_grad()
    def run(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        values: dict[fx.Node, Any] = {}
        given = iter(inputs)
        for node in self._analysis.program.graph.nodes:
            args = fx.map_arg(node.args, values.__getitem__)
            kwargs = fx.map_arg(node.kwargs, values.__getitem__)
            if node.op == "placeholder":
                values[node] = next(given)
            elif node.op == "get_attr":
                values[node] = self._tensors[str(node.target)]
            elif node.op == "output":
                outputs: tuple[Tensor, ...] = args[0]
                return outputs
            else:
                values[node] = self._compute(node, args, kwargs)
        raise AssertionError("a graph has an output")

    def _compute(self, node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        assert callable(node.target)
        masked = _MASKED.get(name_of(node))
        if masked is not None:
            dims, compute = masked
            over = dims(*args)
            mask = None if over is None else self._mask(node.args[0], over)
            if mask is not None:
                return compute(mask.expand_as(args[0]), *args, **kwargs)
        return node.target(*args, **kwargs)

    def _mask(self, node: Any, dims: Sequence[int]) -> Tensor | None:
        """Which entries of a value stay, broadcastable to it; None if all do along `dims`."""
        mask: Tensor | None = None
        for plane in self._analysis.walk.values[node].planes:
            if set(varying(plane)) & set(dims):
                # Planes have the example's batch; no channel depends on the sample.
                staying = self._alive[torch.from_numpy(plane).long()][:1]
                mask = staying if mask is None else mask & staying
        return None if mask is None or bool(mask.all()) else mask


def zeroed_tensors(program: Program, kept: Kept) -> dict[str, Tensor]:
    """The program's tensors with all that makes, holds or reads a unit not kept set to 0."""
    tensors = {name: tensor.clone() for name, tensor in program.tensors.items()}
    for group, staying in kept.items():
        dead = torch.ones(len(group), dtype=torch.bool)
        dead[staying] = False
        for binding in group.bindings:
            gone = binding.index[dead].reshape(-1)
            tensors[binding.tensor].index_fill_(binding.dim, gone, 0)
    return tensors


# --- operations that count channels ---------------------------------------------------------------


def _standardised(x: Tensor, mask: Tensor, dims: list[int], epsilon: float) -> Tensor:
    count = mask.sum(dims, keepdim=True).clamp_min(1)
    centred = x - (x * mask).sum(dims, keepdim=True) / count
    variance = ((centred * mask) ** 2).sum(dims, keepdim=True) / count
    return centred / torch.sqrt(variance + epsilon)


def _layer_norm(
    mask: Tensor,
    x: Tensor,
    shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    epsilon: float = 1e-5,
    *_: Any,
) -> Tensor:
    result = _standardised(x, mask, list(range(-len(shape), 0)), epsilon)
    if weight is not None:
        result = result * weight
    if bias is not None:
        result = result + bias
    return result * mask


def _group_norm(
    mask: Tensor,
    x: Tensor,
    groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    epsilon: float = 1e-5,
    *_: Any,
) -> Tensor:
    grouped = (x.shape[0], groups, -1)
    result = _standardised(x.reshape(grouped), mask.reshape(grouped), [2], epsilon).reshape(x.shape)
    return _scaled_per_channel(result, weight, bias) * mask


def _instance_norm(
    mask: Tensor,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    *statistics: Any,
) -> Tensor:
    epsilon = statistics[4]
    result = _standardised(x, mask, _space(x), epsilon)
    return _scaled_per_channel(result, weight, bias) * mask


def _scaled_per_channel(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    per_channel = (1, -1, *[1] * (x.dim() - 2))
    if weight is not None:
        x = x * weight.view(per_channel)
    if bias is not None:
        x = x + bias.view(per_channel)
    return x


def _rms_norm(
    mask: Tensor,
    x: Tensor,
    shape: Sequence[int],
    weight: Tensor | None = None,
    epsilon: float | None = None,
) -> Tensor:
    dims = list(range(-len(shape), 0))
    square = _mean(mask, x**2, dims, keepdim=True)
    result = x / torch.sqrt(square + (torch.finfo(x.dtype).eps if epsilon is None else epsilon))
    return (result if weight is None else result * weight) * mask


def _mean(mask: Tensor, x: Tensor, dims: list[int], keepdim: bool = False, **_: Any) -> Tensor:
    # A line of which nothing stays is gone itself, and must not be NaN.
    count = mask.sum(dims, keepdim=keepdim).clamp_min(1)
    return (x * mask).sum(dims, keepdim=keepdim) / count


def _variance(
    mask: Tensor,
    x: Tensor,
    dims: list[int],
    unbiased: bool = True,
    keepdim: bool = False,
    *,
    correction: int | None = None,
) -> Tensor:
    correction = int(unbiased) if correction is None else correction
    centred = (x - _mean(mask, x, dims, keepdim=True)) * mask
    count = mask.sum(dims, keepdim=keepdim) - correction
    return (centred**2).sum(dims, keepdim=keepdim) / count


def _largest(mask: Tensor, x: Tensor, dims: list[int], keepdim: bool = False) -> Tensor:
    return x.masked_fill(~mask, -torch.inf).amax(dims, keepdim=keepdim)


def _smallest(mask: Tensor, x: Tensor, dims: list[int], keepdim: bool = False) -> Tensor:
    return -_largest(mask, -x, dims, keepdim)


def _largest_and_place(mask: Tensor, x: Tensor, dim: int, keepdim: bool = False) -> Any:
    return x.masked_fill(~mask, -torch.inf).max(dim, keepdim=keepdim)


def _trailing(x: Tensor, shape: Sequence[int], *_: Any) -> list[int]:
    return list(range(x.dim() - len(shape), x.dim()))


def _in_groups(x: Tensor, *_: Any) -> list[int]:
    return list(range(1, x.dim()))


def _space(x: Tensor, *_: Any) -> list[int]:
    return list(range(2, x.dim()))


def _listed(x: Tensor, dims: Sequence[int] | int | None = None, *_: Any) -> list[int] | None:
    if isinstance(dims, int):
        dims = [dims]
    return [d % x.dim() for d in dims] if dims else None


_Dims = Callable[..., list[int] | None]

_MASKED: dict[str, tuple[_Dims, Callable[..., Tensor]]] = {
    "layer_norm": (_trailing, _layer_norm),
    "group_norm": (_in_groups, _group_norm),
    "instance_norm": (_space, _instance_norm),
    "rms_norm": (_trailing, _rms_norm),
    "mean": (_listed, _mean),
    "var": (_listed, _variance),
    "amax": (_listed, _largest),
    "amin": (_listed, _smallest),
    "max": (_listed, _largest_and_place),
}
"""By operation: the dimensions it reduces, and how it does so over the channels that stay."""
