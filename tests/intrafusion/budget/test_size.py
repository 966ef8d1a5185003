"""What budgets reckon with is what a smaller network really costs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import intrafusion
from benchmarks.architectures import named
from intrafusion.budget import size
from intrafusion.channels import analyse, remove
from intrafusion.evaluation import macs

EXACT = ("resnet18", "densenet121", "mobilenet_v2", "unet", "bert", "llama_gqa")


@pytest.mark.parametrize("name", EXACT)
def test_parameters_and_macs_of_any_number_of_units(name: str) -> None:
    architecture = named(name)
    program = intrafusion.load(architecture.build().eval(), example_inputs=architecture.inputs(2))
    analysis = analyse(program)
    generator = torch.Generator().manual_seed(0)
    kept = {
        group: torch.arange(int(torch.randint(1, len(group) + 1, (), generator=generator)))
        for group in analysis.groups
    }
    groups = analysis.groups
    whole = np.array([float(len(group)) for group in groups])
    counts = np.array([float(len(kept[group])) for group in groups])
    small = remove(analysis, kept).program
    parameters = size.parameters(analysis, groups)
    assert parameters(whole) == program.parameter_count
    assert parameters(counts) == small.parameter_count
    multiplications = size.macs(analysis, groups)
    assert multiplications(whole) == pytest.approx(macs(program), abs=1)
    assert multiplications(counts) == pytest.approx(macs(small), abs=1)


def test_slopes_are_differences() -> None:
    architecture = named("unet")
    program = intrafusion.load(architecture.build().eval(), example_inputs=architecture.inputs(2))
    analysis = analyse(program)
    for cost in (size.parameters, size.macs, lambda _, groups: size.units(groups)):
        counted = cost(analysis, analysis.groups)
        kept = np.array([len(group) / 2 for group in analysis.groups])
        for number, slope in enumerate(counted.slopes(kept)):
            more, less = kept.copy(), kept.copy()
            more[number] += 1e-3
            less[number] -= 1e-3
            assert slope == pytest.approx((counted(more) - counted(less)) / 2e-3, rel=1e-4)
