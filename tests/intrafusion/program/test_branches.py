"""Networks that choose by what a tensor holds: both ways stay as they are, the rest prunes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import intrafusion
from benchmarks.zoo.reference import masked_outputs, random_half
from intrafusion import CompressionSpec, Dataset, IntraFusionError, Program, load
from intrafusion.channels import analyse, remove
from intrafusion.errors import ErrorCode
from intrafusion.program.branch import Branch
from tests.intrafusion.programs import relative_error


class Chooses(nn.Module):
    """Prunable layers around a choice, which a subclass makes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 12), nn.Linear(12, 3)
        self.before, self.after = nn.Linear(12, 8), nn.Linear(8, 12)
        self.left, self.right = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        chosen = self.choose(self.before(self.first(x).tanh()))
        return self.last(self.after(chosen).relu())

    def choose(self, x: Tensor) -> Tensor:
        return x


class EitherLayer(Chooses):
    def choose(self, x: Tensor) -> Tensor:
        if x.shape[1] > 4:
            x = x * 2
        if x.sum() > 0:
            y = self.left(x)
        else:
            y = self.right(x)
            y = y + x
        return y


class OneWayOnly(Chooses):
    def choose(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            x = self.left(x)
        return x


class SeveralConditions(Chooses):
    def choose(self, x: Tensor) -> Tensor:
        if (x.mean() > 0 and float(x.max()) < 1.5) or not bool((x > -2).all()):
            shift = torch.tensor([1, -1, 2, 0, 1, 0, 3, 1], dtype=torch.float32)
            x = self.left(x) + shift
        elif x.min().item() < -1.0:
            x = self.right(x).relu_()
        return x


class SizesOfTheBatch(Chooses):
    def choose(self, x: Tensor) -> Tensor:
        pairs = x.view(x.shape[0], 4, 2)
        if x.sum() > 0:
            return self.left(pairs.reshape(x.shape[0], 8))
        return pairs.flip(1).reshape(x.shape[0], 8)


class WrittenInPlace(Chooses):
    """What is written within a way is seen outside, under another name too."""

    def choose(self, x: Tensor) -> Tensor:
        before = x[:, :4]
        if x.sum() > 0:
            x += self.left(x) * torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])
        else:
            x[:, 0] = 0.5
            y = self.right(x)
            y[:, 2:] -= 1
            x = y
        return x + torch.cat([before, before], 1)


class InALoop(Chooses):
    def choose(self, x: Tensor) -> Tensor:
        parts = [x]
        lefts = 0
        for i in range(3):
            if x.sum() > 0:
                x = self.left(x)
                lefts += 1
            else:
                x = self.right(x) * i
            parts.append(x)
        return torch.stack(parts).sum(0) * lefts


class Scaled(Chooses):
    """Numbers from tensors, without a choice."""

    def choose(self, x: Tensor) -> Tensor:
        scale = float(x.abs().max())
        return self.left((x / scale * 127).round() * scale)


class Checked(Chooses):
    def choose(self, x: Tensor) -> Tensor:
        assert x.abs().max() < 1e6, "too large"
        return x


class UntilSmall(Chooses):
    def choose(self, x: Tensor) -> Tensor:
        while x.abs().max() > 0.1:
            x = x / 2
        return x


