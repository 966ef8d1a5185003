"""Two captures at fixed batch sizes become one graph for every size."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from intrafusion import ErrorCode, IntraFusionError, load
from intrafusion.program.batch import BATCHES, generalise
from intrafusion.program.exported import capture_module


class Network(nn.Module):
    def __init__(self, compute: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.compute = compute

    def forward(self, x: Tensor) -> Tensor:
        return self.compute(x)


class Flat(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0] * 3, -1)


class Token(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([torch.zeros(x.shape[0], 1), x], 1)


class Offset(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.arange(2 * x.shape[0] + 3)[: x.shape[0]].float() + x.sum(1)


@pytest.mark.parametrize("network", [Flat(), Token(), Offset()], ids=["flat", "token", "offset"])
@pytest.mark.parametrize("scripted", [False, True])
def test_sizes_follow_the_batch(network: nn.Module, scripted: bool) -> None:
    source = torch.jit.script(network) if scripted else network
    program = load(source, input_shapes=[(1, 6)])
    for batch in (1, 2, 3, 5, 11):
        x = torch.randn(batch, 6)
        torch.testing.assert_close(program(x), network(x))


def refusal(compute: Callable[[Tensor], Tensor]) -> IntraFusionError:
    captures = [capture_module(Network(compute), (torch.randn(size, 6),)) for size in BATCHES]
    with pytest.raises(IntraFusionError) as caught:
        generalise(*captures)
    assert caught.value.code is ErrorCode.BATCH_DEPENDENT
    return caught.value


def test_another_operation_at_another_size() -> None:
    error = refusal(lambda x: torch.relu(x) if x.shape[0] > 2 else torch.sigmoid(x))
    assert "aten.sigmoid.default at a batch of 2 is aten.relu.default at a batch of 3" in (
        error.message
    )


def test_more_operations_at_another_size() -> None:
    error = refusal(lambda x: torch.relu(x) + 1 if x.shape[0] > 2 else torch.relu(x))
    assert "3 operations at a batch of 2, 4 at a batch of 3" in error.message


def test_fractions_of_the_batch_size() -> None:
    error = refusal(lambda x: x * (1.0 / x.shape[0]))
    assert "0.5 at a batch of 2" in error.message


def test_a_size_on_no_line_is_found_out_by_comparison() -> None:
    class Squared(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.zeros(x.shape[0] * x.shape[0]).sum() + x.sum() * torch.ones(
                x.shape[0] * x.shape[0]
            )

    with pytest.raises(IntraFusionError) as caught:
        load(torch.jit.script(Squared()), input_shapes=[(1, 6)])
    assert caught.value.code is ErrorCode.CAPTURE_FAILED
