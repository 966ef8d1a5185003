"""Networks and samples that are not as they should be: an error or a warning, never NaN."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from intrafusion import (
    Compression,
    CompressionSpec,
    Dataset,
    ErrorCode,
    IntraFusionError,
    Program,
    compress,
    load,
    plan,
)
from tests.intrafusion.programs import example, program_of, relative_error
from tests.networks import NETWORKS

HALF = CompressionSpec(sparsity=0.5, joint_steps=10)


def check_numbers(result: Compression) -> None:
    """Nothing in the report or in the outputs is NaN or infinite."""

    def numbers(value: Any) -> list[float]:
        if isinstance(value, dict):
            return [n for part in value.values() for n in numbers(part)]
        if isinstance(value, list):
            return [n for part in value for n in numbers(part)]
        return [value] if isinstance(value, float) else []

    assert all(map(math.isfinite, numbers(result.report.model_dump())))
    assert bool(result.program(example(3)).isfinite().all())


def changed(name: str, change: Callable[[dict[str, Tensor]], object]) -> Program:
    """The network with other tensors than `load` would have let through."""
    program = program_of(name)
    tensors = {each: tensor.clone() for each, tensor in program.tensors.items()}
    change(tensors)
    return replace(program, tensors=tensors)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        (example(1), "only 1 different"),
        (example(2), "only 2 different"),
        (example(20), "only 20 different"),
        (torch.zeros(70, 3, 16, 16), "All 70 calibration samples are the same"),
        (example(1).repeat(70, 1, 1, 1), "All 70 calibration samples are the same"),
        (example(7).repeat(10, 1, 1, 1), "Of 70 calibration samples only 7 are different"),
    ],
    ids=["one", "two", "few", "constant", "the same", "copies"],
)
def test_samples_that_say_little_are_warned_of(name: str, inputs: Tensor, says: str) -> None:
    result = compress(program_of(name), HALF, Dataset((inputs,)))
    check_numbers(result)
    assert any(says in warning for warning in result.report.warnings)
    # An error relative to no variance at all would be astronomical.
    assert result.report.compensation.fit_error is not None
    assert result.report.compensation.fit_error < 10


def test_many_different_samples_are_not_warned_of() -> None:
    report = compress(program_of("resnet"), HALF, Dataset((example(70),))).report
    assert not any("different" in warning for warning in report.warnings)


@pytest.mark.parametrize("samples", [None, Dataset((example(64),))], ids=["no data", "data"])
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -1.0], ids=["NaN", "infinity", "negative variance"]
)
def test_a_network_that_is_broken_itself_is_refused(
    name: str, value: float, samples: Dataset | None
) -> None:
    kind = "running_var" if value < 0 else "weight"
    (tensor, *_) = (each for each in program_of(name).tensors if each.endswith(kind))
    program = changed(name, lambda tensors: tensors[tensor].view(-1)[:1].fill_(value))
    for do in (compress, plan):
        with pytest.raises(IntraFusionError) as caught:
            do(program, HALF, samples)
        assert caught.value.code in (ErrorCode.WEIGHTS_NOT_FINITE, ErrorCode.MODEL_DOES_NOT_RUN)


@pytest.mark.parametrize("samples", [None, Dataset((example(64),))], ids=["no data", "data"])
@pytest.mark.parametrize("name", NETWORKS)
def test_norms_without_variance_give_numbers(name: str, samples: Dataset | None) -> None:
    def flatten(tensors: dict[str, Tensor]) -> None:
        for each, tensor in tensors.items():
            if each.endswith("running_var"):
                tensor[:3] = 0

    check_numbers(compress(changed(name, flatten), HALF, samples))


def test_dead_units_go_first_and_are_not_missed() -> None:
    # Half of the units of every convolution do nothing: neither weight nor bias, nor batch norm.
    def kill(tensors: dict[str, Tensor]) -> None:
        for layer in ("features.0", "features.4", "features.8"):
            norm = f"{layer.split('.')[0]}.{int(layer.split('.')[1]) + 1}"
            half = len(tensors[f"{layer}.weight"]) // 2
            for each in (f"{layer}.weight", f"{norm}.weight", f"{norm}.bias"):
                tensors[each][:half] = 0

    program = changed("vgg", kill)
    spec = CompressionSpec(
        sparsity=0.5, allocation="uniform", joint_steps=0, exclude=["classifier.0.bias"]
    )
    result = compress(program, spec, Dataset((example(128, seed=3),)))
    check_numbers(result)
    assert result.report.after.parameters < result.report.before.parameters
    assert relative_error(result.program(example(5)), program(example(5))) < 2e-2


def test_activations_beyond_float32_are_an_error() -> None:
    with pytest.raises(IntraFusionError) as caught:
        compress(program_of("concat"), HALF, Dataset((example(64) * 1e18,)))
    assert caught.value.code is ErrorCode.COMPRESSION_FAILED
    assert "scale" in caught.value.hint


def test_a_group_of_one_unit_stays() -> None:
    narrow = nn.Sequential(nn.Linear(6, 1), nn.ReLU(), nn.Linear(1, 8), nn.ReLU(), nn.Linear(8, 4))
    program = load(narrow.eval(), input_shapes=[(1, 6)])
    data = Dataset((torch.randn(80, 6, generator=torch.Generator().manual_seed(0)),))
    for samples in (None, data):
        report = compress(program, HALF, samples).report
        assert [(g.units, g.kept) for g in report.groups] == [(8, 4)]
    with pytest.raises(IntraFusionError) as caught:
        compress(program, CompressionSpec(sparsity=0.5, include=["0.weight"]))
    assert caught.value.code is ErrorCode.NOTHING_TO_PRUNE
    with pytest.raises(IntraFusionError) as caught:
        compress(program, CompressionSpec(parameters=0.1))
    assert caught.value.code is ErrorCode.BUDGET_UNREACHABLE
