"""ONNX files, run by onnxruntime."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from benchmarks.architectures import named
from intrafusion import ErrorCode, IntraFusionError, Program, load
from intrafusion.program import emit, emit_onnx
from tests.intrafusion.program.forms import program_of
from tests.intrafusion.program.test_emit_exported import Several
from tests.networks import NETWORKS, build, samples


def _run(path: Path, *inputs: Tensor) -> list[Tensor]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    fed = {name: x.numpy() for name, x in zip(names, inputs, strict=True)}
    return [torch.from_numpy(y) for y in session.run(None, fed)]


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_at_every_batch_size(tmp_path: Path, name: str) -> None:
    path = program_of(name).save(tmp_path / "net.onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["net.onnx"]
    for batch in (1, 7, 64):
        x = samples(batch)
        torch.testing.assert_close(_run(path, x), [build(name)(x)], rtol=1e-4, atol=1e-4)


def test_names_and_metadata(tmp_path: Path) -> None:
    network = Several().eval()
    program = load(network, input_shapes=[(1, 4), (1, 2, 2)])
    path = emit.save(program, tmp_path / "net.onnx", metadata={"made": "here"})
    model = onnx.load(path)
    assert [i.name for i in model.graph.input] == ["x", "y"]
    sizes = model.graph.input[1].type.tensor_type.shape.dim
    assert [size.dim_param or size.dim_value for size in sizes] == ["batch", 2, 2]
    assert [o.name for o in model.graph.output] == ["logits", "rest_0", "rest_1_0", "rest_1_1"]
    assert {i.name for i in model.graph.initializer} >= {"fc.weight", "fc.bias"}
    assert [(p.key, p.value) for p in model.metadata_props] == [("made", "here")]
    inputs = torch.randn(3, 4), torch.randn(3, 2, 2)
    logits, first, _, last = _run(path, *inputs)
    expected = network(*inputs)
    torch.testing.assert_close(logits, expected["logits"])
    torch.testing.assert_close(first, inputs[1] + 1)
    torch.testing.assert_close(last, inputs[0])


def test_attention_under_a_mask_that_the_network_makes(tmp_path: Path) -> None:
    architecture = named("t5")
    inputs = architecture.inputs(2)
    torch.manual_seed(0)
    program = load(architecture.build().eval(), example_inputs=inputs)
    path = program.save(tmp_path / "net.onnx")
    torch.testing.assert_close(_run(path, *inputs), [program(*inputs)], rtol=1e-4, atol=1e-4)


def test_input_that_nothing_reads(tmp_path: Path) -> None:
    class Deaf(nn.Module):
        def forward(self, x: Tensor, unused: Tensor) -> Tensor:
            return x + 1

    program = load(Deaf(), input_shapes=[(1, 4), (1, 2)])
    path = program.save(tmp_path / "net.onnx")
    x = torch.randn(3, 4)
    torch.testing.assert_close(_run(path, x, torch.zeros(3, 2)), [x + 1])


def _refusal(program: Program, path: Path) -> str:
    with pytest.raises(IntraFusionError) as caught:
        program.save(path)
    assert caught.value.code is ErrorCode.FORMAT_NOT_POSSIBLE
    assert list(path.parent.iterdir()) == []
    return caught.value.message


def test_operator_that_onnx_lacks(tmp_path: Path) -> None:
    class Airy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.special.airy_ai(x)

    program = load(Airy(), input_shapes=[(1, 3)])
    assert "operator aten.special_airy_ai" in _refusal(program, tmp_path / "net.onnx")


def test_type_that_an_operator_does_not_take() -> None:
    kind = onnx.TensorProto.BFLOAT16
    node = onnx.helper.make_node("Relu", ["x"], ["z"])
    pool = onnx.helper.make_node("AveragePool", ["z"], ["y"], kernel_shape=[1])
    values = [onnx.helper.make_tensor_value_info(name, kind, [1, 1, 2]) for name in "xy"]
    graph = onnx.helper.make_graph([node, pool], "net", values[:1], values[1:])
    opset = onnx.helper.make_opsetid("", 18)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)
    with pytest.raises(Exception, match="bfloat16") as caught:
        onnxruntime.InferenceSession(model.SerializeToString())
    assert emit_onnx._refusal(caught.value) == (
        "The ONNX operator AveragePool does not take bfloat16."
    )


def test_bfloat16_is_written_in_float32_and_says_so(tmp_path: Path) -> None:
    network = build("vgg").bfloat16()
    program = load(network, example_inputs=samples(2).bfloat16())
    with pytest.warns(UserWarning, match="computes in bfloat16"):
        path = program.save(tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(path)
    assert "bfloat16" in session.get_modelmeta().custom_metadata_map["precision"]
    x = samples(5)
    (found,) = session.run(None, {"x": x.numpy()})
    expected = network.float()(x)
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_package_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    message = _refusal(program_of("vgg"), tmp_path / "net.onnx")
    assert message == f"ONNX needs the package {package}, which is not installed."


def test_weights_too_large_for_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emit_onnx, "_LARGEST", 1000)
    assert "an ONNX file holds 1,000" in _refusal(program_of("vgg"), tmp_path / "net.onnx")


def test_without_onnxruntime_the_form_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    path = program_of("vgg").save(tmp_path / "net.onnx")
    monkeypatch.undo()
    x = samples(3)
    torch.testing.assert_close(_run(path, x), [build("vgg")(x)], rtol=1e-4, atol=1e-4)


def test_file_that_computes_something_else_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = emit_onnx.to_exported

    def wrong(program: Program, format: str) -> torch.export.ExportedProgram:  # noqa: A002
        tensors = {**program.tensors, "classifier.3.bias": torch.ones(10)}
        return right(replace(program, tensors=tensors), format)

    monkeypatch.setattr(emit_onnx, "to_exported", wrong)
    with pytest.raises(IntraFusionError, match="other outputs in onnxruntime") as caught:
        load(build("vgg"), example_inputs=samples(2)).save(tmp_path / "net.onnx")
    assert caught.value.code is ErrorCode.COMPRESSION_FAILED
    assert list(tmp_path.iterdir()) == []
