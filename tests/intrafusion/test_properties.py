"""What must hold for every compression: order, threads and repetition change nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from intrafusion import CompressionSpec, Dataset, compress
from intrafusion.channels import analyse
from intrafusion.evaluation.latency import on_threads
from intrafusion.program import Program
from tests.intrafusion.programs import example, program_of, relative_error
from tests.networks import NETWORKS

SPEC = CompressionSpec(importance="l1", allocation="uniform", joint_steps=0)
SAMPLES = Dataset((example(40, seed=7),))


def permuted(program: Program, seed: int) -> Program:
    """The same network with the units of every group in another order."""
    generator = torch.Generator().manual_seed(seed)
    tensors = dict(program.tensors)
    for group in analyse(program).groups:
        order = torch.randperm(len(group), generator=generator)
        for binding in group.bindings:
            lines = tensors[binding.tensor].movedim(binding.dim, 0).clone()
            lines[binding.index] = lines[binding.index[order]]
            tensors[binding.tensor] = lines.movedim(0, binding.dim).contiguous()
    return replace(program, tensors=tensors)


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 1000), data=st.booleans(), name=st.sampled_from(sorted(NETWORKS)))
def test_the_order_of_units_does_not_matter(seed: int, data: bool, name: str) -> None:
    program = program_of(name)
    other = permuted(program, seed)
    assert relative_error(other(example()), program(example())) < 1e-5
    spec = SPEC if data else SPEC.model_copy(update={"compensation": "none"})
    first, second = (compress(p, spec, SAMPLES if data else None) for p in (program, other))
    assert first.program.parameter_count == second.program.parameter_count
    assert relative_error(second.program(example()), first.program(example())) < 1e-3


@pytest.mark.parametrize("name", ["resnet", "mobilenet"])
def test_the_same_seed_gives_the_same_bits_and_more_threads_nearly(name: str) -> None:
    program = program_of(name)
    spec = CompressionSpec(joint_steps=10, seed=3)
    with on_threads(1):
        first, second = (compress(program, spec, SAMPLES).program for _ in range(2))
    with on_threads(2):
        third = compress(program, spec, SAMPLES).program
    assert all(torch.equal(t, second.tensors[n]) for n, t in first.tensors.items())
    assert relative_error(third(example()), first(example())) < 1e-5
