"""The layers that a refit knows, one file per kind."""

from __future__ import annotations

from collections import Counter

from torch import fx

from intrafusion.compensation.layers.addmm import Addmm
from intrafusion.compensation.layers.affine import Affine
from intrafusion.compensation.layers.layer import Fit, Layer, Record, Sides
from intrafusion.compensation.layers.norm import Norm
from intrafusion.compensation.layers.recurrent import Recurrent
from intrafusion.program.nodes import name_of

__all__ = ["Fit", "Layer", "Record", "Sides", "layer_of"]

KINDS: dict[str, type[Layer]] = {
    "linear": Affine,
    "addmm": Addmm,
    "convolution": Affine,
    "batch_norm": Norm,
    "layer_norm": Norm,
    "group_norm": Norm,
    **dict.fromkeys(["lstm", "gru", "rnn_tanh", "rnn_relu"], Recurrent),
}


def layer_of(node: fx.Node, uses: Counter[str]) -> Layer | None:
    """The refittable layer at `node`; None: another operation, or weights used elsewhere too."""
    if node.op != "call_function" or name_of(node) not in KINDS:
        return None
    layer = KINDS[name_of(node)](node)
    own = [tensor for tensor in layer.tensors if tensor is not None]
    if not layer.can_be_refitted or any(uses[tensor] > 1 for tensor in own):
        return None
    return layer
