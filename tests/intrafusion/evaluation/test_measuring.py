"""Two programs measured side by side."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from intrafusion import ErrorCode, IntraFusionError, Program, load
from intrafusion.calibration import Dataset
from intrafusion.evaluation import evaluate, latencies
from intrafusion.evaluation.accuracy import Accuracy
from intrafusion.evaluation.fidelity import Distance
from tests.intrafusion.program.forms import program_of
from tests.networks import CLASSES, samples


def with_tensor(program: Program, name: str, tensor: Tensor) -> Program:
    return replace(program, tensors={**program.tensors, name: tensor})


@pytest.fixture(scope="module")
def original() -> Program:
    return program_of("vgg")


def test_a_program_agrees_with_itself(original: Program) -> None:
    fidelity = evaluate(original, original, None, None, latency=False).fidelity
    assert fidelity.agreement == 1
    assert fidelity.output_distance == 0
    assert fidelity.relative_distance == 0
    assert fidelity.cosine == pytest.approx(1)
    assert fidelity.source == "random"
    assert fidelity.samples == 64


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_accuracy_and_distance_are_those_of_the_outputs(original: Program, batch: int) -> None:
    name = "classifier.3.bias"
    other = with_tensor(original, name, original.tensors[name] + torch.linspace(0, 1, CLASSES))
    x = samples(20)
    before, after = original(x), other(x)
    labels = before.argmax(1)
    labels[:5] = (labels[:5] + 1) % CLASSES
    result = evaluate(original, other, Dataset((x,), labels), None, latency=False, batch=batch)
    assert result.before.accuracy == 0.75
    assert result.after.accuracy == (after.argmax(1) == labels).float().mean()
    top5 = (after.topk(5).indices == labels[:, None]).any(1).float().mean()
    assert result.after.top5_accuracy == top5
    assert result.fidelity.source == "evaluation"
    assert result.fidelity.samples == 20
    distance = math.sqrt(float((torch.linspace(0, 1, CLASSES) ** 2).sum()))
    assert result.fidelity.output_distance == pytest.approx(distance, rel=1e-5)
    relative = distance / float(before.norm(dim=1).mean())
    assert result.fidelity.relative_distance == pytest.approx(relative, rel=1e-5)
    assert result.fidelity.agreement == (before.argmax(1) == after.argmax(1)).float().mean()


def test_the_histogram_holds_every_samples_distance(original: Program) -> None:
    name = "classifier.3.weight"
    other = with_tensor(original, name, original.tensors[name] * 1.1)
    x = samples(50)
    distances = evaluate(original, other, Dataset((x,)), None, latency=False).fidelity.distances
    assert distances is not None
    assert len(distances.edges) == len(distances.counts) + 1
    expected, _ = np.histogram(
        (original(x).double() - other(x).double()).norm(dim=1).numpy(), distances.edges
    )
    assert sum(distances.counts) == 50
    assert np.abs(expected - distances.counts).sum() <= 2  # one on an edge may fall on either side
    same = evaluate(original, original, Dataset((x,)), None, latency=False).fidelity.distances
    assert same is not None
    assert same.counts[0] == 50


def test_calibration_labels_are_not_accuracy(original: Program) -> None:
    dataset = Dataset((samples(8),), torch.zeros(8, dtype=torch.int64))
    result = evaluate(original, original, None, dataset, latency=False)
    assert result.before.accuracy is None
    assert result.fidelity.source == "calibration"


def test_costs_are_each_programs_own() -> None:
    small = load(nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 3)), input_shapes=[(1, 4)])
    large = load(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3)), input_shapes=[(1, 4)])
    result = evaluate(large, small, None, None, latency=False)
    assert (result.before.parameters, result.after.parameters) == (67, 19)
    assert (result.before.macs, result.after.macs) == (56, 14)
    assert result.before.latency is None


def test_outputs_that_are_no_class_scores_have_no_agreement() -> None:
    program = load(nn.Conv2d(3, 4, 3), input_shapes=[(1, 3, 8, 8)])
    assert evaluate(program, program, None, None, latency=False).fidelity.agreement is None


def test_new_nan_is_a_failed_compression(original: Program) -> None:
    name = "classifier.3.bias"
    broken = with_tensor(original, name, torch.full((CLASSES,), float("nan")))
    with pytest.raises(IntraFusionError) as caught:
        evaluate(original, broken, None, None, latency=False)
    assert caught.value.code is ErrorCode.COMPRESSION_FAILED


def test_infinite_outputs_of_the_original_are_left_out() -> None:
    distance = Distance()
    mask = torch.tensor([[1.0, -torch.inf], [2.0, 3.0]])
    distance.add([mask], [torch.tensor([[4.0, -torch.inf], [2.0, 7.0]])])
    result = distance.result("evaluation")
    assert result.output_distance == pytest.approx((3 + 4) / 2)


def test_top5_needs_six_classes() -> None:
    accuracy = Accuracy()
    accuracy.add(torch.eye(5), torch.arange(5))
    assert accuracy.top1 == 1
    assert accuracy.top5 is None
    assert Accuracy().top1 is None


def test_integer_inputs_are_repeated_rather_than_invented() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(4, 3)

        def forward(self, tokens: Tensor) -> Tensor:
            return self.table(tokens).sum(1)

    program = load(Tokens(), example_inputs=torch.tensor([[3, 2]]))
    assert evaluate(program, program, None, None, latency=False).fidelity.samples == 2


class TestLatency:
    def test_more_work_takes_longer(self) -> None:
        def deep(layers: int) -> Program:
            stack = nn.Sequential(*(nn.Linear(256, 256) for _ in range(layers)))
            return load(stack, input_shapes=[(1, 256)])

        short, long = latencies([deep(1), deep(60)], batch=8, seconds=1)
        assert 0 < short.median_ms < long.median_ms
        assert (short.batch, short.device) == (8, "cpu")
        assert short.threads == 1

    def test_the_number_of_threads_is_as_before(self, original: Program) -> None:
        before = torch.get_num_threads()
        (latency,) = latencies([original], threads=before + 1, seconds=0.1)
        assert latency.threads == before + 1
        assert torch.get_num_threads() == before

    def test_a_program_is_as_fast_as_itself(self, original: Program) -> None:
        first, second = latencies([original, original], batch=16)
        assert 0.5 < first.median_ms / second.median_ms < 2

    def test_the_time_budget_holds(self) -> None:
        import time

        class Slow(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return (x @ x.transpose(1, 2)).sum((1, 2))

        program = load(Slow(), input_shapes=[(1, 1500, 500)])
        start = time.perf_counter()
        (latency,) = latencies([program], seconds=0.2)
        rounds = (time.perf_counter() - start) * 1000 / latency.median_ms
        # Rounds beyond the fewest stop with the budget: far fewer than the most, 200.
        assert rounds < 150

    def test_what_torchscript_lacks_is_timed_as_a_graph(self) -> None:
        class Named(nn.Module):
            def forward(self, x: Tensor) -> dict[object, Tensor]:
                return {"a": x + 1, 2: x * 2}

        program = load(Named(), input_shapes=[(1, 4)])
        assert latencies([program], seconds=0.1)[0].median_ms > 0

    def test_evaluate_includes_it_unless_told_not_to(self, original: Program) -> None:
        result = evaluate(original, original, None, None)
        assert result.before.latency is not None
        assert result.after.latency is not None
        assert result.after.latency.batch == 1
