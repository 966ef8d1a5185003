"""Networks that put out numbers, measured against what they should be."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
import torch
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score
from torch import nn

from intrafusion import (
    CompressionSpec,
    Dataset,
    ErrorCode,
    IntraFusionError,
    Program,
    compress,
    load,
    load_dataset,
)
from intrafusion.evaluation import evaluate


@pytest.fixture(scope="module")
def program() -> Program:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 1))
    return load(network.eval(), input_shapes=[(1, 6)])


def dataset(program: Program, count: int = 150) -> Dataset:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(count, 6, generator=generator)
    noise = 0.1 * torch.randn(count, 1, generator=generator)
    return Dataset((inputs,), targets=program(inputs) + noise)


def test_errors_are_those_of_scikit_learn(program: Program) -> None:
    data = dataset(program)
    assert data.targets is not None
    report = compress(program, CompressionSpec(sparsity=0.5), data, data).report
    result = compress(program, CompressionSpec(sparsity=0.5), data, data).program
    found, wanted = result(*data.inputs)[:, 0], data.targets[:, 0]
    assert report.after.regression is not None
    assert report.after.regression.mse == pytest.approx(mean_squared_error(wanted, found), rel=1e-4)
    assert report.after.regression.mae == pytest.approx(
        mean_absolute_error(wanted, found), rel=1e-4
    )
    assert report.after.regression.r2 == pytest.approx(r2_score(wanted, found), abs=1e-4)
    assert report.before.regression is not None
    assert report.before.regression.mse == pytest.approx(0.01, rel=0.3)
    assert report.before.accuracy is None


def test_constant_targets_have_no_variance_to_explain(program: Program) -> None:
    inputs = torch.randn(20, 6)
    data = Dataset((inputs,), targets=torch.full((20, 1), 3.7))
    measured = evaluate(program, program, data, None, latency=False).before.regression
    assert measured is not None
    assert measured.r2 is None
    assert measured.mae == pytest.approx(float((program(inputs) - 3.7).abs().mean()), rel=1e-5)


def test_targets_are_read_from_files(program: Program, tmp_path: Path) -> None:
    data = dataset(program)
    assert data.targets is not None
    path = tmp_path / "data.npz"
    numpy.savez(path, inputs=data.inputs[0].numpy(), targets=data.targets.numpy())
    read = load_dataset(path)
    assert read.targets is not None
    assert torch.equal(read.targets, data.targets)


@pytest.mark.parametrize(
    ("targets", "code"),
    [
        (numpy.zeros((5, 1), "float32"), ErrorCode.DATASET_SHAPE_MISMATCH),
        (numpy.zeros((6, 1), "int64"), ErrorCode.DATASET_DTYPE_MISMATCH),
    ],
)
def test_files_with_other_targets_are_refused(
    targets: numpy.ndarray, code: ErrorCode, tmp_path: Path
) -> None:
    numpy.savez(tmp_path / "data.npz", inputs=numpy.zeros((6, 6), "float32"), targets=targets)
    with pytest.raises(IntraFusionError) as caught:
        load_dataset(tmp_path / "data.npz")
    assert caught.value.code is code


@pytest.mark.parametrize(
    ("targets", "code"),
    [
        (torch.zeros(8, 2), ErrorCode.DATASET_SHAPE_MISMATCH),
        (torch.zeros(8), ErrorCode.DATASET_SHAPE_MISMATCH),
        (torch.full((8, 1), torch.nan), ErrorCode.DATASET_NOT_FINITE),
    ],
)
def test_targets_that_do_not_fit_the_network_are_refused(
    program: Program, targets: torch.Tensor, code: ErrorCode
) -> None:
    with pytest.raises(IntraFusionError) as caught:
        compress(program, CompressionSpec(), Dataset((torch.zeros(8, 6),), targets=targets))
    assert caught.value.code is code
