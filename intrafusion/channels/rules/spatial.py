"""Pooling, upsampling and padding: work within each channel, over trailing dimensions."""

from __future__ import annotations

from typing import Any

from torch import fx

from intrafusion.channels.planes import Plane, varying
from intrafusion.channels.walk import Planes, Value, Walk
from intrafusion.program.nodes import name_of

OPS = [
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "max_pool2d_with_indices",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "_adaptive_avg_pool2d",
    "_adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "upsample_nearest1d",
    "upsample_nearest2d",
    "upsample_nearest3d",
    "_upsample_nearest_exact2d",
    "upsample_linear1d",
    "upsample_bilinear2d",
    "upsample_bicubic2d",
    "upsample_trilinear3d",
    "pad",
    "constant_pad_nd",
    "reflection_pad1d",
    "reflection_pad2d",
    "replication_pad1d",
    "replication_pad2d",
]


def spatial(walk: Walk, node: fx.Node, args: Any, kwargs: Any, out: Any) -> Any:
    """Dimensions whose size is untouched keep their planes."""
    x: Value = args[0]
    result = out if isinstance(out, Value) else out[0]
    padded = _padded_dims(node, args, x.rank)
    planes: list[Plane] = []
    for plane in x.planes:
        dims = varying(plane)
        if any(d in padded or result.shape[d] != x.shape[d] or d >= _first(node, x) for d in dims):
            walk.freeze(plane, node, "it works along its channels")
        else:
            planes.append(plane)
    kept: Planes = tuple(planes)
    return kept if isinstance(out, Value) else [kept, *[()] * (len(out) - 1)]


def _first(node: fx.Node, x: Value) -> int:
    """The first dimension that the operation works on."""
    name = name_of(node)
    if "pad" in name:
        return x.rank
    rank = next((int(c) for c in reversed(name) if c in "123"), 2)
    return x.rank - rank


def _padded_dims(node: fx.Node, args: Any, rank: int) -> set[int]:
    if "pad" not in name_of(node):
        return set()
    widths = list(args[1])
    return {rank - 1 - i // 2 for i, width in enumerate(widths) if width != 0}
