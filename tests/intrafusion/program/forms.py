"""The small networks in every form that comes in, each loaded once."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

from intrafusion import IntraFusionError, Program, load
from tests.networks import INPUT_SHAPE, build, samples

NAMED_FORMS = ("module", "scripted", "traced")
FORMS = (*NAMED_FORMS, "frozen")
SHAPES = [(1, *INPUT_SHAPE)]


def as_form(network: nn.Module, form: str) -> nn.Module:
    """`network` itself, or its TorchScript; `frozen` has lost its names."""
    match form:
        case "module":
            return network
        case "scripted":
            return torch.jit.script(network)
        case "traced":
            return torch.jit.trace(network, samples(2))
        case "frozen":
            return torch.jit.freeze(torch.jit.script(network))
    raise AssertionError(form)


@cache
def program_of(name: str, form: str = "module") -> Program:
    """The program of `build(name)`; programs are never mutated, so tests may share one."""
    return load(as_form(build(name), form), input_shapes=SHAPES)


def refusal(source: Any, **options: Any) -> IntraFusionError:
    """The error that loading `source` ends in."""
    with pytest.raises(IntraFusionError) as caught:
        load(source, **options)
    assert caught.value.hint
    return caught.value
