"""The layers that a refit knows, one file per kind."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from torch import fx

from intrafusion.compensation.layers.addmm import Addmm
from intrafusion.compensation.layers.affine import Affine
from intrafusion.compensation.layers.layer import Fit, Layer, Place, Record, Sides
from intrafusion.compensation.layers.norm import Norm
from intrafusion.compensation.layers.recurrent import Recurrent
from intrafusion.compensation.layers.shared import Shared
from intrafusion.program.nodes import count_uses, name_of

__all__ = ["Fit", "Layer", "Place", "Record", "Sides", "layer_of", "layers_of"]

KINDS: dict[str, type[Layer]] = {
    "linear": Affine,
    "addmm": Addmm,
    "convolution": Affine,
    "batch_norm": Norm,
    "layer_norm": Norm,
    "group_norm": Norm,
    **dict.fromkeys(["lstm", "gru", "rnn_tanh", "rnn_relu"], Recurrent),
}


def layers_of(graph: fx.Graph) -> Iterator[Layer]:
    """All refittable layers of a graph."""
    uses = count_uses(graph)
    alike: defaultdict[tuple[str | None, ...], list[Affine]] = defaultdict(list)
    for node in graph.nodes:
        layer = _kind_of(node)
        if layer is not None and _owns(layer, uses):
            yield layer
        elif isinstance(layer, Affine):
            alike[layer.tensors].append(layer)
    for (weight, bias), members in alike.items():
        own = [uses[name] == len(members) for name in (weight, bias) if name is not None]
        shared = Shared(members, keeps_bias=not own[-1])
        if own[0] and shared.can_be_refitted:
            yield shared


def layer_of(node: fx.Node, uses: Counter[str]) -> Layer | None:
    """The refittable layer at `node`; None: another operation, or weights used elsewhere too."""
    layer = _kind_of(node)
    return None if layer is None or not _owns(layer, uses) else layer


def _kind_of(node: fx.Node) -> Layer | None:
    if node.op != "call_function" or name_of(node) not in KINDS:
        return None
    layer = KINDS[name_of(node)](node)
    return layer if layer.can_be_refitted else None


def _owns(layer: Layer, uses: Counter[str]) -> bool:
    """Whether nothing else uses the layer's tensors."""
    return all(uses[tensor] == 1 for tensor in layer.tensors if tensor is not None)
