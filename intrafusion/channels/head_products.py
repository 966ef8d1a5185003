"""Products of two layers within a head of an attention: queries and keys, values and their reader.

Between a layer and the product its channels may only be moved and scaled alike, and nothing else
may see them. Then any axes may be put between the two: only the product counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from intrafusion.channels.analysis import Analysis
from intrafusion.channels.planes import Plane
from intrafusion.channels.walk import Value, values_in
from intrafusion.program.nodes import MOVING, arguments, count_uses, name_of

_LAYERS = {"linear": (0, 1, 2, 0), "addmm": (1, 2, 0, 1)}
"""Where a linear layer has what it reads, its weight and its bias, and its weight's outputs."""

Moment = Literal["raw", "within", "about", "weights"]
"""What a second moment is taken of: values, values about their mean within each sample or over all
samples, or weights."""

_Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Factor:
    """One side of a product, in the heads that have to have the same axes.

    Attributes:
        tensors: what makes or reads its channels, and the dimension that they stand along there; a
            bias comes after the weight.
        places: (heads, channels) positions along it.
        moment: which second moment says what the channels are worth.
        node: the value that it is taken of.
        seen: (heads, channels) positions along the last dimension of that.
    """

    tensors: tuple[tuple[str, int], ...]
    places: Tensor
    moment: Moment
    node: fx.Node
    seen: Tensor


@dataclass(frozen=True)
class _Layer:
    """A linear layer: its weight, bias, what it reads, and its weight's dimension of outputs."""

    node: fx.Node
    weight: str
    bias: str | None
    source: fx.Node
    out_dim: int

    def making(self, rows: list[tuple[int, ...]], moment: Moment) -> Factor:
        """The factor that rows (heads, channels) of its outputs are."""
        bias = () if self.bias is None else ((self.bias, 0),)
        places = torch.tensor(rows)
        return Factor(((self.weight, self.out_dim), *bias), places, moment, self.node, places)


@dataclass(frozen=True, eq=False)
class Product:
    """Two factors whose channels are summed over against each other."""

    first: Factor
    second: Factor


def products(analysis: Analysis) -> list[Product]:
    """Those of every attention in the program whose layers stand right before and behind it."""
    search = _Search(analysis)
    found: list[Product] = []
    for node in analysis.program.graph.nodes:
        if node.op != "call_function":
            continue
        if name_of(node) == "scaled_dot_product_attention":
            q, k, v = arguments(node)[:3]
            found += [*search.scores(node, q, k, -1), *search.values(node, v)]
        elif name_of(node) == "matmul":
            a, b = arguments(node)[:2]
            found += [*search.scores(node, a, b, -2), *search.values(node, b)]
    return found


