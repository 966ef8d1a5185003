"""Random small networks, drawn from the operations that channels can be followed through.

A network is grown step by step: each step takes the value at hand, of whatever rank, and puts an
operation or a small idiom on it, or declines where its shape does not fit. What is drawn are
choices alone, so that hypothesis can shrink a failing network to its few guilty steps.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, fx

from intrafusion.program import torch_private
from intrafusion.program.constants import fold_constants
from intrafusion.program.normalise import normalise
from intrafusion.program.program import Program, module_tree

aten = torch.ops.aten

BATCH = 2
LARGEST = 2048
"""No value has more entries per sample."""

TOKENS = 10
"""Words in the vocabulary of networks that read them."""

INPUTS = ((3, 8, 8), (5, 6), (7,), (2, 6), (2, 4, 4, 4), ())
"""Shapes of one sample: images, sequences, vectors, signals, volumes; () is a row of tokens."""


@dataclass
class Sketch:
    """A network as it grows.

    Attributes:
        pick: chooses one of several.
        generator: of the weights.
        graph: ATen as an export has it, before `normalise`, with `val` metadata.
        tensors: parameters and buffers, in float64.
        trainable: which of them are parameters.
        steps: the names of the steps so far.
    """

    pick: Callable[[Sequence[Any]], Any]
    generator: torch.Generator
    graph: fx.Graph = field(default_factory=fx.Graph)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    trainable: set[str] = field(default_factory=set)
    steps: list[str] = field(default_factory=list)

    def choose(self, *options: Any) -> Any:
        return self.pick(options)

    def random(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def input(self, value: Tensor) -> fx.Node:
        node = self.graph.placeholder(f"x{len(self.graph.nodes)}")
        node.meta["val"] = value
        return node

    def parameter(self, *shape: int, inputs: int = 1) -> fx.Node:
        """A new parameter that keeps the size of what is summed over `inputs` entries."""
        return self._attribute("weight", self.random(*shape) / math.sqrt(inputs), trainable=True)

    def buffer(self, value: Tensor) -> fx.Node:
        return self._attribute("buffer", value, trainable=False)

    def _attribute(self, kind: str, value: Tensor, *, trainable: bool) -> fx.Node:
        name = f"{kind}{len(self.tensors)}"
        self.tensors[name] = value
        if trainable:
            self.trainable.add(name)
        node = self.graph.create_node("get_attr", name)
        node.meta["val"] = value
        return node

    def call(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> fx.Node:
        node = self.graph.call_function(target, args, kwargs)
        values = fx.map_arg((args, kwargs), lambda source: source.meta["val"])
        node.meta["val"] = target(*values[0], **values[1])
        return node

    def pieces(self, node: fx.Node) -> list[fx.Node]:
        """The results of an operation that has several."""
        return [self.call(operator.getitem, node, i) for i in range(len(node.meta["val"]))]


def shape_of(node: fx.Node) -> list[int]:
    return list(node.meta["val"].shape)


Step = Callable[[Sketch, fx.Node], fx.Node | None]

STEPS: dict[str, Step] = {}

COUNTING = set[str]()
"""Steps whose result depends on how many channels there are: copies of units are not lossless."""


def step(*, counts: bool = False) -> Callable[[Step], Step]:
    def register(function: Step) -> Step:
        name = function.__name__.strip("_")
        STEPS[name] = function
        if counts:
            COUNTING.add(name)
        return function

    return register


# --- layers ---------------------------------------------------------------------------------------


def convolve(b: Sketch, x: fx.Node, made: int, **options: Any) -> fx.Node:
    """A convolution over all dimensions from the third on, that keeps their sizes."""
    shape = shape_of(x)
    groups, kernel = options.get("groups", 1), options.get("kernel", 1)
    space = len(shape) - 2
    inputs = shape[1] // groups
    weight = b.parameter(made, inputs, *[kernel] * space, inputs=inputs * kernel**space)
    bias = b.choose(None, b.parameter(made)) if options.get("bias", True) else None
    target = getattr(aten, f"conv{space}d").default
    stride = [options.get("stride", 1)] * space
    return b.call(target, x, weight, bias, stride, [kernel // 2] * space, [1] * space, groups)


def project(b: Sketch, x: fx.Node, made: int) -> fx.Node:
    """A linear layer on the last dimension."""
    inputs = shape_of(x)[-1]
    weight = b.parameter(made, inputs, inputs=inputs)
    bias = b.choose(None, b.parameter(made))
    return b.call(aten.linear.default, x, weight, bias)


@step()
def linear(b: Sketch, x: fx.Node) -> fx.Node:
    return project(b, x, b.choose(4, 6, 8))


@step()
def convolution(b: Sketch, x: fx.Node) -> fx.Node | None:
    if len(shape_of(x)) < 3:
        return None
    return convolve(b, x, b.choose(4, 6, 8), kernel=b.choose(1, 3), stride=b.choose(1, 2))


@step()
def grouped_convolution(b: Sketch, x: fx.Node) -> fx.Node | None:
    shape = shape_of(x)
    if len(shape) < 3 or shape[1] % 2 or shape[1] == 2:
        return None
    return convolve(b, x, b.choose(4, 8), kernel=b.choose(1, 3), groups=2)


@step()
def depthwise_convolution(b: Sketch, x: fx.Node) -> fx.Node | None:
    shape = shape_of(x)
    if len(shape) < 3 or shape[1] == 1:
        return None
    return convolve(b, x, shape[1] * b.choose(1, 2), kernel=3, groups=shape[1])


@step()
def transposed_convolution(b: Sketch, x: fx.Node) -> fx.Node | None:
    shape = shape_of(x)
    space = len(shape) - 2
    if space < 1:
        return None
    groups = b.choose(1, 2, shape[1]) if shape[1] % 2 == 0 else b.choose(1, shape[1])
    made = b.choose(1, 2, 3) if groups == shape[1] else b.choose(2, 4)
    weight = b.parameter(shape[1], made, *[2] * space, inputs=shape[1] // groups)
    bias = b.choose(None, b.parameter(made * groups))
    target = [aten.conv_transpose1d.default, aten.conv_transpose2d.input]
    target = [*target, aten.conv_transpose3d.input][space - 1]
    strides = [b.choose(1, 2)] * space
    return b.call(target, x, weight, bias, strides, [0] * space, [0] * space, groups)


@step()
def product_with_a_parameter(b: Sketch, x: fx.Node) -> fx.Node:
    inputs, made = shape_of(x)[-1], b.choose(4, 6)
    if b.choose(True, False):
        return b.call(aten.matmul.default, x, b.parameter(inputs, made, inputs=inputs))
    weight = b.parameter(made, inputs, inputs=inputs)
    return b.call(aten.matmul.default, x, b.call(aten.t.default, weight))


@step()
def product_from_the_left(b: Sketch, x: fx.Node) -> fx.Node | None:
    shape = shape_of(x)
    if len(shape) < 3:
        return None
    weight = b.parameter(b.choose(4, 6), shape[-2], inputs=shape[-2])
    return b.call(aten.matmul.default, weight, x)


@step()
def addmm(b: Sketch, x: fx.Node) -> fx.Node | None:
    shape = shape_of(x)
    if len(shape) != 2:
        return None
    made = b.choose(4, 6)
    return b.call(
        aten.addmm.default, b.parameter(made), x, b.parameter(shape[1], made, inputs=shape[1])
    )


@step()
def einsum(b: Sketch, x: fx.Node) -> fx.Node | None:
    letters = "bcdef"[: len(shape_of(x))]
    dim = b.choose(*range(1, len(letters)))
    size = shape_of(x)[dim]
    summed = letters[dim]
    weight = b.parameter(b.choose(4, 6), size, inputs=size)
    equation = f"{letters},o{summed}->{letters.replace(summed, 'o')}"
    return b.call(aten.einsum.default, equation, [x, weight])


@step()
def einsum_into_heads(b: Sketch, x: fx.Node) -> fx.Node | None:
    shape = shape_of(x)
    if len(shape) != 3:
        return None
    weight = b.parameter(2, 4, shape[2], inputs=shape[2])
    return b.call(aten.einsum.default, "nld,hed->nhle", [x, weight])


# --- norms ----------------------------------------------------------------------------------------


@step()
def batch_norm(b: Sketch, x: fx.Node) -> fx.Node:
    size = shape_of(x)[1]
    scale, shift = b.parameter(size), b.parameter(size)
    mean, variance = b.buffer(b.random(size)), b.buffer(b.random(size).abs() + 0.5)
    return b.call(aten.batch_norm.default, x, scale, shift, mean, variance, False, 0.1, 1e-5, False)


@step(counts=True)
def layer_norm(b: Sketch, x: fx.Node) -> fx.Node:
    shape = shape_of(x)
    over = shape[-b.choose(1, 2) :] if len(shape) > 2 else shape[-1:]
    affine = (b.parameter(*over), b.parameter(*over)) if b.choose(True, False) else (None, None)
    return b.call(aten.layer_norm.default, x, over, *affine, 1e-5)


@step(counts=True)
def rms_norm(b: Sketch, x: fx.Node) -> fx.Node:
    over = shape_of(x)[-1:]
    return b.call(aten.rms_norm.default, x, over, b.choose(None, b.parameter(*over)), 1e-5)


@step(counts=True)
def group_norm(b: Sketch, x: fx.Node) -> fx.Node | None:
    shape = shape_of(x)
    if len(shape) < 3 or shape[1] % 2:
        return None
    affine = (b.parameter(shape[1]), b.parameter(shape[1]))
    return b.call(aten.group_norm.default, x, b.choose(1, 2), *affine, 1e-5)


@step(counts=True)
def instance_norm(b: Sketch, x: fx.Node) -> fx.Node | None:
    shape = shape_of(x)
    if len(shape) < 3 or math.prod(shape[2:]) < 2:
        return None
    affine = (b.parameter(shape[1]), b.parameter(shape[1]))
    return b.call(aten.instance_norm.default, x, *affine, None, None, True, 0.1, 1e-5, False)


@step(counts=True)
def norm_by_hand(b: Sketch, x: fx.Node) -> fx.Node:
    dim = [b.choose(1, -1)]
    centred = b.call(aten.sub.Tensor, x, b.call(aten.mean.dim, x, dim, True))
    if b.choose(True, False):
        variance = b.call(aten.var.correction, x, dim, correction=0, keepdim=True)
    else:
        square = b.call(aten.pow.Tensor_Scalar, centred, 2)
        variance = b.call(aten.mean.dim, square, dim, True)
    spread = b.call(aten.sqrt.default, b.call(aten.add.Tensor, variance, 0.1))
    return b.call(aten.div.Tensor, centred, spread)


# --- entry by entry -------------------------------------------------------------------------------


@step()
def activation(b: Sketch, x: fx.Node) -> fx.Node:
    unary = (aten.relu, aten.gelu, aten.sigmoid, aten.tanh, aten.silu, aten.hardswish, aten.abs)
    return b.call(b.choose(*unary).default, x)


@step()
def clamp(b: Sketch, x: fx.Node) -> fx.Node:
    return b.call(b.choose(aten.hardtanh, aten.clamp, aten.leaky_relu).default, x, *[-0.5])


@step()
def scalar_arithmetic(b: Sketch, x: fx.Node) -> fx.Node:
    return b.call(b.choose(aten.mul, aten.add, aten.sub, aten.div).Tensor, x, 1.5)


@step()
def prelu(b: Sketch, x: fx.Node) -> fx.Node:
    return b.call(aten.prelu.default, x, b.parameter(b.choose(1, shape_of(x)[1])))


@step()
def parameter_per_channel(b: Sketch, x: fx.Node) -> fx.Node:
    """Layer scale, or a position embedding."""
    shape = [size if b.choose(True, False) else 1 for size in shape_of(x)]
    return b.call(b.choose(aten.mul, aten.add).Tensor, x, b.parameter(1, *shape[1:]))


@step()
def buffer_per_channel(b: Sketch, x: fx.Node) -> fx.Node:
    dim = b.choose(*range(1, len(shape_of(x))))
    size = shape_of(x)[dim]
    shape = [1] * (len(shape_of(x)) - dim - 1)
    return b.call(aten.add.Tensor, x, b.buffer(b.random(size, *shape)))


@step()
def mask(b: Sketch, x: fx.Node) -> fx.Node:
    # Not 0: what is centred has a mean that is 0 but for rounding, and of either sign.
    positive = b.call(aten.gt.Scalar, x, 0.01)
    if b.choose(True, False):
        return b.call(aten.masked_fill.Scalar, x, positive, 0.5)
    return b.call(aten.where.self, positive, x, b.call(aten.mul.Tensor, x, 0.1))


@step()
def residual(b: Sketch, x: fx.Node) -> fx.Node:
    """x + f(x), f along the channels or along the last dimension."""
    shape = shape_of(x)
    if len(shape) > 2 and b.choose(True, False):
        changed = convolve(b, x, shape[1], kernel=b.choose(1, 3))
    else:
        changed = project(b, x, shape[-1])
    return b.call(aten.add.Tensor, *b.choose((x, changed), (changed, x)))


@step(counts=True)
def gate(b: Sketch, x: fx.Node) -> fx.Node | None:
    """Squeeze and excite."""
    shape = shape_of(x)
    if len(shape) < 3:
        return None
    pooled = b.call(aten.mean.dim, x, list(range(2, len(shape))), True)
    narrow = b.call(aten.relu.default, convolve(b, pooled, 4))
    opened = b.call(aten.sigmoid.default, convolve(b, narrow, shape[1]))
    return b.call(aten.mul.Tensor, x, opened)


@step(counts=True)
def spatial_gate(b: Sketch, x: fx.Node) -> fx.Node | None:
    """CBAM: mean and maximum over the channels say where to look."""
    shape = shape_of(x)
    if len(shape) < 3:
        return None
    mean = b.call(aten.mean.dim, x, [1], True)
    if b.choose(True, False):
        largest = b.call(aten.amax.default, x, [1], True)
    else:
        largest = b.pieces(b.call(aten.max.dim, x, 1, True))[0]
    seen = b.call(aten.cat.default, [mean, largest], 1)
    opened = b.call(aten.sigmoid.default, convolve(b, seen, 1, kernel=3))
    return b.call(aten.mul.Tensor, x, opened)


# --- joining and splitting ------------------------------------------------------------------------


@step()
def concatenation(b: Sketch, x: fx.Node) -> fx.Node:
    shape = shape_of(x)
    if len(shape) > 2 and b.choose(True, False):
        other, dim = convolve(b, x, b.choose(2, 4)), 1
    else:
        other, dim = project(b, x, b.choose(2, 4)), len(shape) - 1
    return b.call(aten.cat.default, b.choose([x, other], [other, x], [x, other, x]), dim)


@step()
def concatenation_of_positions(b: Sketch, x: fx.Node) -> fx.Node | None:
    """A class token before a sequence."""
    shape = shape_of(x)
    if len(shape) != 3:
        return None
    batch = b.call(aten.sym_size.int, x, 0)
    token = b.call(aten.expand.default, b.parameter(1, 1, shape[2]), [batch, -1, -1])
    return b.call(aten.cat.default, [token, x], 1)


@step()
def halves(b: Sketch, x: fx.Node) -> fx.Node | None:
    """Split a dimension, treat one half, put them together again or add them."""
    shape = shape_of(x)
    even = [d for d in range(1, len(shape)) if shape[d] % 2 == 0]
    if not even:
        return None
    dim = b.choose(*even)
    half = shape[dim] // 2
    pieces = b.pieces(
        b.choose(
            lambda: b.call(aten.chunk.default, x, 2, dim),
            lambda: b.call(aten.split.Tensor, x, half, dim),
            lambda: b.call(aten.split_with_sizes.default, x, [half, half], dim),
            lambda: b.call(aten.tensor_split.sections, x, 2, dim),
        )()
    )
    pieces[0] = b.call(aten.relu.default, pieces[0])
    if b.choose(True, False):
        return b.call(b.choose(aten.add, aten.mul).Tensor, *pieces)
    return b.call(aten.cat.default, b.choose(pieces, pieces[::-1]), dim)


@step()
def uneven_pieces(b: Sketch, x: fx.Node) -> fx.Node | None:
    shape = shape_of(x)
    dim = b.choose(*range(1, len(shape)))
    if shape[dim] < 4:
        return None
    pieces = b.pieces(b.call(aten.split.Tensor, x, 3, dim))
    return b.call(aten.cat.default, pieces[::-1], dim)


@step()
def glu(b: Sketch, x: fx.Node) -> fx.Node | None:
    shape = shape_of(x)
    even = [d for d in range(1, len(shape)) if shape[d] % 2 == 0]
    return b.call(aten.glu.default, x, b.choose(*even)) if even else None


@step()
def sliced(b: Sketch, x: fx.Node) -> fx.Node | None:
    shape = shape_of(x)
    dim = b.choose(*range(1, len(shape)))
    if shape[dim] < 4:
        return None
    start, end, stride = b.choose((0, 9999, 2), (1, 9999, 2), (1, -1, 1), (0, 3, 1), (0, 9999, 3))
    return b.call(aten.slice.Tensor, x, dim, start, end, stride)


@step()
def written_in_part(b: Sketch, x: fx.Node) -> fx.Node | None:
    """x[:, :k] *= 2, as an export without in-place operations has it."""
    shape = shape_of(x)
    dim = b.choose(*range(1, len(shape)))
    if shape[dim] < 2:
        return None
    part = b.call(aten.slice.Tensor, x, dim, 0, shape[dim] // 2)
    doubled = b.call(aten.mul.Tensor, part, 2.0)
    return b.call(aten.slice_scatter.default, x, doubled, dim, 0, shape[dim] // 2)


@step()
def interleaved(b: Sketch, x: fx.Node) -> fx.Node | None:
    """Every other channel turned against the one beside it, as in rotary embeddings."""
    shape = shape_of(x)
    if shape[-1] % 2:
        return None
    even = b.call(aten.slice.Tensor, x, -1, 0, 9999, 2)
    odd = b.call(aten.slice.Tensor, x, -1, 1, 9999, 2)
    turned = b.call(aten.stack.default, [b.call(aten.neg.default, odd), even], -1)
    return b.call(aten.reshape.default, turned, [-1, *shape[1:]])


@step()
def index_select(b: Sketch, x: fx.Node) -> fx.Node:
    shape = shape_of(x)
    dim = b.choose(*range(1, len(shape)))
    order = torch.randperm(shape[dim], generator=b.generator)
    chosen = b.buffer(order[: b.choose(shape[dim], max(1, shape[dim] // 2))])
    if b.choose(True, False):
        return b.call(aten.index_select.default, x, dim, chosen)
    return b.call(aten.index.Tensor, x, [*[None] * dim, chosen])


@step()
def repeated(b: Sketch, x: fx.Node) -> fx.Node | None:
    shape = shape_of(x)
    dim = b.choose(*range(1, len(shape)))
    if b.choose(True, False):
        return b.call(aten.repeat_interleave.self_int, x, 2, dim)
    return b.call(aten.repeat.default, x, [2 if d == dim else 1 for d in range(len(shape))])


@step()
def rolled(b: Sketch, x: fx.Node) -> fx.Node:
    dim = b.choose(*range(1, len(shape_of(x))))
    if b.choose(True, False):
        return b.call(aten.roll.default, x, [1], [dim])
    return b.call(aten.flip.default, x, [dim])


@step()
def selected(b: Sketch, x: fx.Node) -> fx.Node | None:
    """The class token: one position of a dimension."""
    shape = shape_of(x)
    if len(shape) < 3:
        return None
    dim = b.choose(*range(1, len(shape)))
    if b.choose(True, False):
        return b.call(aten.select.int, x, dim, b.choose(0, shape[dim] - 1))
    first, *others = b.pieces(b.call(aten.unbind.int, x, dim))
    for other in others:
        first = b.call(aten.maximum.default, first, other)
    return first


@step()
def stacked(b: Sketch, x: fx.Node) -> fx.Node | None:
    shape = shape_of(x)
    if len(shape) > 4:
        return None
    dim = b.choose(*range(1, len(shape) + 1))
    return b.call(aten.stack.default, [x, b.call(aten.tanh.default, x)], dim)


# --- moving ---------------------------------------------------------------------------------------


@step()
def flattened(b: Sketch, x: fx.Node) -> fx.Node | None:
    shape = shape_of(x)
    if len(shape) < 3:
        return None
    first = b.choose(*range(1, len(shape) - 1))
    return b.call(
        b.choose(aten.view, aten.reshape).default,
        b.call(aten.clone.default, x, memory_format=torch.contiguous_format),
        [-1, *shape[1:first], math.prod(shape[first:])],
    )


@step()
def unflattened(b: Sketch, x: fx.Node) -> fx.Node | None:
    shape = shape_of(x)
    even = [d for d in range(1, len(shape)) if shape[d] % 2 == 0 and shape[d] > 2]
    if not even or len(shape) > 4:
        return None
    dim = b.choose(*even)
    parts = b.choose((2, shape[dim] // 2), (shape[dim] // 2, 2))
    return b.call(aten.reshape.default, x, [-1, *shape[1:dim], *parts, *shape[dim + 1 :]])


@step()
def permuted(b: Sketch, x: fx.Node) -> fx.Node | None:
    rank = len(shape_of(x))
    if rank < 3:
        return None
    if b.choose(True, False):
        return b.call(aten.transpose.int, x, 1, rank - 1)
    orders = list(permutations(range(1, rank)))
    return b.call(aten.permute.default, x, [0, *b.choose(*orders)])


@step()
def unsqueezed(b: Sketch, x: fx.Node) -> fx.Node | None:
    shape = shape_of(x)
    if len(shape) > 4:
        return None
    dim = b.choose(*range(1, len(shape) + 1))
    raised = b.call(aten.unsqueeze.default, x, dim)
    sizes = [-1] * (len(shape) + 1)
    sizes[dim] = b.choose(1, 2)
    return b.call(aten.expand.default, raised, sizes)


@step()
def pixel_shuffle(b: Sketch, x: fx.Node) -> fx.Node | None:
    shape = shape_of(x)
    if len(shape) != 4:
        return None
    if shape[1] % 4 == 0 and b.choose(True, False):
        return b.call(aten.pixel_shuffle.default, x, 2)
    if shape[2] % 2 == 0 and shape[3] % 2 == 0:
        return b.call(aten.pixel_unshuffle.default, x, 2)
    return None


@step()
def channel_shuffle(b: Sketch, x: fx.Node) -> fx.Node | None:
    shape = shape_of(x)
    if len(shape) < 3 or shape[1] % 2:
        return None
    if len(shape) == 4 and b.choose(True, False):
        return b.call(aten.channel_shuffle.default, x, 2)
    split = b.call(aten.reshape.default, x, [-1, 2, shape[1] // 2, *shape[2:]])
    turned = b.call(aten.transpose.int, split, 1, 2)
    return b.call(aten.reshape.default, turned, [-1, *shape[1:]])


@step()
def windows(b: Sketch, x: fx.Node) -> fx.Node | None:
    """Swin: cut a feature map into windows."""
    shape = shape_of(x)
    if len(shape) != 4 or shape[1] % 2 or shape[2] % 2:
        return None
    cut = b.call(aten.reshape.default, x, [-1, shape[1] // 2, 2, shape[2] // 2, 2, shape[3]])
    turned = b.call(aten.permute.default, cut, [0, 1, 3, 2, 4, 5])
    return b.call(aten.reshape.default, turned, [-1, shape[1] * shape[2], shape[3]])


# --- space ----------------------------------------------------------------------------------------


@step()
def pool(b: Sketch, x: fx.Node) -> fx.Node | None:
    shape = shape_of(x)
    space = len(shape) - 2
    if space < 1 or min(shape[2:]) < 2:
        return None
    if b.choose(True, False):
        name = f"adaptive_avg_pool{space}d"
        return b.call(getattr(aten, name).default, x, [b.choose(1, 2)] * space)
    name = b.choose("max", "avg") + f"_pool{space}d"
    return b.call(getattr(aten, name).default, x, [2] * space)


@step()
def upsample(b: Sketch, x: fx.Node) -> fx.Node | None:
    shape = shape_of(x)
    space = len(shape) - 2
    if space < 1:
        return None
    if space == 2 and b.choose(True, False):
        return b.call(aten.upsample_bilinear2d.vec, x, None, False, [2.0] * 2)
    return b.call(getattr(aten, f"upsample_nearest{space}d").vec, x, None, [2.0] * space)


@step()
def padded(b: Sketch, x: fx.Node) -> fx.Node | None:
    shape = shape_of(x)
    if len(shape) == 4 and min(shape[2:]) > 1 and b.choose(True, False):
        return b.call(aten.reflection_pad2d.default, x, [1, 1, 1, 0])
    if len(shape) < 3:
        return None
    return b.call(aten.constant_pad_nd.default, x, [1, 0], b.choose(0.0, 1.0))


# --- reductions and attention ---------------------------------------------------------------------


@step(counts=True)
def statistic(b: Sketch, x: fx.Node) -> fx.Node | None:
    """Mean, maximum or variance over one dimension."""
    shape = shape_of(x)
    if len(shape) < 3:
        return None
    dims, keep = [b.choose(*range(1, len(shape)))], b.choose(True, False)
    operation = b.choose(aten.mean.dim, aten.amax.default, aten.amin.default, "var", "max")
    if operation == "var":
        return b.call(aten.var.correction, x, dims, correction=0, keepdim=keep)
    if operation == "max":
        return b.pieces(b.call(aten.max.dim, x, dims[0], keep))[0]
    return b.call(operation, x, dims, keep)


@step()
def total(b: Sketch, x: fx.Node) -> fx.Node | None:
    """A sum, a norm or a softmax: they count every channel they run along."""
    shape = shape_of(x)
    dim = b.choose(*range(1, len(shape)))
    if b.choose(True, False):
        return b.call(aten.softmax.int, x, dim)
    if len(shape) < 3:
        return None
    keep = b.choose(True, False)
    operation = b.choose(aten.sum.dim_IntList, "norm", aten.logsumexp.default, aten.prod.dim_int)
    if operation == "norm":
        return b.call(aten.linalg_vector_norm.default, x, 2, [dim], keep)
    return b.call(operation, x, dim if operation is aten.prod.dim_int else [dim], keep)


@step()
def unit_length(b: Sketch, x: fx.Node) -> fx.Node:
    length = b.call(aten.linalg_vector_norm.default, x, 2, [-1], True)
    limited = b.call(aten.clamp_min.default, length, 1e-6)
    return b.call(aten.div.Tensor, x, limited)


@step()
def attention(b: Sketch, x: fx.Node) -> fx.Node | None:
    shape = shape_of(x)
    if len(shape) != 3:
        return None
    length, width, heads = shape[1], 4, 2
    if b.choose(True, False):
        packed = b.call(
            aten.reshape.default, project(b, x, 3 * heads * width), [-1, length, 3, heads, width]
        )
        q, k, v = b.pieces(
            b.call(aten.unbind.int, b.call(aten.permute.default, packed, [2, 0, 3, 1, 4]))
        )
    else:
        q, k, v = (
            b.call(
                aten.transpose.int,
                b.call(
                    aten.reshape.default, project(b, x, heads * width), [-1, length, heads, width]
                ),
                1,
                2,
            )
            for _ in range(3)
        )
    if b.choose(True, False):
        mixed = b.call(aten.scaled_dot_product_attention.default, q, k, v)
    else:
        logits = b.call(aten.matmul.default, q, b.call(aten.transpose.int, k, -2, -1))
        logits = b.call(aten.mul.Tensor, logits, width**-0.5)
        weights = b.call(aten.softmax.int, logits, -1)
        mixed = b.call(aten.matmul.default, weights, v)
    joined = b.call(aten.transpose.int, mixed, 1, 2)
    return b.call(aten.reshape.default, joined, [-1, length, heads * width])


@step()
def product_of_activations(b: Sketch, x: fx.Node) -> fx.Node | None:
    """Both factors made by layers, and summed over their channels."""
    shape = shape_of(x)
    if len(shape) != 3:
        return None
    left, right = project(b, x, 4), project(b, x, 4)
    if b.choose(True, False):
        return b.call(aten.einsum.default, "nld,nmd->nlm", [left, right])
    return b.call(aten.bmm.default, left, b.call(aten.transpose.int, right, 1, 2))


# --- whole networks -------------------------------------------------------------------------------


@dataclass(frozen=True)
class RandomGraph:
    """A finished network.

    Attributes:
        program: in normal form.
        module: the same before `normalise`, to be loaded.
        steps: what it was grown from.
        reads_all: whether the last layer sums over all that the network made.
    """

    program: Program
    module: fx.GraphModule
    steps: tuple[str, ...]
    reads_all: bool

    def __repr__(self) -> str:
        code = self.program.graph.python_code("self").src
        return f"{' '.join(self.steps)}\n{code}"

    @property
    def counts_channels(self) -> bool:
        return not COUNTING.isdisjoint(self.steps)

    def inputs(self, batch: int) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(batch)
        (example,) = self.program.example_inputs
        shape = (batch, *example.shape[1:])
        if not example.is_floating_point():
            return (torch.randint(TOKENS, shape, generator=generator),)
        return (torch.randn(shape, generator=generator, dtype=torch.float64),)


@st.composite
def random_graphs(draw: Any) -> RandomGraph:
    """Networks of one to eight steps between a first and a last layer."""
    return grown(lambda options: draw(st.sampled_from(options)))


def grown(pick: Callable[[Sequence[Any]], Any]) -> RandomGraph:
    """A network of which `pick` makes all choices."""
    b = Sketch(pick, torch.Generator().manual_seed(pick(range(1000))))
    x = _first_layer(b, b.choose(*INPUTS))
    for _ in range(pick(range(1, 9))):
        name = pick(list(STEPS))
        result = STEPS[name](b, x)
        if result is not None and _fits(result):
            b.steps.append(name)
            x = result
    return _finished(b, *_head(b, x))


def _first_layer(b: Sketch, shape: tuple[int, ...]) -> fx.Node:
    made = b.choose(4, 8)
    if not shape:
        x = b.input(torch.randint(TOKENS, (BATCH, 5), generator=b.generator))
        return b.call(aten.embedding.default, b.parameter(TOKENS, made), x)
    x = b.input(b.random(BATCH, *shape))
    return convolve(b, x, made) if len(shape) > 1 else project(b, x, made)


def _fits(node: fx.Node) -> bool:
    value = node.meta["val"]
    return 2 <= value.dim() <= 5 and value[0].numel() <= LARGEST and bool(value.isfinite().all())


def _head(b: Sketch, x: fx.Node) -> tuple[fx.Node, bool]:
    """A last layer, and whether it reads all dimensions so that no channel is an output."""
    shape = shape_of(x)
    if len(shape) > 2 and b.choose(False, True):
        return b.choose(convolve, project)(b, x, 3), False
    if len(shape) > 2:
        x = b.call(aten.reshape.default, x, [-1, math.prod(shape[1:])])
    return project(b, x, 3), True


def _finished(b: Sketch, output: fx.Node, reads_all: bool) -> RandomGraph:
    b.graph.output((output,))
    inputs = tuple(n.meta["val"] for n in b.graph.nodes if n.op == "placeholder")
    graph = normalise(b.graph)
    used = {str(n.target) for n in graph.find_nodes(op="get_attr")}
    program = Program(
        graph=graph,
        tensors={name: tensor for name, tensor in b.tensors.items() if name in used},
        trainable=frozenset(b.trainable & used),
        example_inputs=inputs,
        out_spec=torch_private.flatten((output,))[1],
        source="module",
    )
    module = fx.GraphModule(module_tree(b.tensors, frozenset(b.trainable)), b.graph)
    return RandomGraph(fold_constants(program), module, tuple(b.steps), reads_all)
