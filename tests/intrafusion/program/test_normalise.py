"""One spelling per operation, whatever the network was written with."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from intrafusion import Program, load
from intrafusion.program.normalise import normalise
from tests.intrafusion.program.forms import NAMED_FORMS, as_form, program_of
from tests.networks import NETWORKS

aten = torch.ops.aten


def targets(program: Program) -> list[object]:
    return [n.target for n in program.graph.nodes if n.op == "call_function"]


def call(program: Program, target: object) -> fx.Node:
    (node,) = (n for n in program.graph.nodes if n.target is target)
    return node


def checked(network: nn.Module, x: Tensor, form: str = "module") -> Program:
    """The program of a network, compared with it at another batch size than it was read at."""
    network.eval()
    source = torch.jit.script(network) if form == "scripted" else network
    if form == "traced":
        source = torch.jit.trace(network, x)
    program = load(source, input_shapes=[list(x.shape)])
    more = torch.cat([x, x.flip(0), x + 1])
    torch.testing.assert_close(program(more), network(more))
    return program


@pytest.mark.parametrize("form", NAMED_FORMS)
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv1d(3, 4, 3, padding="same"), (2, 3, 9)),
        (nn.Conv1d(3, 4, 4, padding="same", dilation=3), (2, 3, 20)),
        (nn.Conv2d(3, 4, (4, 3), padding="same"), (2, 3, 9, 9)),
        (nn.Conv2d(4, 4, 3, padding="same", groups=2), (2, 4, 9, 9)),
        (nn.Conv2d(3, 4, 3, stride=2, padding="valid"), (2, 3, 9, 9)),
        (nn.Conv2d(3, 4, 3, padding=(1, 2), dilation=2, bias=False), (2, 3, 9, 9)),
        (nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), (2, 3, 9, 9)),
        (nn.Conv3d(2, 4, (2, 2, 3), padding="same"), (2, 2, 5, 5, 5)),
        (nn.ConvTranspose1d(3, 4, 3, stride=2, output_padding=1), (2, 3, 9)),
        (nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, groups=2), (2, 4, 7, 7)),
        (nn.ConvTranspose3d(2, 3, 2), (2, 2, 3, 3, 3)),
    ],
    ids=str,
)
def test_every_convolution_is_one_operation(
    layer: nn.Module, shape: tuple[int, ...], form: str
) -> None:
    program = checked(layer, torch.randn(shape), form)
    node = call(program, aten.convolution.default)
    spatial = len(shape) - 2
    assert len(node.args) == 9
    for position in (3, 4, 5, 7):
        assert len(node.args[position]) == spatial  # type: ignore[arg-type]
    assert node.args[6] is isinstance(layer, nn.modules.conv._ConvTransposeNd)
    assert node.args[8] == layer.groups
    assert node.kwargs == {}


@pytest.mark.parametrize("form", NAMED_FORMS)
@pytest.mark.parametrize(
    ("layer", "shape", "target"),
    [
        (nn.BatchNorm1d(5), (4, 5), aten.batch_norm.default),
        (nn.BatchNorm2d(5, affine=False), (4, 5, 3, 3), aten.batch_norm.default),
        (nn.BatchNorm3d(5, eps=0.1), (4, 5, 2, 2, 2), aten.batch_norm.default),
        (nn.LayerNorm(5), (4, 3, 5), aten.layer_norm.default),
        (nn.GroupNorm(2, 6), (4, 6, 3), aten.group_norm.default),
    ],
    ids=str,
)
def test_normalisation_layers_have_one_spelling(
    layer: nn.Module, shape: tuple[int, ...], target: object, form: str
) -> None:
    program = checked(layer, torch.randn(shape), form)
    node = call(program, target)
    assert targets(program) == [target]
    if target is aten.batch_norm.default:
        assert node.args[5] is False
        assert node.args[7] == layer.eps
        assert [isinstance(a, fx.Node) for a in node.args[1:5]] == [layer.affine] * 2 + [True] * 2


class Products(nn.Module):
    def __init__(self, multiply: Callable[..., Tensor]) -> None:
        super().__init__()
        self.multiply = multiply
        self.weight = nn.Parameter(torch.randn(5, 4))
        self.bias = nn.Parameter(torch.randn(5))

    def forward(self, x: Tensor) -> Tensor:
        return self.multiply(x, self.weight, self.bias)


@pytest.mark.parametrize(
    "multiply",
    [
        lambda x, w, b: functional.linear(x, w, b),
        lambda x, w, b: x @ w.t(),
        lambda x, w, b: torch.mm(x, w.T),
        lambda x, w, b: torch.mm(x, w.transpose(-1, 0)),
        lambda x, w, b: torch.mm(x, w.permute(1, 0)),
        lambda x, w, b: torch.addmm(b, x, w.t()),
    ],
)
def test_products_with_a_transposed_parameter_are_linear(multiply: Callable[..., Tensor]) -> None:
    assert targets(checked(Products(multiply), torch.randn(2, 4))) == [aten.linear.default]


@pytest.mark.parametrize(
    "multiply",
    [
        lambda x, w, b: torch.addmm(b, x, w.t(), beta=0.5),
        lambda x, w, b: torch.mm(x, w.permute(0, 1)[:4]),
        lambda x, w, b: x @ torch.relu(w).t(),
    ],
)
def test_other_products_stay(multiply: Callable[..., Tensor]) -> None:
    assert aten.linear.default not in targets(checked(Products(multiply), torch.randn(2, 4)))


class Copies(nn.Module):
    """Nothing here changes a value, and the view needs the copy before it."""

    def forward(self, x: Tensor) -> Tensor:
        x = functional.dropout(x, 0.5, self.training).detach().clone().to(torch.float32)
        return x.transpose(1, 2).contiguous().view(x.shape[0], -1)


@pytest.mark.parametrize("form", NAMED_FORMS)
def test_copies_go_and_views_survive_it(form: str) -> None:
    program = checked(Copies(), torch.randn(2, 3, 4), form)
    moves = {aten.transpose.int, aten.reshape.default, aten.sym_size.int}
    assert set(targets(program)) <= moves


def test_a_cast_that_changes_something_stays() -> None:
    class Cast(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.to(torch.float64)

    assert len(targets(checked(Cast(), torch.randn(2, 3)))) == 1


class Movement(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, 1)
        return torch.flatten(a, 1) + b.flatten(1).unflatten(1, (3, -1)).flatten(1)


@pytest.mark.parametrize("form", NAMED_FORMS)
def test_flatten_and_chunk_have_one_spelling(form: str) -> None:
    program = checked(Movement(), torch.randn(2, 6, 5), form)
    assert aten.reshape.default in targets(program)
    assert aten.split.Tensor in targets(program)
    for gone in (aten.flatten.using_ints, aten.chunk.default, aten.unflatten.int):
        assert gone not in targets(program)


@pytest.mark.parametrize("form", NAMED_FORMS)
@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_in_place_and_nothing_dead(name: str, form: str) -> None:
    program = program_of(name, form)
    for node in program.graph.nodes:
        assert node.users or node.op in ("output", "placeholder")
        assert node.meta == {}
        if isinstance(node.target, torch._ops.OpOverload):
            assert not node.target._schema.is_mutable
        if node.op == "get_attr":
            assert node.target in program.tensors


def test_forms_agree_on_the_operations() -> None:
    for name in NETWORKS:
        graphs = [
            [t for t in targets(program_of(name, form)) if t is not aten.sym_size.int]
            for form in NAMED_FORMS
        ]
        assert graphs[0] == graphs[1] == graphs[2]


def test_normalise_leaves_its_argument_alone() -> None:
    network = as_form(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()).eval(), "module")
    graph = torch.export.export(network, (torch.randn(2, 3, 4, 4),)).graph
    before = str(graph)
    normalise(graph)
    assert str(graph) == before
