"""That the device is as strict as CUDA: else nothing that runs on it says anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

from tests.intrafusion.device.work import accelerator

pytestmark = pytest.mark.slow


def refused(name: str) -> str:
    """What the device says of one of `MISTAKES`; empty where it takes it."""
    try:
        MISTAKES[name]()
    except (RuntimeError, TypeError) as error:
        return str(error)
    return ""


def taken(name: str) -> list[float]:
    """What one of `RIGHTS` gives."""
    values: list[float] = RIGHTS[name]().cpu().flatten().tolist()
    return values


def _here(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)


def _there(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32, device=accelerator().device)


MISTAKES: Mapping[str, Callable[[], Any]] = {
    "a sum": lambda: _there(1, 2) + _here(1, 2),
    "a product": lambda: _there(1, 2)[None] @ _here(1, 2)[:, None],
    "a list": lambda: torch.cat([_there(1), _here(1)]),
    "a choice": lambda: torch.where(_here(1, 0) > 0, _there(1, 2), _there(3, 4)),
    "positions of index_select": lambda: _there(1, 2).index_select(0, torch.tensor([1])),
    "positions there of values here": lambda: _here(1, 2)[_there(1).long()],
    "a convolution": lambda: torch.conv1d(_there(1, 2)[None, None], _here(1)[None, None]),
    "a generator": lambda: torch.rand(2, device=accelerator().device, generator=torch.Generator()),
    "an array": lambda: _there(1).numpy(),
    "what CUDA lacks": lambda: torch.histogram(_there(1, 2), 2),
    "a product of integers": lambda: _there(1, 2).long()[None] @ _there(1, 2).long()[:, None],
    "a number among a list": lambda: torch.stack([_there(1)[0], _here(1)[0]]),
}
"""None of these runs on CUDA."""

SAID = {
    "an array": "can't convert",
    "what CUDA lacks": "no kernel for CUDA",
    "a product of integers": "not implemented for",
}
"""Of the others that something is on another device."""

RIGHTS: Mapping[str, Callable[[], torch.Tensor]] = {
    "a number": lambda: _there(1, 2) * torch.tensor(3.0),
    "positions of index": lambda: _there(1, 2)[torch.tensor([1])],
    "a mask of index_put": lambda: _there(1, 2).index_put(
        (torch.tensor([True, False]),), _there(5)
    ),
    "a view": lambda: _there(1, 2, 3, 4).reshape(2, 2).t()[1],
    "what is grown": lambda: torch.add(_there(1, 2), 1, out=_there()),
    "a sparse product": lambda: (
        torch.eye(2).to_sparse().to(accelerator().device) @ _there(1, 2)[:, None]
    ),
    "a gradient": lambda: torch.autograd.grad(
        torch.conv1d(x := _there(1, 2)[None, None].requires_grad_(), _there(3)[None, None]).sum(), x
    )[0],
}
"""All of these do."""

RESULTS = {
    "a number": [3, 6],
    "positions of index": [2],
    "a mask of index_put": [5, 2],
    "a view": [2, 4],
    "what is grown": [2, 3],
    "a sparse product": [1, 2],
    "a gradient": [3, 3],
}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_cuda_refuses_is_refused(name: str, there: Callable[..., Any]) -> None:
    assert SAID.get(name, "device") in there(refused, name)


@pytest.mark.parametrize("name", RIGHTS)
def test_what_cuda_takes_gives_what_the_cpu_gives(name: str, there: Callable[..., Any]) -> None:
    assert there(taken, name) == RESULTS[name]