class ShapeByData(Chooses):
    def choose(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            x = torch.cat([x, x])
        return x[:2]


CHOICES = [EitherLayer, OneWayOnly, SeveralConditions, SizesOfTheBatch, WrittenInPlace, InALoop]


def scripted(network: type[Chooses]) -> torch.jit.ScriptModule:
    torch.manual_seed(0)
    script: torch.jit.ScriptModule = torch.jit.script(network().eval())
    return script


def samples(batch: int) -> list[Tensor]:
    """Enough draws for every way to be taken."""
    generator = torch.Generator().manual_seed(batch)
    return [3 * torch.randn(batch, 6, generator=generator) for _ in range(12)]


def ways_taken(program: Program, draws: list[Tensor]) -> set[tuple[bool, ...]]:
    """What the conditions of the branches came to."""
    conditions = [n.args[0] for n in program.graph.nodes if isinstance(n.target, Branch)]
    graph = torch.fx.Graph()
    twins: dict[torch.fx.Node, torch.fx.Node] = {}
    graph.graph_copy(program.graph, twins)
    graph.output(tuple(twins[node] for node in conditions if isinstance(node, torch.fx.Node)))
    run = torch.fx.GraphModule(program.network(), graph)
    return {tuple(bool(value) for value in run(x)) for x in draws}


def smaller(program: Program) -> Program:
    analysis = analyse(program)
    return remove(analysis, random_half(analysis)).program


@pytest.mark.parametrize("network", CHOICES)
def test_zero_then_remove_on_either_way(network: type[Chooses]) -> None:
    script = scripted(network)
    program = load(script, input_shapes=[(1, 6)])
    analysis = analyse(program)
    assert {group.name for group in analysis.groups} == {"first.weight", "after.weight"}
    kept = random_half(analysis)
    result = remove(analysis, kept).program
    assert len(ways_taken(program, samples(2))) > 1
    for batch in (1, 2, 5):
        for x in samples(batch):
            assert relative_error(program(x), script(x)) <= 1e-5
            (wanted,) = masked_outputs(analysis, kept, (x,))
            assert relative_error(result(x), wanted) <= 1e-5
    names = {"left.weight", "left.bias", "right.weight", "right.bias", "before.weight"}
    for name in names & set(program.tensors):
        assert result.tensors[name].shape[0] == program.tensors[name].shape[0]


def run_torchscript(path: Path) -> Callable[..., Any]:
    script: Callable[..., Any] = torch.jit.load(path)
    return script


def run_exported(path: Path) -> Callable[..., Any]:
    return torch.export.load(path).module()


def run_onnx(path: Path) -> Callable[..., Any]:
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: torch.from_numpy(session.run(None, {name: x.numpy()})[0])


RUNS = {"pt": run_torchscript, "pt2": run_exported, "onnx": run_onnx}
WRITTEN = [(network, ending) for network in CHOICES for ending in RUNS]
# What torch's exporter makes of a slice that is written to, onnxruntime refuses within an If.
WRITTEN.remove((WrittenInPlace, "onnx"))


@pytest.mark.parametrize(("network", "ending"), WRITTEN)
def test_written_files_take_either_way(network: type[Chooses], ending: str, tmp_path: Path) -> None:
    program = smaller(load(scripted(network), input_shapes=[(1, 6)]))
    written = RUNS[ending](program.save(tmp_path / f"small.{ending}"))
    for batch in (1, 5):
        draws = samples(batch)
        assert len(ways_taken(program, draws)) > 1
        for x in draws:
            assert relative_error(written(x), program(x)) <= 1e-5


def test_a_written_pt2_can_be_read_again(tmp_path: Path) -> None:
    program = load(scripted(SeveralConditions), input_shapes=[(1, 6)])
    again = load(program.save(tmp_path / "network.pt2"))
    for x in samples(3):
        assert relative_error(again(x), program(x)) <= 1e-5
    assert smaller(again).parameter_count < program.parameter_count


def test_the_report_says_where_the_network_chooses() -> None:
    program = load(scripted(EitherLayer), input_shapes=[(1, 6)])
    dataset = Dataset((torch.cat(samples(5)),))
    result = intrafusion.compress(program, CompressionSpec(sparsity=0.5, joint_steps=5), dataset)
    (said,) = [text for text in result.report.warnings if "depends on what its tensors" in text]
    assert "of test_branches.py, `if x.sum() > 0:`" in said
    assert "x.shape" not in said
    frozen = {(f.parameter, f.op, f.reason) for f in intrafusion.inspect(program).frozen}
    reason = "a branch that depends on data reads its channels"
    assert ("left.weight", "branch", reason) in frozen
    assert result.report.after.parameters < result.report.before.parameters


def test_python_that_chooses_is_read_as_torchscript() -> None:
    torch.manual_seed(0)
    network = EitherLayer().eval()
    program = load(network, input_shapes=[(1, 6)])
    for x in samples(4):
        assert relative_error(program(x), network(x)) <= 1e-5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_goes_out_as_it_came(dtype: torch.dtype, tmp_path: Path) -> None:
    script = scripted(SizesOfTheBatch).to(dtype)
    program = load(script, input_shapes=[(1, 6)], input_dtypes=[str(dtype).removeprefix("torch.")])
    spec = CompressionSpec(sparsity=0.5, compensation="none")
    result = intrafusion.compress(program, spec).program
    written = run_torchscript(result.save(tmp_path / "small.pt"))
    for x in samples(3):
        assert torch.equal(written(x.to(dtype)), result(x.to(dtype)))


def test_frozen_torchscript() -> None:
    network = scripted(EitherLayer)
    script = torch.jit.freeze(network)
    program = load(script, input_shapes=[(1, 6)])
    assert program.parameter_count == sum(p.numel() for p in network.parameters())
    for x in samples(4):
        assert relative_error(program(x), script(x)) <= 1e-5
    assert smaller(program).parameter_count < program.parameter_count


class Condition(Chooses):
    """torch.cond, in Python."""

    def choose(self, x: Tensor) -> Tensor:
        (y,) = torch.cond(
            x.sum() > 0,
            lambda x: (self.left(x) * torch.arange(8.0),),
            lambda x: (self.right(x) + torch.tensor(2.0),),
            (x,),
        )
        return y


def test_torch_cond() -> None:
    torch.manual_seed(0)
    network = Condition().eval()
    program = load(network, input_shapes=[(1, 6)])
    assert len(ways_taken(program, samples(2))) == 2
    for x in samples(2):
        assert relative_error(program(x), network(x)) <= 1e-5
    smaller(program)


def test_a_check_that_raises_is_left_out() -> None:
    program = load(scripted(Checked), input_shapes=[(1, 6)])
    (note,) = program.notes
    assert '`assert x.abs().max() < 1e6, "too large"`. The program does not check this.' in note
    assert smaller(program).parameter_count < program.parameter_count


def test_numbers_from_tensors() -> None:
    script = scripted(Scaled)
    program = load(script, input_shapes=[(1, 6)])
    for x in samples(4):
        assert relative_error(program(x), script(x)) <= 1e-5
    assert not any("depends on what its tensors" in note for note in program.notes)
    assert smaller(program).parameter_count < program.parameter_count


def test_multiply_accumulates_are_those_of_the_dearer_way() -> None:
    plain = load(nn.Sequential(nn.Linear(6, 12), nn.Linear(12, 8)), input_shapes=[(1, 6)])
    program = load(scripted(OneWayOnly), input_shapes=[(1, 6)])
    rest = intrafusion.inspect(plain).macs + 8 * 12 + 12 * 3
    assert intrafusion.inspect(program).macs == rest + 8 * 8


@pytest.mark.parametrize(
    ("network", "line"),
    [(UntilSmall, "while x.abs().max() > 0.1:"), (ShapeByData, "if x.sum() > 0:")],
)
def test_what_cannot_be_kept_is_an_error_that_names_the_line(
    network: type[Chooses], line: str
) -> None:
    with pytest.raises(IntraFusionError) as caught:
        load(scripted(network), input_shapes=[(1, 6)])
    assert caught.value.code is ErrorCode.CAPTURE_FAILED
    assert f"of test_branches.py, `{line}`" in caught.value.message
