"""Groups are what they should be, and nothing is frozen without a reason."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from intrafusion import load
from intrafusion.channels import Role, analyse
from tests.intrafusion.programs import FORMS, program_of
from tests.networks import NETWORKS


def sizes(network: nn.Module, *shape: int) -> dict[str, int]:
    program = load(network.eval(), input_shapes=[shape])
    return {group.name: len(group) for group in analyse(program).groups}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NETWORKS)
def test_nearly_all_parameters_lie_in_prunable_groups(name: str, form: str) -> None:
    assert analyse(program_of(name, form)).coverage >= 0.97


@pytest.mark.parametrize("name", NETWORKS)
def test_every_form_of_a_network_has_the_same_groups(name: str) -> None:
    found = [
        [(group.name, [str(b) for b in group.bindings]) for group in analyse(program).groups]
        for program in (program_of(name, form) for form in FORMS)
    ]
    assert found[0] == found[1] == found[2]


def test_units_run_from_producer_over_norm_to_consumers() -> None:
    first = analyse(program_of("vgg")).groups[0]
    roles = {str(b): b.role for b in first.bindings}
    assert roles == {
        "features.0.weight[0]": Role.PRODUCER,
        "features.1.weight[0]": Role.CARRIER,
        "features.1.bias[0]": Role.CARRIER,
        "features.1.running_mean[0]": Role.CARRIER,
        "features.1.running_var[0]": Role.CARRIER,
        "features.4.weight[1]": Role.CONSUMER,
    }


def test_a_flattened_unit_stands_in_the_classifier_once_per_position() -> None:
    last = analyse(program_of("vgg")).groups[2]
    consumer = next(last.of_role(Role.CONSUMER))
    assert str(consumer) == "classifier.0.weight[1]"
    assert consumer.index.tolist() == [[4 * c, 4 * c + 1, 4 * c + 2, 4 * c + 3] for c in range(16)]


def test_a_residual_sum_ties_its_producers() -> None:
    groups = analyse(program_of("resnet")).groups
    stream = next(g for g in groups if g.name == "stem.0.weight")
    producers = {b.tensor for b in stream.of_role(Role.PRODUCER)}
    assert producers == {"stem.0.weight", "stages.0.conv2.weight"}


def test_a_depthwise_convolution_carries_its_channels() -> None:
    groups = analyse(program_of("mobilenet")).groups
    hidden = next(g for g in groups if g.name == "features.3.conv.0.weight")
    roles = {str(b): b.role for b in hidden.bindings}
    assert roles["features.3.conv.3.weight[0]"] is Role.CARRIER
    assert roles["features.3.conv.6.weight[1]"] is Role.CONSUMER


def test_concatenated_layers_stay_groups_of_their_own() -> None:
    groups = {g.name: g for g in analyse(program_of("concat")).groups}
    assert {name: len(g) for name, g in groups.items()} == {
        "stem.weight": 8,
        "conv1.weight": 6,
        "conv2.weight": 6,
    }
    reads = next(b for b in groups["conv1.weight"].bindings if b.tensor == "fc.weight")
    assert reads.index.reshape(-1).tolist() == list(range(8, 14))


def test_outputs_are_frozen_and_say_so() -> None:
    frozen = {(f.tensor, f.dim): f for f in analyse(program_of("vgg")).frozen}
    output = frozen["classifier.3.weight", 0]
    assert output.channels == 10
    assert "output" in output.reason
    assert "cannot be removed" in frozen["features.0.weight", 1].reason


class Sorted(nn.Module):
    """Has an operation in the middle that no rule can see through."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 8)
        self.second = nn.Linear(8, 6)
        self.third = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sort(self.first(x), dim=1).values
        return self.third(torch.relu(self.second(x)))


def test_an_unknown_operation_freezes_what_it_touches_and_nothing_else() -> None:
    program = load(Sorted().eval(), input_shapes=[(1, 5)])
    analysis = analyse(program)
    assert [group.name for group in analysis.groups] == ["second.weight"]
    frozen = {(f.tensor, f.dim): f for f in analysis.frozen}
    assert frozen["first.weight", 0].op == "sort"
    assert "no rule" in frozen["first.weight", 0].reason


class Gated(nn.Module):
    """A squeeze-and-excite gate: the channels it makes meet those it gates."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.down = nn.Conv2d(8, 4, 1)
        self.up = nn.Conv2d(4, 8, 1)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        gate = torch.sigmoid(self.up(torch.relu(self.down(x.mean((2, 3), keepdim=True)))))
        return self.head((x * gate).mean((2, 3)))


def test_a_gate_and_what_it_gates_are_one_group() -> None:
    assert sizes(Gated(), 1, 3, 8, 8) == {"conv.weight": 8, "down.weight": 4}


class SplitAndMerge(nn.Module):
    """Halves of one convolution's channels go different ways."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.left = nn.Conv2d(4, 6, 3, padding=1)
        self.head = nn.Linear(10, 2)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.conv(x).chunk(2, dim=1)
        return self.head(torch.cat([self.left(left), right], 1).mean((2, 3)))


def test_pieces_of_a_split_are_groups_of_their_own() -> None:
    assert sizes(SplitAndMerge(), 1, 3, 8, 8) == {
        "conv.weight": 4,
        "conv.weight#2": 4,
        "left.weight": 6,
    }


class Grouped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.grouped = nn.Conv2d(8, 12, 3, padding=1, groups=2)
        self.head = nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.grouped(torch.relu(self.conv(x)))).mean((2, 3)))


def test_every_group_of_a_grouped_convolution_keeps_the_same_channels() -> None:
    assert sizes(Grouped(), 1, 3, 8, 8) == {"conv.weight": 4, "grouped.weight": 6}


def test_from_the_output_a_stream_comes_where_it_is_written_last() -> None:
    groups = analyse(program_of("resnet")).from_output
    assert [[str(b) for b in group.of_role(Role.PRODUCER)][-1] for group in groups] == [
        "stages.2.conv2.weight[0]",
        "stages.2.conv1.weight[0]",
        "stages.1.conv1.weight[0]",
        "stages.0.conv2.weight[0]",
        "stages.0.conv1.weight[0]",
    ]
