"""`.pt2` files; that a process without this package reads them is shown in `test_emit`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from intrafusion import ErrorCode, IntraFusionError, load
from intrafusion.program import emit
from intrafusion.program.emit_exported import METADATA_FILE
from tests.intrafusion.program.forms import SHAPES, program_of
from tests.networks import build, samples


def test_saved_file_comes_back_in_without_a_shape(tmp_path: Path) -> None:
    first = program_of("resnet", "traced")
    second = load(first.save(tmp_path / "net.pt2"))
    assert second.source == "exported"
    assert set(second.tensors) == set(first.tensors)
    torch.testing.assert_close(second(samples(5)), build("resnet")(samples(5)))


class Several(nn.Module):
    """Two inputs, nested outputs, one of which is given twice."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor, y: Tensor) -> dict[str, object]:
        z = self.fc(x)
        return {"logits": z, "rest": [y + 1, (z, x)]}


def test_several_inputs_and_nested_outputs(tmp_path: Path) -> None:
    network = Several().eval()
    program = load(network, input_shapes=[(1, 4), (1, 2, 2)])
    read = torch.export.load(program.save(tmp_path / "net.pt2")).module()
    inputs = torch.randn(7, 4), torch.randn(7, 2, 2)
    torch.testing.assert_close(read(*inputs), network(*inputs))


def test_tied_parameters_have_both_names(tmp_path: Path) -> None:
    from tests.intrafusion.program.test_loading import Tied

    program = load(Tied().eval(), input_shapes=[(1, 4)])
    state = torch.export.load(program.save(tmp_path / "tied.pt2")).state_dict
    assert set(state) == {"embed.weight", "unembed.weight"}
    assert state["embed.weight"].data_ptr() == state["unembed.weight"].data_ptr()


def test_file_holds_nobodys_samples(tmp_path: Path) -> None:
    x = samples(2, seed=7)
    path = load(build("vgg"), example_inputs=x).save(tmp_path / "net.pt2")
    assert x.numpy().tobytes() not in path.read_bytes()
    ((kept,), _) = torch.export.load(path).example_inputs
    assert not kept.any()


def test_metadata_lies_beside_the_graph(tmp_path: Path) -> None:
    emit.save(program_of("vgg"), tmp_path / "net.pt2", metadata={"made": "here"})
    files = {METADATA_FILE: ""}
    torch.export.load(tmp_path / "net.pt2", extra_files=files)
    assert json.loads(files[METADATA_FILE]) == {"made": "here"}


def test_graph_for_one_batch_size(tmp_path: Path) -> None:
    program = load(build("vgg"), input_shapes=SHAPES)
    reshape = next(n for n in program.graph.nodes if "reshape" in str(n.target))
    before = reshape.args
    reshape.args = (reshape.args[0], [2, 64])
    try:
        with pytest.raises(IntraFusionError, match="every batch size") as caught:
            program.save(tmp_path / "net.pt2")
    finally:
        reshape.args = before
    assert caught.value.code is ErrorCode.FORMAT_NOT_POSSIBLE
    assert list(tmp_path.iterdir()) == []
