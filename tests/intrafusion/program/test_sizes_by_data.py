"""Networks in which what tensors hold decides how large others are."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from benchmarks.zoo.reference import masked_outputs, random_half
from intrafusion import ErrorCode, IntraFusionError, load
from intrafusion.channels import analyse, remove
from tests.intrafusion.programs import relative_error


class Routed(nn.Module):
    """Some words of a text go through a layer of their own, as in a mixture of experts."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.gate = nn.Linear(5, 12), nn.Linear(12, 1)
        self.inward, self.outward = nn.Linear(12, 16), nn.Linear(16, 12)
        self.last = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).relu()
        chosen = self.gate(x).squeeze(-1) > 0
        routed = self.outward(self.inward(x[chosen]).relu())
        x = x.clone()
        x[chosen] = routed
        return self.last(x)


class Found(nn.Module):
    """A detector that keeps the boxes whose score is high."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.boxes = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        found = self.boxes(self.features(x).relu()).flatten(2).transpose(1, 2)
        return found[..., :4][found[..., 4] > 0]


@pytest.mark.parametrize("scripted", [False, True])
def test_entries_chosen_by_a_mask(scripted: bool) -> None:
    torch.manual_seed(0)
    network = Routed().eval()
    program = load(torch.jit.script(network) if scripted else network, input_shapes=[(1, 7, 5)])
    analysis = analyse(program)
    groups = {group.name: len(group) for group in analysis.groups}
    assert groups["inward.weight"] == 16
    kept = random_half(analysis)
    smaller = remove(analysis, kept).program
    for batch in (1, 2, 5):
        x = torch.randn(batch, 7, 5)
        assert relative_error(program(x), network(x)) <= 1e-5
        (wanted,) = masked_outputs(analysis, kept, (x,))
        assert relative_error(smaller(x), wanted) <= 1e-5


@pytest.mark.parametrize("scripted", [False, True])
def test_outputs_of_no_certain_size_are_an_error(scripted: bool) -> None:
    network = Found().eval()
    with pytest.raises(IntraFusionError) as caught:
        load(torch.jit.script(network) if scripted else network, input_shapes=[(1, 3, 8, 8)])
    assert caught.value.code is ErrorCode.CAPTURE_FAILED
    assert "How large the network's output 0 is depends on what" in caught.value.message
    assert "choose among them" in caught.value.hint
