"""compress() goes through on networks that are not chains of convolutions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from benchmarks.architectures import ZOO, randomise
from intrafusion import CompressionSpec, Dataset, compress, load

NAMES = ("lstm", "gru", "torch_encoder", "unet", "conv1d", "cbam", "group_norm", "two_in_two_out")


@pytest.mark.parametrize("with_samples", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_half_of_everything_goes_and_the_outputs_are_finite(name: str, with_samples: bool) -> None:
    torch.manual_seed(0)
    architecture = next(a for a in ZOO if a.name == name)
    program = load(randomise(architecture.build()), example_inputs=architecture.inputs(2))
    samples = Dataset(architecture.inputs(24)) if with_samples else None
    compensation = "calibration" if with_samples else "none"
    spec = CompressionSpec(allocation="uniform", compensation=compensation, joint_steps=10)
    smaller = compress(program, spec, samples).program
    assert smaller.parameter_count < 0.6 * program.parameter_count
    for batch in (1, 5):
        inputs = architecture.inputs(batch)
        for found, original in zip(smaller.outputs(*inputs), program.outputs(*inputs), strict=True):
            assert found.shape == original.shape
            assert bool(torch.isfinite(found).all())


class RootMeanSquare(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm, self.head = nn.Linear(5, 12), nn.RMSNorm(12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.embed(x)))


def test_channels_under_an_rms_norm_go_with_a_warning() -> None:
    program = load(RootMeanSquare().eval(), input_shapes=[(1, 5)])
    report = compress(program, CompressionSpec(sparsity=0.5, allocation="uniform")).report
    assert [(g.name, g.kept) for g in report.groups] == [("embed.weight", 6)]
    assert report.groups[0].warnings