class _Search:
    """Follows channels from the products to the layers."""

    def __init__(self, analysis: Analysis) -> None:
        self._walk = analysis.walk
        self._uses = count_uses(analysis.program.graph)

    def scores(self, node: fx.Node, q: fx.Node, k: fx.Node, dim: int) -> Iterator[Product]:
        """Of each head of q (…, channels) and k, whose channels stand along `dim`."""
        found, met = self._made(node, q, -1), self._made(node, k, dim)
        if found is None or met is None:
            return
        (layer, rows), (other, other_rows) = found, met
        if len(rows) % len(other_rows) or (layer == other and np.isin(rows, other_rows).any()):
            return
        # Of grouped queries several heads meet the same keys.
        meeting = np.repeat(other_rows, len(rows) // len(other_rows), 0)
        heads: dict[tuple[int, ...], dict[tuple[int, ...], None]] = {}
        for queries, keys in zip(rows.tolist(), meeting.tolist(), strict=True):
            heads.setdefault(tuple(keys), {})[tuple(queries)] = None
        for keys, several in heads.items():
            yield Product(layer.making(list(several), "raw"), other.making([keys], "within"))

    def values(self, node: fx.Node, v: fx.Node) -> Iterator[Product]:
        """Of each head of v (…, channels) and the layer that alone reads what comes of it."""
        found, reader = self._made(node, v, -1), self._reader(node)
        if found is None or reader is None:
            return
        layer, rows = found
        plane = self._labels(reader.source, -1)
        if plane is None or plane.size != plane.shape[-1]:
            return
        read = plane.reshape(-1) - self._walk.ranges[layer.weight, layer.out_dim].start
        for own in np.unique(rows, axis=0):
            columns = [np.flatnonzero(read == row) for row in own]
            if len({len(some) for some in columns}) > 1 or not len(columns[0]):
                return
            seen = torch.from_numpy(np.stack(columns, 1))
            made = layer.making([tuple(own.tolist())], "about")
            reads = ((reader.weight, 1 - reader.out_dim),)
            yield Product(
                replace(made, node=reader.source, seen=seen),
                Factor(reads, seen, "weights", reader.node, seen),
            )

    def _made(self, node: fx.Node, operand: object, dim: int) -> tuple[_Layer, _Rows] | None:
        """The linear layer that `operand` comes straight from, and which of its outputs (heads,
        channels) stand along `dim` of it; None where there is none.
        """
        plane = self._labels(operand, dim)
        if not isinstance(operand, fx.Node) or plane is None:
            return None
        user, source = node, operand
        while (layer := self._layer(source)) is None:
            if not _passes_on(source) or not self._is_unseen(source, user, plane):
                return None
            user, source = source, arguments(source)[0]
        atoms = self._walk.ranges[layer.weight, layer.out_dim]
        if not self._is_unseen(source, user, plane):
            return None
        if int(plane.min()) < atoms.start or int(plane.max()) >= atoms.stop:
            return None
        rows = plane.swapaxes(dim, -1).reshape(-1, plane.shape[dim]).astype(np.int64)
        return layer, rows - atoms.start

    def _reader(self, node: fx.Node) -> _Layer | None:
        """The linear layer that alone reads `node`, whose channels are only moved on the way."""
        source = node
        while len(source.users) == 1:
            (user,) = source.users
            if (layer := self._layer(user)) is not None:
                return layer if layer.source is source else None
            if not _passes_on(user):
                return None
            source = user
        return None

    def _layer(self, node: fx.Node) -> _Layer | None:
        """The linear layer with parameters of its own that `node` is."""
        if node.op != "call_function" or name_of(node) not in _LAYERS:
            return None
        source, weight, bias, out_dim = _LAYERS[name_of(node)]
        given = [*arguments(node), None]
        own = [given[weight], *([] if given[bias] is None else [given[bias]])]
        alone = all(one.op == "get_attr" and self._uses[str(one.target)] == 1 for one in own)
        names = [str(one.target) for one in own]
        if not alone or node.kwargs or (names[0], out_dim) not in self._walk.ranges:
            return None
        return _Layer(node, names[0], names[1] if own[1:] else None, given[source], out_dim)

    def _is_unseen(self, node: fx.Node, user: fx.Node, plane: Plane) -> bool:
        """Whether no other than `user` gets channels of `plane` from `node`."""
        for other in node.users:
            if other is user:
                continue
            if other.op != "call_function" or name_of(other) not in MOVING:
                return False
            values = values_in([self._walk.values[other]])
            if any(np.isin(plane, own).any() for value in values for own in value.planes):
                return False
        return True

    def _labels(self, operand: object, dim: int) -> Plane | None:
        value = self._walk.values.get(operand) if isinstance(operand, fx.Node) else None
        return value.plane_along(dim) if isinstance(value, Value) and value.rank > 1 else None


def _passes_on(node: fx.Node) -> bool:
    """Whether it moves the numbers of one value, or scales all of them alike."""
    if node.op != "call_function" or not isinstance(arguments(node)[0], fx.Node):
        return False
    scales = name_of(node) in ("mul", "div") and len(node.all_input_nodes) == 1
    return name_of(node) in MOVING or scales
