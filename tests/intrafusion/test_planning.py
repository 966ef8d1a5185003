"""The plan that a compressed program carries."""

from __future__ import annotations

import torch

from intrafusion import Compression, CompressionSpec, Program, compress, load
from intrafusion.program.plan import Plan
from tests.networks import INPUT_SHAPE, build


def half_of(program: Program) -> Compression:
    return compress(program, CompressionSpec(sparsity=0.5, compensation="none"))


def test_plan_says_what_became_of_every_tensor() -> None:
    network = build("vgg")
    program = load(network, input_shapes=[(1, *INPUT_SHAPE)])
    small = half_of(program).program
    plan = small.plan
    assert plan is not None
    assert program.plan is None
    for name, shape in plan.shapes.items():
        if name not in plan.biases:
            assert shape == tuple(program.tensors[name].shape)
        left = list(shape)
        for dim, positions in plan.kept[name].items():
            left[dim] = len(positions)
            assert list(positions) == sorted(set(positions))
        assert left == list(small.tensors[name].shape)
    unchanged = small.tensors.keys() & program.tensors.keys() - plan.shapes.keys()
    assert all(small.tensors[n].shape == program.tensors[n].shape for n in unchanged)
    assert plan.biases == ("features.0.bias", "features.4.bias", "features.8.bias")
    assert set(plan.folded) == {"features.1", "features.5", "features.9"}
    kept = list(plan.kept["features.0.weight"][0])
    norm = plan.folded["features.1"]
    torch.testing.assert_close(torch.tensor(norm.mean), network.features[1].bias[kept])
    torch.testing.assert_close(torch.tensor(norm.variance), network.features[1].weight[kept] ** 2)
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


def test_plan_of_a_second_compression_reaches_back_to_the_original() -> None:
    program = load(build("vgg"), input_shapes=[(1, *INPUT_SHAPE)])
    first = half_of(program).program
    second = half_of(first).program
    assert first.plan is not None
    assert second.plan is not None
    assert set(second.plan.folded) == set(first.plan.folded)
    assert second.plan.biases == first.plan.biases
    for name, dims in second.plan.kept.items():
        assert second.plan.shapes[name] == first.plan.shapes[name]
        for dim, positions in dims.items():
            assert len(positions) == second.tensors[name].shape[dim]
            assert set(positions) < set(first.plan.kept[name][dim])
    norm = second.plan.folded["features.1"]
    kept = list(second.plan.kept["features.0.weight"][0])
    torch.testing.assert_close(torch.tensor(norm.mean), build("vgg").features[1].bias[kept])
