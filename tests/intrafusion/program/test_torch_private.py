"""Each private function of torch still does what it is used for."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import onnx
import pytest
import torch
from torch import Tensor, nn

from intrafusion.program import torch_private

aten = torch.ops.aten


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)
        self.register_buffer("scale", torch.ones(2))

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        return self.fc(image * mask) * self.scale


@pytest.fixture
def script() -> torch.jit.ScriptModule:
    return torch.jit.script(Net().eval())


class Pair(NamedTuple):
    a: int
    b: int


def test_flatten() -> None:
    leaves, spec = torch_private.flatten({"a": (1, [2]), "b": 3})
    assert leaves == [1, 2, 3]
    assert [child.num_leaves for child in torch_private.children(spec)] == [2, 1]


def test_unflatten() -> None:
    nested = {"a": (1, [2]), "b": Pair(3, 4)}
    assert torch_private.unflatten(*torch_private.flatten(nested)) == nested


def test_is_named_tuple() -> None:
    assert torch_private.is_named_tuple(torch_private.flatten(Pair(1, 2))[1])
    assert not torch_private.is_named_tuple(torch_private.flatten((1, 2))[1])


def test_out_spec() -> None:
    exported = torch.export.export(Net(), (torch.randn(2, 3), torch.ones(2, 3)))
    assert torch_private.out_spec(exported).is_leaf()


def test_load_script(script: torch.jit.ScriptModule, tmp_path: Path) -> None:
    script.save(tmp_path / "net.pt")
    assert torch_private.load_script(tmp_path / "net.pt").state_dict().keys() == (
        script.state_dict().keys()
    )


class Padded(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pad(x, (0, (7 - x.shape[1] % 7) % 7))


def test_sizes_in_a_trace_are_numbers(tmp_path: Path) -> None:
    torch.jit.trace(Padded(), torch.randn(2, 10)).save(tmp_path / "net.pt")
    script = torch_private.load_script(tmp_path / "net.pt")
    inputs = (torch.randn(2, 10),)
    torch.testing.assert_close(script(*inputs), Padded()(*inputs))
    exported = torch_private.export_script(script, inputs)
    assert exported.module()(*inputs).shape == (2, 14)


def test_copy_script(script: torch.jit.ScriptModule) -> None:
    copy = torch_private.copy_script(script)
    with torch.no_grad():
        copy.fc.weight.zero_()
    assert script.fc.weight.abs().sum() > 0


def test_is_frozen(script: torch.jit.ScriptModule) -> None:
    assert not torch_private.is_frozen(script)
    assert torch_private.is_frozen(torch.jit.freeze(script))


def test_arguments(script: torch.jit.ScriptModule) -> None:
    assert torch_private.arguments(script) == [
        ("image", "Tensor", False),
        ("mask", "Tensor", False),
    ]


def test_export_script(script: torch.jit.ScriptModule) -> None:
    copy = torch_private.copy_script(script)
    inputs = (torch.randn(2, 3), torch.ones(2, 3))
    signature = torch_private.export_script(copy, inputs).graph_signature
    prefix = torch_private.SCRIPT_PREFIX
    assert list(signature.parameters) == [f"{prefix}fc.weight", f"{prefix}fc.bias"]
    assert list(signature.buffers) == [f"{prefix}scale"]


def test_overloads() -> None:
    names = [torch_private.overload_name(o) for o in torch_private.overloads("relu", "no_such_op")]
    assert names == ["aten::relu"]
    assert aten.add.Tensor in torch_private.overloads("add")
    assert aten.add.out not in torch_private.overloads("add")


def test_written_and_viewed_arguments() -> None:
    assert torch_private.written_arguments(aten.add_.Tensor) == [0]
    assert torch_private.written_arguments(aten.add.Tensor) == []
    assert torch_private.viewed_arguments(aten.view.default) == [0]
    assert torch_private.viewed_arguments(aten.relu.default) == []


def test_is_composite() -> None:
    assert torch_private.is_composite(aten.flatten.using_ints)
    assert not torch_private.is_composite(aten.relu.default)


def test_define_and_operations() -> None:
    root: nn.Module = type("Root", (nn.Module,), {})()
    root.register_buffer("zero", torch.zeros(1))
    script = torch_private.define(
        root,
        "def forward(self, x):\n"
        "    y = torch.ops.aten.sum(x, torch.jit.annotate(List[int], []), True)\n"
        "    return torch.ops.aten.index(y + self.zero,"
        " torch.jit.annotate(List[Optional[Tensor]], [None, torch.ops.aten.arange(1)]))\n",
    )
    assert torch_private.operations(script) == [
        "aten::sum.dim_IntList",
        "aten::add.Tensor",
        "aten::arange",
        "aten::index.Tensor",
    ]
    assert script(torch.ones(2, 2)).item() == 4


def test_overload_name() -> None:
    assert torch_private.overload_name(aten.add.Tensor) == "aten::add.Tensor"
    assert torch_private.overload_name(aten.relu.default) == "aten::relu"


def test_save_script(script: torch.jit.ScriptModule) -> None:
    file = BytesIO()
    torch_private.save_script(script, file, {"note": "kept"})
    file.seek(0)
    found = {"note": ""}
    torch.jit.load(file, _extra_files=found)
    assert found["note"] in ("kept", b"kept")


@pytest.mark.parametrize("alias", ["other", "deep.other", "fc.other"])
def test_tie(alias: str) -> None:
    net = Net()
    torch_private.tie(net, alias, "fc.weight")
    torch_private.tie(net, f"{alias}_buffer", "scale")
    assert net.get_parameter(alias) is net.fc.weight
    assert net.get_buffer(f"{alias}_buffer") is net.scale


def _doubling() -> torch.export.ExportedProgram:
    class Double(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2

    shapes = ({0: torch.export.Dim("batch")},)
    return torch.export.export(Double(), (torch.randn(2, 3),), dynamic_shapes=shapes)


def test_exported_program_goes_through_a_file_without_an_ending(tmp_path: Path) -> None:
    with (tmp_path / "net.part").open("wb") as file:
        torch_private.save_exported(_doubling(), file, {"note": "kept"})
    with (tmp_path / "net.part").open("rb") as file:
        again = torch_private.load_exported(file)
    x = torch.randn(5, 3)
    torch.testing.assert_close(again.module()(x), x * 2)


def test_onnx_has_the_given_names_and_a_named_batch() -> None:
    content = torch_private.to_onnx(_doubling(), ["given"], ["made"], {"key": "value"})
    model = onnx.load_from_string(content)
    (given,), (made,) = model.graph.input, model.graph.output
    assert (given.name, made.name) == ("given", "made")
    for value in (given, made):
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert [(p.key, p.value) for p in model.metadata_props] == [("key", "value")]


def test_an_error_about_data_is_told_from_others() -> None:
    assert torch_private.is_about_data(RuntimeError("Could not guard on data-dependent expression"))
    assert not torch_private.is_about_data(RuntimeError("mat1 and mat2 cannot be multiplied"))
