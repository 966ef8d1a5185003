"""Long networks are analysed as short ones are, and large tensors are not multiplied."""

from __future__ import annotations

from cProfile import Profile
from functools import partial

import pytest
import torch

from benchmarks.scale import LIMIT_SECONDS, chain, measure_memory
from benchmarks.zoo.processes import in_own_process
from intrafusion import load
from intrafusion.channels import analyse, remove


def test_a_graph_of_thousands_of_nodes_has_the_groups_of_its_blocks() -> None:
    blocks = 250
    program = load(chain(blocks).eval(), input_shapes=[(2, 3, 4, 4)])
    assert len(program.graph.nodes) > 2_000
    stream, *inner = analyse(program).groups
    assert {str(b) for b in stream.bindings if b.role.name == "PRODUCER"} == {
        "0.weight[0]",
        *(f"{number}.outer.weight[0]" for number in range(1, blocks + 1)),
    }
    assert [[str(binding) for binding in group.bindings] for group in inner] == [
        [f"{number}.inner.weight[0]", f"{number}.inner.bias[0]", f"{number}.outer.weight[1]"]
        for number in range(1, blocks + 1)
    ]


def test_analysis_and_removal_do_as_much_for_every_block() -> None:
    short, long = (calls_of(blocks) for blocks in (40, 120))
    assert long < 3.1 * short


def calls_of(blocks: int) -> int:
    """How many functions are called to analyse a chain and to remove from it."""
    program = load(chain(blocks).eval(), input_shapes=[(2, 3, 4, 4)])
    counting = Profile()
    analysis = counting.runcall(analyse, program)
    kept = {group: torch.arange(len(group) // 2) for group in analysis.groups}
    counting.runcall(remove, analysis, kept)
    return sum(entry.callcount for entry in counting.getstats())


@pytest.mark.slow
def test_a_parameter_of_100m_elements_is_held_less_than_three_times() -> None:
    row = in_own_process(partial(measure_memory, "matrix of 100M"), LIMIT_SECONDS)
    assert row.model_bytes > 400_000_000
    assert row.load <= row.removal < 3
    assert row.compress is not None
    assert row.compress < 3
