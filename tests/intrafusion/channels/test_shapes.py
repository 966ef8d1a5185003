"""Shapes worked out are those that torch's own kernels for the meta device give."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor

from intrafusion.channels.shapes import SHAPES

Arguments = tuple[Any, ...]
Case = tuple[Any, Callable[[Random], Arguments]]
"""An overload of ATen, and arguments for it."""

aten = torch.ops.aten


def meta(*shape: int) -> Tensor:
    return torch.empty(shape, device="meta")


def sizes(random: Random, count: int) -> list[int]:
    return [random.randint(1, 6) for _ in range(count)]


def any_tensor(random: Random) -> Tensor:
    return meta(*sizes(random, random.randint(1, 4)))


def image(random: Random, space: int = 2) -> Tensor:
    return meta(*sizes(random, 2 + space))


def alone(random: Random) -> Arguments:
    return (any_tensor(random),)


def pair(random: Random) -> Arguments:
    """Two tensors that broadcast, the second of any rank up to the first's."""
    shape = sizes(random, random.randint(1, 4))
    other = [size if random.random() < 0.6 else 1 for size in shape]
    first = [s if random.random() < 0.8 else 1 for s in shape]
    tensors = (meta(*first), meta(*other[random.randint(0, len(other)) :]))
    return tensors if random.random() < 0.5 else tensors[::-1]


def vectors(random: Random, x: Tensor) -> tuple[Tensor | None, ...]:
    return tuple(meta(x.shape[1]) if random.random() < 0.7 else None for _ in range(2))


def norm(random: Random) -> Arguments:
    x = image(random)
    statistics = (meta(x.shape[1]), meta(x.shape[1]))
    return (x, *vectors(random, x), *statistics, False, 0.1, 1e-5, False)


def layer_norm(random: Random) -> Arguments:
    x = any_tensor(random)
    return (x, list(x.shape[-1:]), meta(*x.shape[-1:]), None, 1e-5, False)


def group_norm(random: Random) -> Arguments:
    groups = random.randint(1, 3)
    x = meta(2, groups * random.randint(1, 3), *sizes(random, 2))
    return (x, groups, *vectors(random, x), 1e-5, False)


def linear(random: Random) -> Arguments:
    x, outward = any_tensor(random), random.randint(1, 5)
    return (x, meta(outward, x.shape[-1]), meta(outward) if random.random() < 0.5 else None)


def product(random: Random, lead: int | None = None) -> Arguments:
    m, k, n = sizes(random, 3)
    if lead is not None:
        batch = sizes(random, lead)
        return (meta(*batch, m, k), meta(*batch, k, n))
    a, b = pair(random)
    left, right = random.choice([((m, k), (k, n)), ((k,), (k, n)), ((m, k), (k,)), ((k,), (k,))])
    return (
        meta(*(a.shape if len(left) > 1 else ()), *left),
        meta(*(b.shape if len(right) > 1 else ()), *right),
    )


def attention(random: Random) -> Arguments:
    batch, heads, queries, keys, width, values = sizes(random, 6)
    lead = (batch, heads)
    return (meta(*lead, queries, width), meta(*lead, keys, width), meta(*lead, keys, values))


