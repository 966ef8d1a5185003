"""Shapes of results, worked out without running the operation.

Torch's own kernels for shapes, those of the meta device, are written in Python for most of what
networks consist of, and would take nearly all of the walk. The rules here say the same for the
common operations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

Shape: TypeAlias = tuple[int, ...]


class Shaped(Protocol):
    """A tensor, or what stands for one."""

    @property
    def shape(self) -> Shape: ...


ShapeRule: TypeAlias = Callable[..., Shape | list[Shape] | None]
"""The arguments of an operation in ATen's order → the shape of its result, or a list of shapes
where it has several results; None: the rule does not know."""


def _kept(x: Shaped, *_: Any, **__: Any) -> Shape:
    return x.shape


def _broadcast(*args: Any, **kwargs: Any) -> Shape:
    first, *others = (a.shape for a in (*args, *kwargs.values()) if hasattr(a, "shape"))
    shape: Shape = first
    for other in others:
        shape = _meet(shape, other)
    return shape


def _meet(a: Shape, b: Shape) -> Shape:
    """The shape that `a` and `b`, which fit, broadcast to."""
    if a == b:
        return a
    longer, shorter = (a, b) if len(a) >= len(b) else (b, a)
    lead = len(longer) - len(shorter)
    # Where one has size 1 the other decides, and that may be a 0.
    met = [y if x == 1 else x for x, y in zip(longer[lead:], shorter, strict=True)]
    return (*longer[:lead], *met)


def _reshape(x: Shaped, sizes: Sequence[int]) -> Shape | None:
    known = math.prod(size for size in sizes if size != -1)
    if known == 0:
        return None
    return tuple([math.prod(x.shape) // known if size == -1 else size for size in sizes])


def _transpose(x: Shaped, dim0: int, dim1: int) -> Shape:
    shape = list(x.shape)
    shape[dim0], shape[dim1] = shape[dim1], shape[dim0]
    return tuple(shape)


def _permute(x: Shaped, dims: Sequence[int]) -> Shape:
    return tuple([x.shape[dim] for dim in dims])


def _unsqueeze(x: Shaped, dim: int) -> Shape:
    dim %= len(x.shape) + 1
    return (*x.shape[:dim], 1, *x.shape[dim:])


def _expand(x: Shaped, sizes: Sequence[int], **_: Any) -> Shape:
    own = (*[1] * (len(sizes) - len(x.shape)), *x.shape)
    return tuple([o if size == -1 else size for o, size in zip(own, sizes, strict=True)])


def _slice(
    x: Shaped, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Shape:
    shape = list(x.shape)
    shape[dim] = len(range(*slice(start, end, step).indices(shape[dim])))
    return tuple(shape)


def _select(x: Shaped, dim: int, index: int) -> Shape:
    dim %= len(x.shape)
    return (*x.shape[:dim], *x.shape[dim + 1 :])


def _unbind(x: Shaped, dim: int = 0) -> list[Shape]:
    return [_select(x, dim, 0)] * x.shape[dim]


def _split(x: Shaped, sizes: int | Sequence[int], dim: int = 0) -> list[Shape]:
    if isinstance(sizes, int):
        starts = range(0, x.shape[dim], sizes or 1)
        sizes = [min(sizes, x.shape[dim] - start) for start in starts] or [0]
    dim %= len(x.shape)
    return [(*x.shape[:dim], size, *x.shape[dim + 1 :]) for size in sizes]


def _embedding(weight: Shaped, indices: Shaped, *_: Any) -> Shape:
    return (*indices.shape, *weight.shape[1:])


def _addmm(bias: Shaped, a: Shaped, b: Shaped, **_: Any) -> Shape:
    return (*a.shape[:1], *b.shape[1:])


def _linear(x: Shaped, weight: Shaped, *_: Any) -> Shape:
    return (*x.shape[:-1], *weight.shape[:-1])


def _matmul(a: Shaped, b: Shaped) -> Shape:
    rows, columns = a.shape[-2:-1], b.shape[-1:] if len(b.shape) > 1 else ()
    return (*_meet(a.shape[:-2], b.shape[:-2]), *rows, *columns)


def _attention(q: Shaped, k: Shaped, v: Shaped, *_: Any, **options: Any) -> Shape:
    lead: Shape = q.shape[:-2]
    if not options.get("enable_gqa", False):
        lead = _meet(_meet(lead, k.shape[:-2]), v.shape[:-2])
    return (*lead, q.shape[-2], v.shape[-1])


def _convolution(
    x: Shaped,
    weight: Shaped,
    bias: Shaped | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Shape:
    space = []
    for d, size in enumerate(x.shape[2:]):
        reach = dilation[d] * (weight.shape[2 + d] - 1)
        if transposed:
            steps = (size - 1) * stride[d]
            space.append(steps - 2 * padding[d] + reach + output_padding[d] + 1)
        else:
            space.append((size + 2 * padding[d] - reach - 1) // stride[d] + 1)
    return (x.shape[0], weight.shape[1] * groups if transposed else weight.shape[0], *space)


def _cat(tensors: list[Shaped], dim: int = 0) -> Shape:
    # An empty vector may stand among tensors of any shape.
    parts = [t for t in tensors if t.shape != (0,)] or tensors
    shape = list(parts[0].shape)
    shape[dim] = sum(part.shape[dim] for part in parts)
    return tuple(shape)


def _stack(tensors: list[Shaped], dim: int = 0) -> Shape:
    first: Shape = tensors[0].shape
    dim %= len(first) + 1
    return (*first[:dim], len(tensors), *first[dim:])


def _reduce(
    x: Shaped, dim: int | Sequence[int] | None = None, keepdim: bool = False, **_: Any
) -> Shape:
    listed = [dim] if isinstance(dim, int) else list(dim or range(len(x.shape)))
    gone = {d % len(x.shape) for d in listed} if len(x.shape) else set()
    if keepdim:
        return tuple(1 if d in gone else size for d, size in enumerate(x.shape))
    return tuple(size for d, size in enumerate(x.shape) if d not in gone)


def _norm(x: Shaped, order: float = 2, dim: Any = None, keepdim: bool = False, **_: Any) -> Shape:
    return _reduce(x, dim, keepdim)


def _max_pool(
    x: Shaped,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> Shape | None:
    if ceil_mode:
        return None
    space = []
    for d, size in enumerate(x.shape[-2:]):
        # A literal of one number is meant for both dimensions.
        k, step, pad, apart = (
            given[d % len(given)] for given in (kernel, stride or kernel, padding, dilation)
        )
        space.append((size + 2 * pad - apart * (k - 1) - 1) // step + 1)
    return (*x.shape[:-2], *space)


def _avg_pool(
    x: Shaped,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    *_: Any,
) -> Shape | None:
    return _max_pool(x, kernel, stride, padding, ceil_mode=ceil_mode)


def _resized(x: Shaped, size: Sequence[int] | None, *_: Any) -> Shape | None:
    return None if size is None else (*x.shape[: len(x.shape) - len(size)], *size)


def _lstm(x: Shaped, states: Any, parameters: Any, *options: Any) -> list[Shape] | None:
    """Where `states` is no list the input is packed, which has other arguments."""
    if not isinstance(states, list):
        return None
    hidden, cell = states
    return [_steps(x, hidden, options), hidden.shape, cell.shape]


def _recurrent(x: Shaped, hidden: Shaped, parameters: Any, *options: Any) -> list[Shape] | None:
    return [_steps(x, hidden, options), hidden.shape] if isinstance(parameters, list) else None


def _steps(x: Shaped, hidden: Shaped, options: Sequence[Any]) -> Shape:
    """`options`: has biases, layers, dropout, train, is bidirectional, batch first."""
    return (*x.shape[:-1], hidden.shape[-1] * (2 if options[4] else 1))


SHAPES: dict[str, ShapeRule] = {
    **dict.fromkeys(
        (
            "batch_norm",
            "instance_norm",
            "layer_norm",
            "rms_norm",
            "group_norm",
            "softmax",
            "log_softmax",
            "roll",
            "relu",
            "hardtanh",
            "leaky_relu",
            "elu",
            "gelu",
            "silu",
            "mish",
            "softplus",
            "sigmoid",
            "hardsigmoid",
            "hardswish",
            "tanh",
            "exp",
            "log",
            "sqrt",
            "rsqrt",
            "neg",
            "abs",
            "sin",
            "cos",
            "erf",
            "cumsum",
            "_to_copy",
        ),
        _kept,
    ),
    **dict.fromkeys(
        (
            *("add", "sub", "mul", "div", "pow", "maximum", "minimum", "masked_fill"),
            *("clamp", "clamp_min"),
        ),
        _broadcast,
    ),
    "reshape": _reshape,
    "transpose": _transpose,
    "permute": _permute,
    "unsqueeze": _unsqueeze,
    "expand": _expand,
    "slice": _slice,
    "select": _select,
    "unbind": _unbind,
    **dict.fromkeys(("split", "split_with_sizes"), _split),
    "embedding": _embedding,
    "linear": _linear,
    "matmul": _matmul,
    "mm": _matmul,
    "bmm": _matmul,
    "addmm": _addmm,
    "scaled_dot_product_attention": _attention,
    "convolution": _convolution,
    "cat": _cat,
    "stack": _stack,
    **dict.fromkeys(("mean", "sum", "amax", "amin"), _reduce),
    "linalg_vector_norm": _norm,
    "max_pool2d": _max_pool,
    "avg_pool2d": _avg_pool,
    **dict.fromkeys(
        (
            "adaptive_avg_pool1d",
            "adaptive_avg_pool2d",
            "adaptive_avg_pool3d",
            "upsample_nearest2d",
            "upsample_bilinear2d",
        ),
        _resized,
    ),
    "lstm": _lstm,
    **dict.fromkeys(("gru", "rnn_tanh", "rnn_relu"), _recurrent),
}
