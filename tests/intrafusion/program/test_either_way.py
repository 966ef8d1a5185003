"""What was removed is what was zeroed on either way of a choice, in every format.

Examples take one way; here inputs are drawn until each way of each choice has been taken.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, fx, nn

from benchmarks.zoo.reference import Kept, masked_outputs, random_half
from intrafusion import Program, load
from intrafusion.channels import Analysis, analyse, remove
from intrafusion.program.branch import Branch
from tests.intrafusion.program.test_branches import (
    RUNS,
    Chooses,
    Condition,
    EitherLayer,
    InALoop,
    OneWayOnly,
    SeveralConditions,
    SizesOfTheBatch,
    WrittenInPlace,
    scripted,
)
from tests.intrafusion.programs import relative_error


class Nested(Chooses):
    """A choice within a choice, by another number than the first."""

    def choose(self, x: Tensor) -> Tensor:
        if x.mean() > 0:
            y = self.left(x)
            if x[:, 5].sum() > 0:
                y = y * 2 - x
            else:
                y = self.right(y)
                y = y.relu()
        else:
            y = x.flip(1)
        return y


class OneAfterAnother(Chooses):
    """Two choices, the second by what the first gave; one of them gives two tensors."""

    def choose(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            y, z = self.left(x), x * 2
        else:
            y, z = x + 1, self.right(x)
        if (y - z).sum() > 0:
            y = y - z
        return y * z.sigmoid()


class NestedConditions(Chooses):
    """The same as `torch.cond`."""

    def choose(self, x: Tensor) -> Tensor:
        def then(x: Tensor) -> tuple[Tensor]:
            y = self.left(x)
            return torch.cond(
                x[:, 5].sum() > 0,
                lambda y, x: (y * 2 - x,),
                lambda y, x: (self.right(y).relu(),),
                (y, x),
            )

        (y,) = torch.cond(x.mean() > 0, then, lambda x: (x.flip(1),), (x,))
        return y


class TwoConditions(Chooses):
    def choose(self, x: Tensor) -> Tensor:
        y, z = torch.cond(
            x.sum() > 0,
            lambda x: (self.left(x), x * 2),
            lambda x: (x + 1, self.right(x)),
            (x,),
        )
        (y,) = torch.cond((y - z).sum() > 0, lambda y, z: (y - z,), lambda y, z: (y * 1,), (y, z))
        return y * z.sigmoid()


def as_script(kind: type[Chooses]) -> nn.Module:
    return scripted(kind)


def as_frozen_script(kind: type[Chooses]) -> nn.Module:
    return torch.jit.freeze(scripted(kind))


def as_module(kind: type[Chooses]) -> nn.Module:
    torch.manual_seed(0)
    return kind().eval()


SCRIPTED = [
    *(EitherLayer, OneWayOnly, SeveralConditions, SizesOfTheBatch, WrittenInPlace, InALoop),
    *(Nested, OneAfterAnother),
]
CASES = [
    *((as_script, kind) for kind in SCRIPTED),
    *((as_frozen_script, kind) for kind in (EitherLayer, Nested)),
    *((as_module, kind) for kind in (Condition, NestedConditions, TwoConditions, EitherLayer)),
]
NAMES = [f"{make.__name__[3:]}-{kind.__name__}" for make, kind in CASES]


@cache
def reduced(
    make: Callable[[type[Chooses]], nn.Module], kind: type[Chooses]
) -> tuple[Analysis, Kept, Program]:
    program = load(make(kind), input_shapes=[(1, 6)])
    analysis = analyse(program)
    assert {len(group) for group in analysis.groups} == {12}
    kept = random_half(analysis)
    return analysis, kept, remove(analysis, kept).program


def every_way(program: Program, batch: int) -> list[Tensor]:
    """Inputs that take each way of each choice of `program`, and each twice."""
    generator = torch.Generator().manual_seed(batch)
    counts: dict[tuple[str, bool], int] = {}
    draws = []
    for _ in range(400):
        x = 3 * torch.randn(batch, 6, generator=generator) + torch.randn(1, generator=generator)
        taken = ways_taken(program, x)
        if any(counts.get(way, 0) < 2 for way in taken):
            draws.append(x)
            for way in taken:
                counts[way] = counts.get(way, 0) + 1
    choices = {name for name, _ in counts}
    assert set(counts) == {(name, way) for name in choices for way in (True, False)}
    assert len(choices) == sum(isinstance(n.target, Branch) for n in nodes_of(program.graph))
    return draws


def nodes_of(graph: fx.Graph) -> list[fx.Node]:
    """The nodes of a graph and of all ways of its choices."""
    within = [way for n in graph.nodes if isinstance(n.target, Branch) for way in n.target.ways]
    return [*graph.nodes, *(node for way in within for node in nodes_of(way))]


class Noting(fx.Interpreter):
    """Runs a graph, and notes which way of each choice was taken, choices within ways too."""

    def __init__(self, module: fx.GraphModule, place: str, taken: set[tuple[str, bool]]) -> None:
        super().__init__(module)
        self._place, self._taken = place, taken

    def run_node(self, n: fx.Node) -> object:
        if not isinstance(n.target, Branch):
            return super().run_node(n)
        args, _ = self.fetch_args_kwargs_from_env(n)
        condition, *operands = args
        way, place = bool(condition), f"{self._place}/{n.name}"
        self._taken.add((place, way))
        chosen = n.target.then if way else n.target.otherwise
        return Noting(chosen, f"{place}={way}", self._taken).run(*operands)


def ways_taken(program: Program, x: Tensor) -> set[tuple[str, bool]]:
    taken: set[tuple[str, bool]] = set()
    module = fx.GraphModule(program.network(), program.graph)
    with torch.no_grad():
        Noting(module, "", taken).run(x)
    return taken


@pytest.mark.parametrize(("make", "kind"), CASES, ids=NAMES)
def test_each_way_is_that_of_the_original(
    make: Callable[[type[Chooses]], nn.Module], kind: type[Chooses]
) -> None:
    analysis, _, _ = reduced(make, kind)
    network = make(kind)
    for batch in (1, 5):
        for x in every_way(analysis.program, batch):
            assert relative_error(analysis.program(x), network(x)) <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("ending", RUNS)
@pytest.mark.parametrize(("make", "kind"), CASES, ids=NAMES)
def test_each_way_of_a_written_file_is_that_of_zeroed_units(
    make: Callable[[type[Chooses]], nn.Module], kind: type[Chooses], ending: str, tmp_path: Path
) -> None:
    if (kind, ending) == (WrittenInPlace, "onnx"):
        pytest.skip("torch's exporter writes a slice that onnxruntime refuses within an If")
    analysis, kept, program = reduced(make, kind)
    written = RUNS[ending](program.save(tmp_path / f"small.{ending}"))
    for batch in (1, 5):
        for x in every_way(program, batch):
            (wanted,) = masked_outputs(analysis, kept, (x,))
            assert relative_error(written(x), wanted) <= 1e-5
