"""Products that sum over channels: linear, matmul, embedding."""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx

from intrafusion.channels.planes import along, core, varying
from intrafusion.channels.rules.opaque import opaque
from intrafusion.channels.rules.pointwise import merge
from intrafusion.channels.walk import Planes, Value, Walk


def linear(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Tensor) -> Planes:
    """x (…, I) · W (O, I) + b (O,): the columns of W read x, its rows make new channels."""
    x, weight, bias = (*args, None)[:3]
    contract(walk, node, x, -1, weight, 1)
    passed = Value(out, tuple(p.narrow(-1, 0, 1).expand(out.shape) for p in x.without(-1)))
    made = weight.plane_along(0)
    values = [passed]
    if made is not None:
        walk.produce(made)
        values = [Value(out, (*passed.planes, along(_row(made, 0), -1 % out.dim(), out.shape)))]
    if bias is not None:
        values.append(bias)
    return merge(walk, node, values, out.shape)


def matmul(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Tensor) -> Planes:
    """A (…, M, K) · B (…, K, N), summed over K."""
    a, b = args[:2]
    a = a if a.meta.dim() > 1 else _raise(a, 0)
    b = b if b.meta.dim() > 1 else _raise(b, 1)
    if out.dim() < 2:
        contract(walk, node, a, -1, b, -2)
        return ()
    heads = contract(walk, node, a, -1, b, -2)
    for value, dim in ((a, -2), (b, -1)):
        if value.data is not None and (made := value.plane_along(dim)) is not None:
            walk.produce(made)
    values = []
    for value, dim in ((a, -1), (b, -2)):
        meta = value.meta.narrow(dim, 0, 1)
        planes = [p.narrow(dim, 0, 1) for p in value.without(dim)]
        kept = [core(head, varying(head)).expand(meta.shape) for head in heads]
        values.append(Value(meta, (*kept, *planes)))
    return merge(walk, node, values, out.shape)


def addmm(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Tensor) -> Planes:
    """bias + A (M, K) · B (K, N)."""
    bias, a, b = args[:3]
    product = Value(out, matmul(walk, node, (a, b), {}, out))
    return merge(walk, node, [product, bias], out.shape)


def einsum(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Tensor) -> Planes:
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
        meta = value.meta
        for dim in reversed(gone):
            meta, planes = meta.select(dim, 0), [p.select(dim, 0) for p in planes]
        left_over.append(Value(meta, tuple(planes)))
    return merge(walk, node, left_over, out.shape)


def _lay_out(value: Value, term: str, letters: list[str]) -> Value:
    """`value` with one dimension per letter, of size 1 where it has none."""
    order = [term.index(letter) for letter in letters if letter in term]

    def lay(tensor: Tensor) -> Tensor:
        moved = tensor.permute(order)
        for dim, letter in enumerate(letters):
            if letter not in term:
                moved = moved.unsqueeze(dim)
        return moved

    return Value(lay(value.meta), tuple(lay(p) for p in value.planes), value.data)


def embedding(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Tensor) -> Planes:
    """W (entries, D): the entries are addressed by number and stay, D makes channels."""
    weight: Value = args[0]
    made, entries = weight.plane_along(1), weight.plane_along(0)
    if entries is not None:
        walk.freeze(entries, node, "an embedding addresses its entries by number", quiet=True)
    if made is None:
        return ()
    walk.produce(made)
    return (along(_row(made, 1), out.dim() - 1, out.shape),)


def embedding_bag(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Any) -> list[Planes]:
    """Sums, means or maxima of bags of entries, (bags, D), and three lists of numbers."""
    return [embedding(walk, node, args, kwargs, out[0]), *[()] * (len(out) - 1)]


def bilinear(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Tensor) -> Planes:
    """x (…, I) · W (O, I, J) · y (…, J) + b (O,): W reads both, its rows make new channels."""
    x, y, weight, bias = (*args, None)[:4]
    values = []
    for read, dim in ((x, 1), (y, 2)):
        contract(walk, node, read, -1, weight, dim)
        planes = tuple(plane.narrow(-1, 0, 1) for plane in read.without(-1))
        values.append(Value(read.meta.narrow(-1, 0, 1), planes))
    if (made := weight.plane_along(0)) is not None:
        walk.produce(made)
        labels = _row(made, 0)
        values.append(Value(out.new_empty(labels.shape), (labels,)))
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
        heads = _whole_heads(walk, a, pa, a_dim, pb, b_dim)
        if heads is not None:
            return (heads,)
    for plane, dim in ((pa, a_dim), (pb, b_dim)):
        walk.tie_along(plane, [d for d in varying(plane) if d != dim % plane.dim()])
    walk.tie(_row(pa, a_dim), _row(pb, b_dim))
    if a.data is None and b.data is None:
        walk.contractions.append((node, (pa, pb)))
    return ()


def _whole_heads(
    walk: Walk, a: Value, pa: Tensor, a_dim: int, pb: Tensor, b_dim: int
) -> Tensor | None:
    """Tie each head of two activations into one unit; the plane of the heads.

    None where the planes do not have the same heads, along leading dimensions.
    """
    batch = range(pa.dim() - 2)
    heads = [d for d in varying(pa) if d in batch]
    if not heads or heads != [d for d in varying(pb) if d in batch]:
        return None
    if any(pa.shape[d] != pb.shape[d] for d in heads):
        return None
    for plane in (pa, pb):
        walk.tie_along(plane, [d for d in varying(plane) if d not in batch])
    walk.tie(core(pa, heads), core(pb, heads))
    return core(pa, heads).expand(
        *(1 if d == a_dim % a.meta.dim() else s for d, s in enumerate(a.shape))
    )


def _row(plane: Tensor, dim: int) -> Tensor:
    """The labels of `plane` along `dim`, at the first position of every other dimension."""
    return core(plane, [dim % plane.dim()]).reshape(-1)


def _raise(value: Value, dim: int) -> Value:
    return Value(
        value.meta.unsqueeze(dim), tuple(p.unsqueeze(dim) for p in value.planes), value.data
    )
