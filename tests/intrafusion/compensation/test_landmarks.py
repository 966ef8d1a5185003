"""Landmarks: where both programs compute the same value, and which of its channels are left."""

from __future__ import annotations

import pytest
import torch

from intrafusion import CompressionSpec, compress
from tests.intrafusion.compensation.insides import insides
from tests.intrafusion.programs import example, program_of


@pytest.mark.parametrize(("name", "count"), [("vgg", 4), ("resnet", 7)])
def test_every_layer_after_the_first_is_one(name: str, count: int) -> None:
    program = program_of(name)
    spec = CompressionSpec(compensation="none", method="prune")
    pairs = insides(program, compress(program, spec).program, example(4))
    assert len(pairs) == count
    assert all(a.shape == b.shape for a, b in pairs)
    # Pruned and not refitted, what the first layers put out is what it was in the channels left.
    first, last = pairs[0], pairs[-1]
    assert torch.allclose(*first, atol=1e-5)
    assert not torch.allclose(*last, atol=1e-2)


def test_a_program_compressed_twice_is_compared_with_the_one_it_was_made_from() -> None:
    program = program_of("vgg")
    spec = CompressionSpec(compensation="none", method="prune", sparsity=0.25)
    once = compress(program, spec).program
    twice = compress(once, spec).program
    for start in (program, once):
        pairs = insides(start, twice, example(4))
        assert len(pairs) == 4
        assert torch.allclose(*pairs[0], atol=1e-5)
