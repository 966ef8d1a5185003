"""Any network of operations that are known prunes, and comes out right."""

from __future__ import annotations

import os
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from torch import Tensor

from benchmarks.zoo.reference import masked_outputs, random_half
from intrafusion import Program, load
from intrafusion.channels import Analysis, analyse, remove
from intrafusion.folding import fold_batch_norm
from tests.intrafusion.channels.random_graphs import RandomGraph, grown, random_graphs
from tests.intrafusion.programs import duplicated, without_copies

FORBIDDING = {
    "a convolution runs along its channels",
    "an index addresses its channels by number",
    "attention runs along its channels",
    "it addresses its channels by number",
    "it is summed over without weights",
    "it meets a tensor whose size along the channels is fixed",
    "it reduces over its channels",
    "it takes apart what one channel became",
    "it works along its channels",
    "its channels are mixed with others along one dimension",
    "one channel of it is used on its own",
    "softmax runs along its channels",
}
"""Why channels rightly stay. Not among them: that an operation has no rule."""

FEW, MANY = 60, int(os.environ.get("RANDOM_GRAPHS", "2000"))

exploring = pytest.mark.skipif(
    os.environ.get("HYPOTHESIS_PROFILE") != "explore",
    reason="what hypothesis draws depends on what was imported before it",
)
"""Tests that look for new faults, and shrink the networks that have one."""

freely = settings(max_examples=MANY, deadline=None, suppress_health_check=list(HealthCheck))


def drawn(count: int, check: Callable[[RandomGraph], None]) -> None:
    """Check so many networks, the same in every run."""
    for seed in range(count):
        graph = grown(Random(seed).choice)
        try:
            check(graph)
        except Exception as error:
            error.add_note(f"seed {seed}: {graph!r}")
            raise


def are_the_same(found: Tensor, wanted: Tensor) -> bool:
    # What a random network puts out may be zero throughout.
    scale = float(wanted.abs().max().clamp_min(1e-6))
    return bool((found - wanted).abs().max() <= 1e-5 * scale)


def check_removal(graph: RandomGraph, program: Program) -> Analysis:
    analysis = analyse(program)
    kept = random_half(analysis)
    smaller = remove(analysis, kept).program
    for batch in (1, 2, 5):
        inputs = graph.inputs(batch)
        (found,), (wanted,) = smaller.outputs(*inputs), masked_outputs(analysis, kept, inputs)
        assert are_the_same(found, wanted)
    return analysis


def check(graph: RandomGraph) -> None:
    analysis = check_removal(graph, graph.program)
    if graph.reads_all and not analysis.groups:
        assert any(freeze.reason in FORBIDDING for freeze in analysis.walk.freezes)


def keeps_copies(graph: RandomGraph) -> bool:
    """Whether copies stay copies: no step counts channels."""
    return not graph.counts_channels


def check_copies(graph: RandomGraph) -> None:
    """Fusing exact copies loses nothing, unless a statistic counts the channels of one sort."""
    if not keeps_copies(graph):
        return
    program = duplicated(analyse(fold_batch_norm(graph.program).program))
    smaller = without_copies(analyse(program))
    inputs = graph.inputs(5)
    (found,), (wanted,) = smaller.outputs(*inputs), program.outputs(*inputs)
    assert are_the_same(found, wanted)


def check_as_loaded(graph: RandomGraph) -> None:
    check_removal(graph, load(graph.module.eval(), example_inputs=graph.inputs(2)))


def test_zero_then_remove() -> None:
    drawn(FEW, check)


def test_zero_then_remove_as_it_is_loaded() -> None:
    drawn(5, check_as_loaded)


def test_fusing_exact_copies_is_lossless() -> None:
    drawn(FEW, check_copies)


@pytest.mark.slow
def test_zero_then_remove_on_many() -> None:
    drawn(MANY, check)


@pytest.mark.slow
def test_fusing_exact_copies_is_lossless_on_many() -> None:
    drawn(MANY, check_copies)


@exploring
@freely
@given(random_graphs())
def test_zero_then_remove_on_new_networks(graph: RandomGraph) -> None:
    check(graph)


@exploring
@freely
@given(random_graphs())
def test_fusing_exact_copies_is_lossless_on_new_networks(graph: RandomGraph) -> None:
    check_copies(graph)
