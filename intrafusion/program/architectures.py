"""The architectures a state dict may belong to, by name.

torchvision's and timm's image classifiers are there when those packages are installed, as
`torchvision/resnet18` and `timm/resnet18`; others come through the entry-point group
`intrafusion.architectures`, each a callable that returns an `nn.Module`. Listing the names
imports none of them, nor torch.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.registry import Registry
from intrafusion.spec import Architecture

if TYPE_CHECKING:
    from torch import nn

_REGISTERED = re.compile(r"^@register_model\b.*\n(?:(?!def ).*\n)*?def (\w+)\(", re.MULTILINE)
"""A factory that its package registers as a model, by its decorator."""

_WEIGHT_ARGUMENTS = {"weights", "weights_backbone", "pretrained", "checkpoint_path"}


class _Factories(Mapping[str, str]):
    """The factories of installed packages: name to "module:attribute", found in their source."""

    PACKAGES = ("timm", "torchvision")

    @cached_property
    def _found(self) -> dict[str, str]:
        return {
            f"{package}/{function}": f"{package}.models:{function}"
            for package in self.PACKAGES
            for function in _functions(package)
        }

    def __getitem__(self, name: str) -> str:
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


def _functions(package: str) -> Iterator[str]:
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for file in sorted(Path(folder, "models").glob("*.py")):
            yield from _REGISTERED.findall(file.read_text(encoding="utf-8"))


ARCHITECTURES = Registry(
    kind="architecture",
    group="intrafusion.architectures",
    built_in=_Factories(),
    error=ErrorCode.UNKNOWN_ARCHITECTURE,
)


def build(architecture: Architecture) -> nn.Module:
    """The module of an architecture, with whatever weights its factory starts from.

    Raises `IntraFusionError` with `UNKNOWN_ARCHITECTURE` where there is none of this name or
    its package does not import, and `ARCHITECTURE_ARGUMENTS` where it refuses the arguments.
    """
    name, arguments = architecture.name, architecture.arguments
    factory = _factory(name)
    forbidden = sorted(_WEIGHT_ARGUMENTS & arguments.keys())
    if forbidden:
        raise IntraFusionError(
            ErrorCode.ARCHITECTURE_ARGUMENTS,
            f"{name} is asked to fetch weights ({forbidden[0]}={arguments[forbidden[0]]!r}).",
            "Leave that out: the weights are those of the file.",
            arguments=arguments,
        )
    from torch import nn

    try:
        module = factory(**arguments)
    except Exception as error:
        raise IntraFusionError(
            ErrorCode.ARCHITECTURE_ARGUMENTS,
            f"{name} does not accept {arguments}: {type(error).__name__}: {error}.",
            "Give the keyword arguments with which the network was made.",
            arguments=arguments,
        ) from error
    if not isinstance(module, nn.Module):
        raise IntraFusionError(
            ErrorCode.UNKNOWN_ARCHITECTURE,
            f"{name} makes a {type(module).__name__}, not a torch.nn.Module.",
            "Register a callable that returns a module.",
        )
    return module


def _factory(name: str) -> Any:
    if name not in ARCHITECTURES:
        close = difflib.get_close_matches(name, list(ARCHITECTURES), n=3, cutoff=0.5)
        raise IntraFusionError(
            ErrorCode.UNKNOWN_ARCHITECTURE,
            f"{name!r} is no architecture known here.",
            (f"Did you mean {', '.join(close)}? " if close else "")
            + "`GET /v1/architectures` lists them; packages add theirs by the entry-point group "
            "intrafusion.architectures.",
            given=name,
            close=close,
        )
    try:
        return ARCHITECTURES.get(name)
    except Exception as error:
        raise IntraFusionError(
            ErrorCode.UNKNOWN_ARCHITECTURE,
            f"{name!r} cannot be had: its package does not import here "
            f"({type(error).__name__}: {error}).",
            "Install a build of the package that matches the installed torch.",
            given=name,
        ) from error
