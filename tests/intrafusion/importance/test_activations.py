"""Activations are seen where weights read them, unit by unit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from intrafusion.channels import analyse
from intrafusion.importance.activation import mean_absolute
from intrafusion.importance.activations import observe, readings
from intrafusion.importance.context import criterion_named
from tests.intrafusion.importance.networks import context_of, two_layers
from tests.intrafusion.programs import example, program_of
from tests.networks import NETWORKS


def keep(activations: Tensor) -> Tensor:
    return activations


def test_units_of_a_flattened_map_are_gathered_from_all_their_places() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))
    context = context_of(network, (1, 3, 8, 8), torch.randn(6, 3, 8, 8))
    (group,) = context.analysis.groups
    ((reading, seen),) = context.observe(keep)[group].items()
    assert [str(binding) for binding in reading.readers] == ["3.weight[1]"]
    with torch.no_grad():
        expected = network[:2](context.samples[0])
    torch.testing.assert_close(seen, expected.movedim(1, 0).flatten(2).movedim(2, 1))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_group_is_seen_and_by_every_weight_that_reads_it(name: str) -> None:
    analysis = analyse(program_of(name))
    where = readings(analysis)
    seen = observe(analysis, (example(3),), keep)
    for group in analysis.groups:
        readers = [binding for reading in where[group] for binding in reading.readers]
        assert sorted(map(str, readers)) == sorted(
            str(b) for b in group.bindings if b.role.value == "consumer"
        )
        assert all(len(values) == len(group) for values in seen[group].values())


def test_units_that_no_weight_reads_are_seen_where_they_stand_last() -> None:
    class Scores(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.key = nn.Linear(5, 6), nn.Linear(5, 6)

        def forward(self, x: Tensor) -> Tensor:
            return self.query(x).exp() @ self.key(x).transpose(1, 2)

    network = Scores().eval()
    context = context_of(network, (1, 7, 5), torch.randn(4, 7, 5))
    (group,) = context.analysis.groups
    ((reading, seen),) = context.observe(keep)[group].items()
    assert reading.readers == ()
    with torch.no_grad():
        keys = network.key(context.samples[0])
    torch.testing.assert_close(seen, keys.movedim(2, 0).unsqueeze(1))


def test_activations_of_a_recurrent_layer_are_its_hidden_states() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.head = nn.LSTM(5, 6, batch_first=True), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.lstm(x)[0][:, -1])

    network = Recurrent().eval()
    context = context_of(network, (1, 7, 5), torch.randn(4, 7, 5))
    (group,) = context.analysis.groups
    scores = criterion_named("activation")(group, context)
    with torch.no_grad():
        last = network.lstm(context.samples[0])[0][:, -1].abs().mean(0)
    torch.testing.assert_close(scores, last / last.mean())


def test_mean_absolute_activation_by_hand() -> None:
    network = two_layers()
    context = context_of(network, (1, 3, 8, 8), torch.randn(6, 3, 8, 8))
    (group,) = context.analysis.groups
    with torch.no_grad():
        active = network[:2](context.samples[0]).mean((0, 2, 3))
    torch.testing.assert_close(
        criterion_named("activation")(group, context), active / active.mean()
    )


def test_samples_in_parts_give_what_all_together_give() -> None:
    analysis = analyse(program_of("resnet"))
    together, in_parts = (
        observe(analysis, (example(5),), mean_absolute, memory) for memory in (None, 1)
    )
    for group, seen in together.items():
        for whole, parts in zip(seen.values(), in_parts[group].values(), strict=True):
            torch.testing.assert_close(parts, whole)
