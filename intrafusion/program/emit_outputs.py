"""How the flat outputs of a program nest in what a file returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.program import torch_private


def nested(spec: Any, values: Sequence[Any]) -> Any:
    """`values` in tuples, lists and dicts as `spec` (a pytree spec) has them.

    Named tuples become tuples and classes derived from dict become dicts, so that a file needs
    none of the original's classes. Raises `IntraFusionError` with `FORMAT_NOT_POSSIBLE` for any
    other class.
    """
    left = list(reversed(values))

    def build(spec: Any) -> Any:
        if spec.is_leaf():
            return left.pop()
        kind, children = spec.type, [build(child) for child in torch_private.children(spec)]
        if kind is list:
            return children
        if kind is tuple or torch_private.is_named_tuple(spec):
            return tuple(children)
        keys = spec.context
        named = isinstance(keys, list) and all(isinstance(key, str | int) for key in keys)
        if issubclass(kind, dict) and named:
            return dict(zip(keys, children, strict=True))
        raise IntraFusionError(
            ErrorCode.FORMAT_NOT_POSSIBLE,
            f"The network returns a {kind.__name__}, of which a file can hold no copy.",
            "Wrap the network so that it returns tensors in tuples, lists or dicts with names "
            "for keys; or save as safetensors.",
        )

    return build(spec)


def output_names(structure: Any, taken: Sequence[str] = ()) -> list[str]:
    """A name for every leaf of nested outputs: `output` for one tensor, `output_0`, `output_1`
    for a tuple, the keys for a dict; none of them in `taken`.
    """
    names: list[str] = []

    def visit(value: Any, path: tuple[str, ...]) -> None:
        if isinstance(value, dict):
            for key, child in value.items():
                visit(child, (*path, str(key)))
        elif isinstance(value, tuple | list):
            for position, child in enumerate(value):
                visit(child, (*(path or ("output",)), str(position)))
        else:
            name = "_".join(path or ("output",))
            while name in names or name in taken:
                name += "_"
            names.append(name)

    visit(structure, ())
    return names
