"""What a program does by itself."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
import torch
from torch import Tensor, nn

from intrafusion import load
from intrafusion.program.program import module_tree
from tests.intrafusion.program.forms import program_of
from tests.networks import build, samples


class MakesTensors(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x) + torch.arange(3, device=x.device)


def test_to_takes_new_tensors_along() -> None:
    program = load(MakesTensors(), input_shapes=[(1, 3)])
    moved = program.to("meta")
    assert moved.device.type == "meta"
    assert moved(*moved.example_inputs).device.type == "meta"
    assert program.device.type == "cpu"
    assert program(*program.example_inputs).device.type == "cpu"


def test_to_the_same_device_keeps_the_graph() -> None:
    program = program_of("vgg")
    assert program.to("cpu").graph is program.graph


def test_outputs_are_flat() -> None:
    program = program_of("resnet")
    (found,) = program.outputs(samples(3))
    assert torch.equal(found, program(samples(3)))
    assert not found.requires_grad


def test_parameters_are_counted_without_buffers() -> None:
    expected = sum(p.numel() for p in build("mobilenet").parameters())
    assert program_of("mobilenet").parameter_count == expected


def test_notes_are_added_to_a_new_program() -> None:
    program = program_of("vgg")
    noted = program.with_notes("one", "two")
    assert noted.notes == (*program.notes, "one", "two")
    with pytest.raises(FrozenInstanceError):
        noted.notes = ()  # type: ignore[misc]


def test_module_tree_holds_what_it_is_given() -> None:
    tensors = {"a.0.weight": torch.ones(2), "a.0.mean": torch.zeros(2), "top": torch.ones(())}
    root = module_tree(tensors, frozenset({"a.0.weight"}))
    assert dict(root.state_dict()).keys() == tensors.keys()
    assert [name for name, _ in root.named_parameters()] == ["a.0.weight"]
