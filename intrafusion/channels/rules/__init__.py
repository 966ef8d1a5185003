"""What each operation does to planes: one file per family, one line per operation here.

A rule moves the planes of an operation's arguments to its result and records what must live
and die together. `RESIZES` holds, for the operations that carry sizes as literals, how those
are rewritten once channels are gone.
"""

from __future__ import annotations

from torch import fx

from intrafusion.channels.rules import (
    attention,
    branch,
    contraction,
    convolution,
    index,
    join,
    move,
    norm,
    opaque,
    pointwise,
    recurrent,
    reduction,
    spatial,
    uniform,
)
from intrafusion.channels.rules.resize import Resize
from intrafusion.channels.walk import Rule
from intrafusion.program.nodes import name_of

RULES: dict[str, Rule] = {
    **dict.fromkeys(move.RESHAPES, move.reshape),
    **dict.fromkeys(move.MOVES, move.move),
    "transpose": move.transpose,
    "permute": move.permute,
    "expand": move.expand,
    "slice": move.cut,
    "slice_scatter": index.slice_scatter,
    "roll": move.roll,
    **dict.fromkeys(move.SHUFFLES, move.shuffle),
    **dict.fromkeys(move.SPLITS, move.split),
    **dict.fromkeys(move.PICKS, move.pick),
    **dict.fromkeys(spatial.OPS, spatial.spatial),
    **dict.fromkeys(pointwise.OPS, pointwise.pointwise),
    **{name: recurrent.recurrent(gates) for name, gates in recurrent.GATES.items()},
    **dict.fromkeys(reduction.REDUCTIONS, reduction.reduce),
    **dict.fromkeys(reduction.SOFTMAXES, reduction.softmax),
    "linear": contraction.linear,
    "matmul": contraction.matmul,
    "mm": contraction.matmul,
    "bmm": contraction.matmul,
    "addmm": contraction.addmm,
    "einsum": contraction.einsum,
    "embedding": contraction.embedding,
    "embedding_bag": contraction.embedding_bag,
    "bilinear": contraction.bilinear,
    "glu": join.glu,
    "index": index.index,
    "index_select": index.index_select,
    "scaled_dot_product_attention": attention.attention,
    "convolution": convolution.convolution,
    "batch_norm": norm.channel_norm,
    "instance_norm": norm.channel_norm,
    "layer_norm": norm.layer_norm,
    "rms_norm": norm.layer_norm,
    "group_norm": norm.group_norm,
    "cat": join.cat,
    "stack": join.stack,
    "sym_size": opaque.size,
    "branch": branch.branch,
    **dict.fromkeys(uniform.OPS, uniform.uniform),
}

RESIZES: dict[str, Resize] = {
    **dict.fromkeys(move.SIZED, move.resize_shape),
    **dict.fromkeys(move.SPLITS, move.resize_split),
    **dict.fromkeys(recurrent.GATES, recurrent.resize),
    "slice": move.resize_slice,
    "slice_scatter": move.resize_slice_scatter,
    **dict.fromkeys(uniform.OPS, uniform.resize),
    "convolution": convolution.resize,
    "layer_norm": norm.resize_layer_norm,
    "rms_norm": norm.resize_layer_norm,
    "group_norm": norm.resize_group_norm,
    "index": index.resize_index,
    "index_select": index.resize_index_select,
    "scaled_dot_product_attention": attention.resize,
}


def rule_for(node: fx.Node) -> Rule:
    """The rule of an operation; one that is not known freezes what it touches and says so."""
    name = name_of(node)
    if name in RULES:
        return RULES[name]
    return pointwise.pointwise if pointwise.is_pointwise(node) else opaque.opaque


def resize_for(node: fx.Node) -> Resize | None:
    """How the literals of `node` follow the channels that are gone; None: it has none."""
    return RESIZES.get(name_of(node))
