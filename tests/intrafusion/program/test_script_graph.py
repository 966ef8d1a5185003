"""What this project makes of TorchScript's graphs holds for the torch at hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from intrafusion.program import script_graph


def test_branches_on_shapes_are_not_branches_on_data() -> None:
    def choose(x: Tensor) -> Tensor:
        if x.shape[0] > 1:
            x = x + 1
        return x if bool(x.any()) else x - 1

    class Chooses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.choose = torch.jit.script(choose)

        def forward(self, x: Tensor) -> Tensor:
            return self.choose(x)

    (place,) = script_graph.data_dependent_branches(torch.jit.script(Chooses()))
    assert "x.any()" in place


class Holds(nn.Module):
    """Attributes of several kinds, in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.factor = nn.Linear(3, 3), 2.5

    def forward(self, x: Tensor, shift: int = 4) -> Tensor:
        if shift > 3:
            x = self.layer(x)
        return self.layer(x) * self.factor + shift


def test_without_attributes_and_defaults() -> None:
    script = torch.jit.script(Holds())
    graph, inputs, attributes = script_graph.without_attributes(script)
    assert not graph.findAllNodes("prim::GetAttr")
    assert [value.debugName().partition(".")[0] for value in inputs] == ["x", "shift"]
    assert {path for _, path in attributes} == {"layer.weight", "layer.bias", "factor"}
    assert script_graph.defaults(script) == [None, 4]


def test_a_piece_runs_some_nodes_of_a_graph() -> None:
    @torch.jit.script
    def function(x: Tensor, y: Tensor) -> Tensor:
        total = x + y
        double = total * 2
        return double - y

    add, multiply = (function.graph.findNode(kind) for kind in ("aten::add", "aten::mul"))
    numbers = list(function.graph.findAllNodes("prim::Constant"))
    run = script_graph.piece(
        [*numbers, add, multiply], list(add.inputs())[:2], [add.output(), multiply.output()]
    )
    total, double = run(torch.tensor(3.0), torch.tensor(4.0))
    assert (float(total), float(double)) == (7.0, 14.0)


def test_changes_container() -> None:
    @torch.jit.script
    def function(x: Tensor) -> Tensor:
        parts = [x]
        parts.append(x)
        parts[0] = x
        named = {"x": x}
        named["y"] = x
        x += 1
        return torch.cat(parts) + named["y"]

    changing = [n.kind() for n in function.graph.nodes() if script_graph.changes_container(n)]
    assert changing == ["aten::append", "aten::_set_item", "aten::_set_item"]


def test_is_size() -> None:
    trace = torch.jit.trace(lambda x: x[: x.shape[0] // 2 + x.sum().long()], torch.zeros(4))
    sizes = [
        script_graph.is_size(n.output()) for n in trace.graph.findAllNodes("prim::NumToTensor")
    ]
    assert sizes == [True]
    assert not script_graph.is_size(trace.graph.findNode("aten::sum").output())
