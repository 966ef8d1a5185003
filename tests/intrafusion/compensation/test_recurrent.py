"""Recurrent layers are fitted so that their gates come to what they are in the original."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from intrafusion import load
from intrafusion.channels import Analysis, Group, Removal, analyse, remove
from intrafusion.compensation import lockstep, refit
from intrafusion.fusion import FusionMap, fuse, selection_map
from intrafusion.program import Program

KINDS = ["lstm", "gru", "rnn_tanh", "rnn_relu", "deep", "bare", "steps_first", "learned_start"]


def layer(kind: str, inputs: int) -> nn.RNNBase:
    match kind:
        case "lstm":
            return nn.LSTM(inputs, 16, batch_first=True)
        case "gru":
            return nn.GRU(inputs, 16, batch_first=True)
        case "deep":
            return nn.GRU(inputs, 10, num_layers=2, bidirectional=True, batch_first=True)
        case "bare":
            return nn.LSTM(inputs, 16, bias=False, batch_first=True)
        case "steps_first":
            return nn.LSTM(inputs, 10, num_layers=2, bidirectional=True)
        case "learned_start":
            return nn.GRU(inputs, 16, batch_first=True)
    return nn.RNN(inputs, 16, nonlinearity=kind.removeprefix("rnn_"), batch_first=True)


class Reader(nn.Module):
    """Eight features of four numbers, a recurrent layer that reads them, a linear layer."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.features = nn.Linear(4, 8, bias=False)
        self.recurrent = layer(kind, 8)
        self.start = nn.Parameter(torch.randn(1, 1, 16)) if kind == "learned_start" else None
        width = self.recurrent.hidden_size * (2 if self.recurrent.bidirectional else 1)
        self.head = nn.Linear(width, 5)
        nn.init.normal_(self.features.weight)
        for name, tensor in self.recurrent.named_parameters():
            # Larger than at birth, so that gates open and shut, and not so large as to be chaos.
            nn.init.normal_(tensor, std=0.3 if "hh" in name else 0.6)
            # Every other unit nearly repeats the one before it.
            by_unit = tensor.data.reshape(-1, self.recurrent.hidden_size, *tensor.shape[1:])
            by_unit[:, 1::2] = by_unit[:, ::2] + 0.1 * by_unit[:, 1::2]

    def forward(self, x: Tensor) -> Tensor:
        read = self.features(x)
        if not self.recurrent.batch_first:
            states = self.recurrent(read.transpose(0, 1))[0].transpose(0, 1)
        elif self.start is not None:
            states = self.recurrent(read, self.start.expand(1, len(x), 16).contiguous())[0]
        else:
            states = self.recurrent(read)[0]
        return self.head(states)


def sequences(count: int, seed: int) -> Tensor:
    return torch.randn(count, 12, 4, generator=torch.Generator().manual_seed(seed))


@cache
def analysis_of(kind: str) -> Analysis:
    torch.manual_seed(0)
    return analyse(load(Reader(kind).eval(), example_inputs=(sequences(2, 0),)))


def halved(kind: str, only: str = "") -> tuple[Analysis, dict[Group, FusionMap], Removal]:
    """Every second unit dropped, of all groups or of the one named."""
    analysis = analysis_of(kind)
    maps = {
        group: selection_map(torch.arange(0, len(group), 2), len(group))
        for group in analysis.groups
        if group.name.startswith(only)
    }
    kept = {group: mapping.kept for group, mapping in maps.items()}
    return analysis, maps, remove(analysis, kept, fuse(analysis, maps))


def distance(a: Program, b: Program) -> float:
    x = sequences(100, seed=9)
    return float((a(x) - b(x)).norm() / b(x).norm())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "learned_start"])
def test_states_come_nearer_when_units_are_gone(kind: str) -> None:
    analysis, maps, removal = halved(kind, only="recurrent")
    original = analysis.program
    before = {name: tensor.clone() for name, tensor in original.tensors.items()}
    fitted = refit(analysis, removal, maps, (sequences(256, seed=3),))
    head = {n: t for n, t in fitted.tensors.items() if n.startswith("head")}
    head_alone = replace(removal.program, tensors={**removal.program.tensors, **head})
    assert fitted.layers == 2
    corrected = replace(removal.program, tensors=fitted.tensors)
    assert distance(corrected, original) < 0.7 * distance(head_alone, original)
    assert all(torch.equal(before[name], tensor) for name, tensor in original.tensors.items())


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn_tanh", "deep", "bare", "steps_first"])
def test_inputs_that_others_rebuild_are_not_missed(kind: str) -> None:
    # Eight features of four numbers: any four of them hold all that there is.
    analysis, maps, removal = halved(kind, only="features")
    fitted = refit(analysis, removal, maps, (sequences(256, seed=3),))
    assert len(maps) == 1
    assert distance(removal.program, analysis.program) > 0.2
    corrected = replace(removal.program, tensors=fitted.tensors)
    assert distance(corrected, analysis.program) < 0.06


@pytest.mark.parametrize("kind", KINDS)
def test_an_infinite_ridge_leaves_plain_fusion(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lockstep, "RIDGE", 1e12)
    analysis, maps, removal = halved(kind)
    fitted = refit(analysis, removal, maps, (sequences(64, seed=3),))
    for name, tensor in removal.program.tensors.items():
        if tensor.dim() > 1:
            torch.testing.assert_close(fitted.tensors[name], tensor, rtol=1e-4, atol=1e-5)


def test_a_start_of_its_own_is_what_the_first_step_is_fitted_on() -> None:
    # The state is fixed; what feeds the layer has changed, so the layer is fitted.
    analysis, maps, removal = halved("learned_start")
    tensors = dict(removal.program.tensors)
    assert not maps
    tensors["features.weight"] = tensors["features.weight"] * 2
    removal = replace(removal, program=replace(removal.program, tensors=tensors))
    fitted = refit(analysis, removal, maps, (sequences(256, seed=3),))
    assert distance(removal.program, analysis.program) > 0.2
    corrected = replace(removal.program, tensors=fitted.tensors)
    assert distance(corrected, analysis.program) < 0.06
