"""Samples out of the network itself: they look to its batch norms like its training data."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from intrafusion import (
    CompressionSpec,
    Dataset,
    ErrorCode,
    IntraFusionError,
    compress,
    effort,
    load,
    load_dataset,
)
from intrafusion.batches import held_out
from intrafusion.calibration import inversion
from intrafusion.calibration.inversion import invert, obstacle
from intrafusion.calibration.made import kind, search
from intrafusion.calibration.made.classes import Classes, shuffled_classes
from intrafusion.calibration.made.statistics import Statistics
from intrafusion.compensation.parts import HOLDOUT
from intrafusion.evaluation import macs
from intrafusion.program import Program
from intrafusion.report import Progress
from tests.intrafusion.programs import program_of

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture(autouse=True)
def short_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "STEPS", 60)
    monkeypatch.setattr(Statistics, "wanted", 32)
    monkeypatch.setattr(Classes, "wanted", kind.MOST)


def learned(network: nn.Module, inputs: Tensor) -> Program:
    """`network` with batch norms that remember `inputs`."""
    network.train()
    for _ in range(60):
        network(inputs)
    return load(network.eval(), example_inputs=(inputs[:2],))


NETWORKS = {
    "vectors": (
        lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)),
        (6,),
    ),
    "signals": (
        lambda: nn.Sequential(nn.Conv1d(2, 8, 3), nn.BatchNorm1d(8), nn.ReLU(), nn.Conv1d(8, 3, 1)),
        (2, 20),
    ),
    "images": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 3, 1)),
        (3, 9, 5),
    ),
    "volumes": (
        lambda: nn.Sequential(nn.Conv3d(1, 8, 3), nn.BatchNorm3d(8), nn.ReLU(), nn.Conv3d(8, 3, 1)),
        (1, 5, 6, 7),
    ),
}


@pytest.mark.parametrize("shape_of", NETWORKS)
def test_batch_norms_see_what_they_remember(shape_of: str) -> None:
    torch.manual_seed(0)
    make, shape = NETWORKS[shape_of]
    program = learned(make(), 100 + 50 * torch.randn(64, *shape))
    made = invert(program)
    (samples,) = made.samples
    assert samples.shape == (32, *shape)
    assert made.statistics_error < 0.02
    # What the norm puts out has its own β and γ, which are 0 and 1 in a network not trained.
    network = nn.Sequential(*list(make())[:1])
    names = {name.removeprefix("0."): t for name, t in program.tensors.items() if name[0] == "0"}
    network[0].load_state_dict(names)
    values = network(samples)
    others = [dim for dim in range(values.dim()) if dim != 1]
    mean, variance = program.tensors["1.running_mean"], program.tensors["1.running_var"]
    assert (((values.mean(others) - mean) ** 2) / variance).mean() < 0.02
    assert ((values.std(others) / variance.sqrt() - 1) ** 2).mean() < 0.02


@pytest.mark.parametrize("unit", [1.0, 100.0])
def test_without_batch_norms_a_classifier_is_sure_of_all_its_classes(unit: float) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 8, 3), nn.Tanh(), nn.Flatten(), nn.Linear(8 * 36, 4))
    network[0].weight.data /= unit
    program = load(network.eval(), example_inputs=(torch.randn(2, 2, 8, 8),))
    made = invert(program)
    (samples,) = made.samples
    assert samples.shape == (kind.MOST, 2, 8, 8)
    assert made.statistics_error is None
    shares = network(samples).softmax(1)
    assert shares.argmax(1).bincount().tolist() == [kind.MOST // 4] * 4
    assert shares.amax(1).min() > 0.8
    assert 1 < samples.std() / unit < 20
    report = compress(program, CompressionSpec(joint_steps=0)).report
    assert report.compensation.mode == "inversion"
    assert any("sure of their classes" in warning for warning in report.warnings)


def test_the_same_seed_gives_the_same_samples() -> None:
    program = program_of("vgg")
    before = {name: tensor.clone() for name, tensor in program.tensors.items()}
    first, again, other = (invert(program, seed=seed).samples[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not first.requires_grad
    assert all(torch.equal(before[name], tensor) for name, tensor in program.tensors.items())


def test_large_networks_get_fewer_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "STEPS", 1)
    monkeypatch.setattr(search.Searched, "memory", 1)
    assert len(invert(program_of("vgg")).samples[0]) == kind.FEWEST


def test_slow_networks_get_fewer_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "STEPS", 1)
    program = program_of("vgg")
    for affordable, count in ((20, 20), (5, kind.FEWEST)):
        monkeypatch.setitem(effort.AFFORDABLE, "cpu", 3.0 * affordable * macs(program))
        assert len(invert(program).samples[0]) == count
        assert inversion.is_affordable(program) == (affordable == count)


def test_without_samples_they_are_made() -> None:
    seen: list[Progress] = []
    spec = CompressionSpec(joint_steps=0)
    report = compress(program_of("vgg"), spec, progress=seen.append).report
    assert report.compensation.mode == "inversion"
    assert report.compensation.samples == 32
    assert report.compensation.layers > 0
    assert report.compensation.statistics_error is not None
    assert report.decided.compensation == "inversion"
    assert report.decided.importance == "reconstruction"
    assert [p.done for p in seen if p.step == "synthesise"] == list(range(61))


def test_samples_that_are_given_come_first() -> None:
    data = Dataset((torch.randn(40, 3, 16, 16),))
    report = compress(program_of("vgg"), CompressionSpec(joint_steps=0), data).report
    assert (report.compensation.mode, report.compensation.samples) == ("calibration", 40)
    assert "synthesise" not in report.seconds


def test_a_request_that_prunes_nothing_is_refused_before_the_search() -> None:
    seen: list[str] = []
    with pytest.raises(IntraFusionError) as caught:
        compress(
            program_of("vgg"),
            CompressionSpec(include=["no.such.*"]),
            progress=lambda progress: seen.append(progress.step),
        )
    assert caught.value.code is ErrorCode.NOTHING_TO_PRUNE
    assert "synthesise" not in seen


def test_what_cannot_be_inverted_says_why() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))

        def forward(self, counts: Tensor) -> Tensor:
            return self.layers(counts.float())

    program = load(Counts().eval(), example_inputs=(torch.randint(10, (2, 5)),))
    why = "neither real numbers nor ids"
    assert why in obstacle(program)
    report = compress(program, CompressionSpec()).report
    assert report.compensation.mode == "none"
    assert any(why in warning for warning in report.warnings)
    with pytest.raises(IntraFusionError, match=why) as caught:
        compress(program, CompressionSpec(compensation="inversion"))
    assert caught.value.code is ErrorCode.INVALID_SPEC


def test_what_takes_too_long_is_left_until_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "STEPS", 10**9)
    report = compress(program_of("vgg"), CompressionSpec()).report
    assert report.compensation.mode == "none"
    assert any("longer than minutes" in warning for warning in report.warnings)
    monkeypatch.setattr(search, "STEPS", 1)
    spec = CompressionSpec(compensation="inversion", joint_steps=0)
    assert compress(program_of("vgg"), spec).report.compensation.mode == "inversion"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "data"), [("fashion_vgg", "fashion_test"), ("mnist_vit", "mnist_test")]
)
def test_a_trained_network_keeps_its_accuracy_without_any_data(network: str, data: str) -> None:
    program = load(EXAMPLES / f"{network}.pt", input_shapes=[(1, 1, 28, 28)])
    test = load_dataset(EXAMPLES / f"{data}.npz")
    accuracies = {}
    for compensation in ("inversion", "none"):
        spec = CompressionSpec(compensation=compensation, joint_steps=0)
        report = compress(program, spec, evaluation=test).report
        assert report.before.accuracy is not None
        assert report.after.accuracy is not None
        accuracies[compensation] = report.after.accuracy
    assert accuracies["inversion"] > report.before.accuracy - 0.15
    assert accuracies["inversion"] > accuracies["none"] + 0.2


@pytest.mark.parametrize(("samples", "classes"), [(192, 10), (64, 4), (192, 1000)])
def test_samples_held_out_are_of_all_classes(samples: int, classes: int) -> None:
    wanted = shuffled_classes(samples, classes)
    counts = wanted.bincount(minlength=classes)
    assert counts.max() - counts.min() <= 1
    held = held_out(samples, HOLDOUT)
    assert len(wanted[held].unique()) > 0.8 * min(classes, int(held.sum()))
    assert len(wanted[~held].unique()) == min(classes, int((~held).sum()))


def test_without_batch_norms_there_are_more_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the numbers are those that users get
    monkeypatch.setattr(search, "STEPS", 1)

    def made(*norms: nn.Module) -> int:
        network = nn.Sequential(nn.Linear(6, 5), *norms, nn.ReLU(), nn.Linear(5, 3))
        program = load(network.eval(), input_shapes=[(1, 6)])
        return len(invert(program).samples[0])

    assert made(nn.BatchNorm1d(5)) == kind.SAMPLES
    assert made() == kind.MOST
