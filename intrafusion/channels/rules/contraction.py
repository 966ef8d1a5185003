"""Products that sum over channels: linear, matmul, embedding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import fx

from intrafusion.channels.planes import Plane, along, core, row, varying
from intrafusion.channels.rules.opaque import opaque
from intrafusion.channels.rules.pointwise import merge
from intrafusion.channels.walk import Planes, Value, Walk


def linear(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Value) -> Planes:
    """x (…, I) · W (O, I) + b (O,): the columns of W read x, its rows make new channels."""
    x, weight, bias = (*args, None)[:3]
    contract(walk, node, x, -1, weight, 1)
    planes = x.without(-1)
    made = weight.plane_along(0)
    if made is not None:
        walk.produce(made)
        planes = (*planes, along(row(made, 0), -1, out.rank))
    values = [Value(out.shape, out.dtype, planes)]
    if bias is not None:
        values.append(bias)
    return merge(walk, node, values, out.shape)


def matmul(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Value) -> Planes:
    """A (…, M, K) · B (…, K, N), summed over K."""
    a, b = args[:2]
    a = a if a.rank > 1 else raised(a, 0)
    b = b if b.rank > 1 else raised(b, 1)
    if out.rank < 2:
        contract(walk, node, a, -1, b, -2)
        return ()
    heads = contract(walk, node, a, -1, b, -2)
    for value, dim in ((a, -2), (b, -1)):
        if value.data is not None and (made := value.plane_along(dim)) is not None:
            walk.produce(made)
    values = []
    for value, dim in ((a, -1), (b, -2)):
        shape = list(value.shape)
        shape[dim] = 1
        values.append(Value(tuple(shape), value.dtype, (*heads, *value.without(dim))))
    return merge(walk, node, values, out.shape)


def addmm(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Value) -> Planes:
    """bias + A (M, K) · B (K, N)."""
    bias, a, b = args[:3]
    product = replace(out, planes=matmul(walk, node, (a, b), {}, out))
    return merge(walk, node, [product, bias], out.shape)


def einsum(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Value) -> Planes:
    """Letters of two operands: shared and gone are summed over, shared and kept meet."""
    equation = args[0].replace(" ", "")
    left, _, right = equation.partition("->")
    terms = left.split(",")
    operands: list[Value] = list(args[1])
    if len(terms) != 2 or not right or "." in equation or any(len(set(t)) < len(t) for t in terms):
        opaque(walk, node, args, kwargs, out)
        return ()
    letters = [*right, *sorted(set(left) - {",", *right})]
    a, b = (_lay_out(v, term, letters) for v, term in zip(operands, terms, strict=True))
    gone = range(len(right), len(letters))
    for dim in gone:
        if letters[dim] in terms[0] and letters[dim] in terms[1]:
            contract(walk, node, a, dim, b, dim)
        else:
            for value in (a, b):
                if (plane := value.plane_along(dim)) is not None:
                    walk.freeze(plane, node, "it is summed over without weights")
    left_over = []
    for value in (a, b):
        planes = [p for p in value.planes if not set(varying(p)) & set(gone)]
        if value.data is not None:
            for plane in planes:
                walk.produce(plane)
        kept = [core(p, range(len(right))).reshape(p.shape[: len(right)]) for p in planes]
        left_over.append(Value(value.shape[: len(right)], value.dtype, tuple(kept)))
    return merge(walk, node, left_over, out.shape)


def _lay_out(value: Value, term: str, letters: list[str]) -> Value:
    """`value` with one dimension per letter, of size 1 where it has none."""
    order = [term.index(letter) for letter in letters if letter in term]

    def lay(shape: Sequence[int]) -> tuple[int, ...]:
        sizes = iter([shape[dim] for dim in order])
        return tuple([next(sizes) if letter in term else 1 for letter in letters])

    planes = [p.transpose(order).reshape(lay(p.shape)) for p in value.planes]
    return replace(value, shape=lay(value.shape), planes=tuple(planes))


def embedding(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Value) -> Planes:
    """W (entries, D): the entries are addressed by number and stay, D makes channels."""
    weight: Value = args[0]
    made, entries = weight.plane_along(1), weight.plane_along(0)
    if entries is not None:
        walk.freeze(entries, node, "an embedding addresses its entries by number", quiet=True)
    if made is None:
        return ()
    walk.produce(made)
    return (along(row(made, 1), -1, out.rank),)


def embedding_bag(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Any) -> list[Planes]:
    """Sums, means or maxima of bags of entries, (bags, D), and three lists of numbers."""
    return [embedding(walk, node, args, kwargs, out[0]), *[()] * (len(out) - 1)]


def bilinear(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Value) -> Planes:
    """x (…, I) · W (O, I, J) · y (…, J) + b (O,): W reads both, its rows make new channels."""
    x, y, weight, bias = (*args, None)[:4]
    values = []
    for read, dim in ((x, 1), (y, 2)):
        contract(walk, node, read, -1, weight, dim)
        values.append(Value((*read.shape[:-1], 1), read.dtype, read.without(-1)))
    if (made := weight.plane_along(0)) is not None:
        walk.produce(made)
        labels = row(made, 0)
        values.append(Value(labels.shape, out.dtype, (labels,)))
    if bias is not None:
        values.append(bias)
    return merge(walk, node, values, out.shape)


def contract(walk: Walk, node: fx.Node, a: Value, a_dim: int, b: Value, b_dim: int) -> Planes:
    """Sum `a` along `a_dim` against `b` along `b_dim`: what meets there is one channel.

    A plane that also varies along another dimension, such as the heads of an attention, is tied
    along it, so that every head keeps the same channels. With `whole_heads` a head is tied
    instead, and what is returned is the plane of the heads, of the shape of `a` with one entry
    along `a_dim`; otherwise nothing is.
    """
    pa, pb = a.plane_along(a_dim), b.plane_along(b_dim)
    for plane, value in ((pa, a), (pb, b)):
        if plane is not None and value.data is not None:
            walk.consume(plane)
    if pa is None or pb is None:
        for plane in (pa, pb):
            if plane is not None:
                walk.freeze(plane, node, "it is read against channels that cannot be removed")
        return ()
    # Two activations meet in attention alone; weights have no heads.
    if walk.whole_heads and a.data is None and b.data is None:
        heads = _whole_heads(walk, pa, pb)
        if heads is not None:
            return (heads,)
    for plane, dim in ((pa, a_dim), (pb, b_dim)):
        walk.tie_along(plane, [d for d in varying(plane) if d != dim % plane.ndim])
    walk.tie(row(pa, a_dim), row(pb, b_dim))
    if a.data is None and b.data is None:
        walk.contractions.append((node, (pa, pb)))
    return ()


def _whole_heads(walk: Walk, pa: Plane, pb: Plane) -> Plane | None:
    """Tie each head of two activations into one unit; the plane of the heads.

    None where the planes do not have the same heads, along leading dimensions.
    """
    batch = range(pa.ndim - 2)
    heads = [d for d in varying(pa) if d in batch]
    if not heads or heads != [d for d in varying(pb) if d in batch]:
        return None
    if any(pa.shape[d] != pb.shape[d] for d in heads):
        return None
    for plane in (pa, pb):
        walk.tie_along(plane, [d for d in varying(plane) if d not in batch])
    walk.tie(core(pa, heads), core(pb, heads))
    return core(pa, heads)


def raised(value: Value, dim: int) -> Value:
    """`value` with another dimension of size 1 at `dim`."""
    shape = (*value.shape[:dim], 1, *value.shape[dim:])
    planes = [np.expand_dims(plane, dim) for plane in value.planes]
    return replace(value, shape=shape, planes=tuple(planes))
