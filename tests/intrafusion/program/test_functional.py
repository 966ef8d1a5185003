"""In-place operations are exchanged where that is safe and nowhere else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as nnf

from intrafusion import ErrorCode, IntraFusionError, load
from intrafusion.program.functional import functional


class Network(nn.Module):
    def __init__(self, compute: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.compute = compute
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.compute(x + 1)


def chain(y: Tensor) -> Tensor:
    z = y.relu_()
    z += 2
    return y * z  # y and z are one tensor, written twice


def two_writes_then_views(y: Tensor) -> Tensor:
    y.mul_(2)
    return y.view(-1, 2, 3)[:, 0].add_(1)


SAFE = {
    "relu": lambda y: nnf.relu(y, inplace=True),
    "chain": chain,
    "views": two_writes_then_views,
    "dropout": lambda y: nnf.dropout(y, 0.5, False).relu_(),
    "part of a split": lambda y: y.split(3, 1)[0].relu_(),
}


def read_under_another_name(y: Tensor) -> Tensor:
    view = y[:, :3]
    y.relu_()
    return view + 0


def written_through_a_view(y: Tensor) -> Tensor:
    y[:, :3].relu_()
    return y + 0


def written_through_dropout(y: Tensor) -> Tensor:
    nnf.dropout(y, 0.5, False).relu_()
    return y + 0


def other_dtype(y: Tensor) -> Tensor:
    y += y.double()
    return y


def copied_into(y: Tensor) -> Tensor:
    y[:, 0] = 7.0
    return y


UNSAFE = {
    "view read": read_under_another_name,
    "view written": written_through_a_view,
    "dropout written": written_through_dropout,
    "dtype": other_dtype,
    "copy": copied_into,
}


def graph_of(compute: Callable[[Tensor], Tensor]) -> fx.Graph:
    return torch.export.export(Network(compute), (torch.randn(2, 6),)).graph


@pytest.mark.parametrize("name", SAFE)
def test_safe_writes_are_exchanged(name: str) -> None:
    graph = functional(graph_of(SAFE[name]))
    assert graph is not None
    for node in graph.nodes:
        if isinstance(node.target, torch._ops.OpOverload):
            assert not node.target._schema.is_mutable


@pytest.mark.parametrize("name", UNSAFE)
def test_writes_that_are_seen_elsewhere_are_left_to_torch(name: str) -> None:
    assert functional(graph_of(UNSAFE[name])) is None


@pytest.mark.parametrize("name", [*SAFE, *(name for name in UNSAFE if name != "dropout written")])
def test_either_way_the_program_computes_the_same(name: str) -> None:
    network = Network({**SAFE, **UNSAFE}[name])
    program = load(network, input_shapes=[(1, 6)])
    x = torch.randn(7, 6)
    torch.testing.assert_close(program(x), network(x), rtol=0, atol=0)


def test_what_torch_itself_gets_wrong_is_refused() -> None:
    # torch.export makes a copy of what evaluation-mode dropout returns as it is.
    with pytest.raises(IntraFusionError) as caught:
        load(Network(written_through_dropout), input_shapes=[(1, 6)])
    assert caught.value.code is ErrorCode.CAPTURE_FAILED


def test_written_buffers_are_dropped_with_a_note() -> None:
    class Counts(Network):
        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return x * 2

    network = Counts(torch.relu)
    assert functional(torch.export.export(network, (torch.randn(2, 6),)).graph) is None
    program = load(network, input_shapes=[(1, 6)])
    assert "writes to its buffers" in " ".join(program.notes)
    assert len(program.outputs(torch.ones(3, 6))) == 1


def test_the_callers_input_is_not_written() -> None:
    class Writes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.relu_()

    program = load(Writes(), input_shapes=[(1, 6)])
    x = torch.randn(7, 6)
    kept = x.clone()
    torch.testing.assert_close(program(x), kept.relu())
    assert torch.equal(x, kept)
