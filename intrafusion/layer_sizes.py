"""The sizes that torch's layers keep beside their parameters, made to follow these."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from intrafusion.errors import ErrorCode, IntraFusionError

Follow = Callable[[Any, str, Mapping[str, int]], None]
"""(layer, its name, groups by weight name): sets the layer's sizes from its parameters."""


def follow_parameters(layer: nn.Module, name: str, groups: Mapping[str, int]) -> None:
    """Set `in_channels`, `num_features` and their kin from the shapes of a layer's parameters.

    `name` is the layer's, `groups` the number of groups for the weights of grouped layers.
    Layers that are none of torch's are left as they are. Raises `IntraFusionError` with
    `MODULE_NOT_RESIZABLE` where torch's layer has no way to have these sizes.
    """
    for kind, follow in _FOLLOW.items():
        if isinstance(layer, kind):
            follow(layer, name, groups)
            return


def follows_parameters(layer: nn.Module) -> bool:
    """Whether `follow_parameters` knows all sizes of a layer; of attention it knows no heads."""
    return isinstance(layer, tuple(_FOLLOW)) and not isinstance(layer, nn.MultiheadAttention)


@contextmanager
def plain_norms_follow(module: nn.Module) -> Iterator[None]:
    """Within it, layer and RMS norms without parameters take the shape of what they are given."""

    def follow(layer: Any, inputs: tuple[Tensor, ...]) -> None:
        layer.normalized_shape = tuple(inputs[0].shape[-len(layer.normalized_shape) :])

    plain = [
        part
        for part in module.modules()
        if isinstance(part, nn.LayerNorm | nn.RMSNorm) and part.weight is None
    ]
    hooks = [part.register_forward_pre_hook(follow) for part in plain]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _weight_name(name: str) -> str:
    return f"{name}.weight" if name else "weight"


def _convolution(layer: Any, name: str, groups: Mapping[str, int]) -> None:
    layer.groups = groups.get(_weight_name(name), layer.groups)
    first, second = layer.weight.shape[:2]
    if layer.transposed:
        layer.in_channels, layer.out_channels = first, second * layer.groups
    else:
        layer.out_channels, layer.in_channels = first, second * layer.groups


def _linear(layer: Any, name: str, groups: Mapping[str, int]) -> None:
    layer.out_features, layer.in_features = layer.weight.shape


def _bilinear(layer: Any, name: str, groups: Mapping[str, int]) -> None:
    layer.out_features, layer.in1_features, layer.in2_features = layer.weight.shape


def _norm(layer: Any, name: str, groups: Mapping[str, int]) -> None:
    held: list[Tensor | None] = [layer.running_mean, layer.weight]
    layer.num_features = next(t.shape[0] for t in held if t is not None)


def _normalised_shape(layer: Any, name: str, groups: Mapping[str, int]) -> None:
    layer.normalized_shape = tuple(layer.weight.shape)


def _group_norm(layer: Any, name: str, groups: Mapping[str, int]) -> None:
    layer.num_channels = layer.weight.shape[0]
    layer.num_groups = groups.get(_weight_name(name), layer.num_groups)


def _embedding(layer: Any, name: str, groups: Mapping[str, int]) -> None:
    layer.num_embeddings, layer.embedding_dim = layer.weight.shape


def _prelu(layer: Any, name: str, groups: Mapping[str, int]) -> None:
    layer.num_parameters = layer.weight.shape[0]


def _recurrent(layer: Any, name: str, groups: Mapping[str, int]) -> None:
    gates = _GATES.get(layer.mode, 1)
    hidden = {
        weight.shape[0] // gates
        for key, weight in layer.named_parameters(recurse=False)
        if key.startswith("weight_hh")
    }
    if len(hidden) > 1:
        raise _no_way(layer, name, f"its layers keep {sorted(hidden)} hidden units")
    (layer.hidden_size,) = hidden
    layer.input_size = layer.weight_ih_l0.shape[1]
    layer.flatten_parameters()


def _attention(layer: Any, name: str, groups: Mapping[str, int]) -> None:
    width, inner = layer.out_proj.weight.shape
    if inner != width:
        raise _no_way(layer, name, f"its heads are {inner} wide together, its outputs {width}")
    layer.embed_dim = width
    layer.head_dim = width // layer.num_heads
    if layer.in_proj_weight is None:
        layer.kdim, layer.vdim = layer.k_proj_weight.shape[1], layer.v_proj_weight.shape[1]
    else:
        layer.kdim = layer.vdim = width


def _no_way(layer: nn.Module, name: str, why: str) -> IntraFusionError:
    return IntraFusionError(
        ErrorCode.MODULE_NOT_RESIZABLE,
        f"{name} is a {type(layer).__name__}, which cannot have the file's sizes: {why}.",
        "Use the TorchScript or .pt2 file, or compress with the parameters of this layer excluded.",
        module=name,
    )


_GATES = {"LSTM": 4, "GRU": 3}

_FOLLOW: dict[type[nn.Module], Follow] = {
    nn.modules.conv._ConvNd: _convolution,
    nn.Linear: _linear,
    nn.Bilinear: _bilinear,
    nn.modules.batchnorm._NormBase: _norm,
    nn.LayerNorm: _normalised_shape,
    nn.RMSNorm: _normalised_shape,
    nn.GroupNorm: _group_norm,
    nn.Embedding: _embedding,
    nn.EmbeddingBag: _embedding,
    nn.PReLU: _prelu,
    nn.RNNBase: _recurrent,
    nn.MultiheadAttention: _attention,
}