def convolution(random: Random) -> Arguments:
    space, groups, transposed = random.randint(1, 3), random.randint(1, 2), random.random() < 0.5
    inward, outward = groups * random.randint(1, 3), groups * random.randint(1, 3)
    channels = (inward, outward // groups) if transposed else (outward, inward // groups)
    kernel = [random.randint(1, 3) for _ in range(space)]
    x = meta(2, inward, *(random.randint(7, 12) for _ in range(space)))
    stride, dilation = ([random.randint(1, 3) for _ in range(space)] for _ in range(2))
    padding = [random.randint(0, 2) for _ in range(space)]
    extra = [s - 1 if transposed else 0 for s in stride]
    bias = meta(outward) if random.random() < 0.5 else None
    weight = meta(*channels, *kernel)
    return (x, weight, bias, stride, padding, dilation, transposed, extra, groups)


def parts(random: Random) -> Arguments:
    shape = sizes(random, random.randint(1, 4))
    dim = random.randrange(len(shape))

    def part() -> Tensor:
        return meta(*(random.randint(0, 4) if d == dim else s for d, s in enumerate(shape)))

    empty = [meta(0)] if random.random() < 0.3 else []
    return ([*empty, *(part() for _ in range(random.randint(1, 4)))], dim - len(shape))


def reduction(random: Random) -> Arguments:
    x = any_tensor(random)
    dims = random.sample(range(-x.dim(), 0), random.randint(0, x.dim()))
    return (x, dims, random.random() < 0.5)


def norm_of(random: Random) -> Arguments:
    x, dims, keepdim = reduction(random)
    return (x, 2, dims, keepdim)


def regrouped(random: Random) -> Arguments:
    a, b, c = sizes(random, 3)
    return (meta(a, b * c), random.choice([[a, -1, c], [a * b, c], [-1], [a, b, c], [-1, b * c]]))


def some_dim(random: Random) -> tuple[Tensor, int]:
    x = any_tensor(random)
    return x, random.randrange(-x.dim(), x.dim())


def permuted(random: Random) -> Arguments:
    x = any_tensor(random)
    return (x, random.sample(range(-x.dim(), 0), x.dim()))


def expanded(random: Random) -> Arguments:
    shape = sizes(random, random.randint(1, 4))
    own = [1 if random.random() < 0.5 else size for size in shape]
    wanted = [-1 if o == size else size for o, size in zip(own, shape, strict=True)]
    return (meta(*own), [*sizes(random, random.randint(0, 2)), *wanted])


def cut(random: Random) -> Arguments:
    ends = [None if random.random() < 0.3 else random.randint(-8, 8) for _ in range(2)]
    return (*some_dim(random), *ends, random.randint(1, 3))


def pieces(random: Random) -> Arguments:
    x, dim = some_dim(random)
    first = random.randint(0, x.shape[dim])
    return (x, [first, x.shape[dim] - first], dim)


def looked_up(random: Random) -> Arguments:
    numbers = torch.empty(sizes(random, random.randint(0, 3)), dtype=torch.int64, device="meta")
    return (meta(*sizes(random, 2)), numbers)


def added_product(random: Random) -> Arguments:
    a, b = product(random, 0)
    return (meta(b.shape[1]), a, b)


def pooled(*more: Any) -> Callable[[Random], Arguments]:
    def made(random: Random) -> Arguments:
        kernel = [random.randint(2, 3) for _ in range(random.randint(1, 2))]
        stride = random.choice([[], [random.randint(1, 3)], [1, 2]])
        x = meta(*sizes(random, random.randint(1, 2)), *(random.randint(7, 12) for _ in "hw"))
        return (x, kernel, stride, random.choice([[0], [1], [1, 0]]), *more)

    return made


def resized(space: int, *options: Any) -> Callable[[Random], Arguments]:
    return lambda random: (image(random, space), sizes(random, space), *options)


def recurrent(gates: int) -> Callable[[Random], Arguments]:
    def made(random: Random) -> Arguments:
        layers, two_ways, batch_first = random.randint(1, 2), random.random() < 0.5, True
        batch, steps, width, hidden = sizes(random, 4)
        directions = 2 if two_ways else 1
        weights = []
        for layer in range(layers):
            inward = width if layer == 0 else directions * hidden
            for _ in range(directions):
                rows = gates * hidden
                weights += [meta(rows, inward), meta(rows, hidden), meta(rows), meta(rows)]
        state = meta(layers * directions, batch, hidden)
        states: Any = [state, state] if gates == 4 else state
        options = (True, layers, 0.0, False, two_ways, batch_first)
        return (meta(batch, steps, width), states, weights, *options)

    return made


CASES: dict[str, Case] = {
    "batch_norm": (aten.batch_norm.default, norm),
    "instance_norm": (aten.instance_norm.default, lambda r: (*norm(r)[:5], True, 0.1, 1e-5, False)),
    "layer_norm": (aten.layer_norm.default, layer_norm),
    "rms_norm": (aten.rms_norm.default, lambda r: (*layer_norm(r)[:3], 1e-5)),
    "group_norm": (aten.group_norm.default, group_norm),
    "softmax": (aten.softmax.int, lambda r: (any_tensor(r), -1)),
    "log_softmax": (aten.log_softmax.int, lambda r: (any_tensor(r), 0)),
    "roll": (aten.roll.default, lambda r: (any_tensor(r), [1], [-1])),
    **{
        name: (getattr(aten, name).default, alone)
        for name in (
            *("relu", "hardtanh", "leaky_relu", "elu", "gelu", "silu", "mish", "softplus"),
            *("sigmoid", "hardsigmoid", "hardswish", "tanh", "exp", "log", "sqrt", "rsqrt"),
            *("neg", "abs", "sin", "cos", "erf"),
        )
    },
    **{name: (getattr(aten, name).Tensor, pair) for name in ("add", "sub", "mul", "div")},
    "pow": (aten.pow.Tensor_Tensor, pair),
    "maximum": (aten.maximum.default, pair),
    "minimum": (aten.minimum.default, pair),
    "masked_fill": (
        aten.masked_fill.Scalar,
        lambda r: (lambda x: (x, meta(*x.shape[1:]).bool(), 0.0))(any_tensor(r)),
    ),
    "clamp": (aten.clamp.default, lambda r: (any_tensor(r), 0.0, 1.0)),
    "clamp_min": (aten.clamp_min.Tensor, pair),
    "reshape": (aten.reshape.default, regrouped),
    "transpose": (aten.transpose.int, lambda r: (*some_dim(r), -1)),
    "permute": (aten.permute.default, permuted),
    "unsqueeze": (aten.unsqueeze.default, some_dim),
    "expand": (aten.expand.default, expanded),
    "slice": (aten.slice.Tensor, cut),
    "select": (aten.select.int, lambda r: (*some_dim(r), 0)),
    "unbind": (aten.unbind.int, some_dim),
    "split": (aten.split.Tensor, lambda r: (any_tensor(r), r.randint(1, 4), -1)),
    "split_with_sizes": (aten.split_with_sizes.default, pieces),
    "embedding": (aten.embedding.default, looked_up),
    "linear": (aten.linear.default, linear),
    "matmul": (aten.matmul.default, product),
    "mm": (aten.mm.default, lambda r: product(r, 0)),
    "bmm": (aten.bmm.default, lambda r: product(r, 1)),
    "addmm": (aten.addmm.default, added_product),
    "scaled_dot_product_attention": (aten.scaled_dot_product_attention.default, attention),
    "convolution": (aten.convolution.default, convolution),
    "cat": (aten.cat.default, parts),
    "stack": (aten.stack.default, lambda r: (lambda x: ([x, x], r.randint(-2, 1)))(any_tensor(r))),
    "cumsum": (aten.cumsum.default, lambda r: (any_tensor(r), -1)),
    "_to_copy": (aten._to_copy.default, alone),
    "mean": (aten.mean.dim, reduction),
    "sum": (aten.sum.dim_IntList, reduction),
    "amax": (aten.amax.default, reduction),
    "amin": (aten.amin.default, reduction),
    "linalg_vector_norm": (aten.linalg_vector_norm.default, norm_of),
    "max_pool2d": (aten.max_pool2d.default, pooled([1], False)),
    "avg_pool2d": (aten.avg_pool2d.default, pooled(False)),
    "adaptive_avg_pool1d": (aten.adaptive_avg_pool1d.default, resized(1)),
    "adaptive_avg_pool2d": (aten.adaptive_avg_pool2d.default, resized(2)),
    "adaptive_avg_pool3d": (aten.adaptive_avg_pool3d.default, resized(3)),
    "upsample_nearest2d": (aten.upsample_nearest2d.default, resized(2)),
    "upsample_bilinear2d": (aten.upsample_bilinear2d.default, resized(2, False)),
    "lstm": (aten.lstm.input, recurrent(4)),
    "gru": (aten.gru.input, recurrent(3)),
    "rnn_tanh": (aten.rnn_tanh.input, recurrent(1)),
    "rnn_relu": (aten.rnn_relu.input, recurrent(1)),
}


def test_every_rule_has_a_case() -> None:
    assert CASES.keys() == SHAPES.keys()


@pytest.mark.parametrize("name", SHAPES)
def test_a_rule_gives_what_the_kernel_gives(name: str) -> None:
    operation, draw = CASES[name]
    for seed in range(12):
        arguments = draw(Random(seed))
        expected = operation(*arguments)
        found = SHAPES[name](*arguments)
        shapes = expected.shape if isinstance(expected, Tensor) else [t.shape for t in expected]
        assert found == shapes, arguments


def test_a_packed_sequence_is_left_to_the_kernel() -> None:
    data, batch_sizes, state = meta(7, 4), torch.empty(3, device="meta"), meta(1, 3, 5)
    assert SHAPES["lstm"](data, batch_sizes, [state, state], [], True, 1, 0.0, False, False) is None
    assert SHAPES["gru"](data, batch_sizes, state, [], True, 1, 0.0, False, False) is None
