"""Half precision and bfloat16 come out as they went in, and are computed in float32."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import intrafusion
from intrafusion import Compression, CompressionSpec, Program, load, resize_
from intrafusion.calibration import Dataset
from intrafusion.program.precision import narrowed, widened
from tests.networks import INPUT_SHAPE, build, samples

NARROW = [torch.float16, torch.bfloat16]

_READER = """
import sys
from importlib.util import find_spec
from pathlib import Path

sys.path = [p for p in sys.path if not (Path(p or ".") / "intrafusion").is_dir()]
assert find_spec("intrafusion") is None
import torch

x = torch.load("samples.tensor", weights_only=True)
networks = [torch.jit.load("net.pt"), torch.export.load("net.pt2").module()]
torch.save([[network(x[:batch]) for batch in (1, 7)] for network in networks], "results.tensor")
"""


def read(network: nn.Module, dtype: torch.dtype) -> Program:
    return load(network.to(dtype), example_inputs=samples(4).to(dtype))


def compressed(program: Program, dtype: torch.dtype, calibrated: bool) -> Compression:
    calibration = Dataset((samples(64).to(dtype),)) if calibrated else None
    return intrafusion.compress(program, CompressionSpec(), calibration, device="cpu")


@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("dtype", NARROW)
def test_result_is_that_of_float32_rounded_once(dtype: torch.dtype, calibrated: bool) -> None:
    # Rounded samples too, so that both see the same numbers.
    rounded = build("vgg").to(dtype).float()
    exact = load(rounded, example_inputs=samples(4).to(dtype).float())
    calibration = Dataset((samples(64).to(dtype).float(),)) if calibrated else None
    expected = intrafusion.compress(exact, CompressionSpec(), calibration, device="cpu").program
    found = compressed(read(build("vgg"), dtype), dtype, calibrated).program
    assert found.example_inputs[0].dtype == dtype
    assert found.tensors.keys() == expected.tensors.keys()
    for name, tensor in expected.tensors.items():
        own = tensor.to(dtype) if tensor.is_floating_point() else tensor
        torch.testing.assert_close(found.tensors[name], own, rtol=0, atol=0)


@pytest.mark.parametrize("form", ["module", "traced"])
@pytest.mark.parametrize("dtype", NARROW)
def test_files_are_as_narrow_as_what_came_in(tmp_path: Path, dtype: torch.dtype, form: str) -> None:
    network = build("vgg").to(dtype)
    script = network if form == "module" else torch.jit.trace(network, samples(2).to(dtype))
    program = load(
        script, input_shapes=[(1, *INPUT_SHAPE)], input_dtypes=[str(dtype).split(".")[1]]
    )
    result = compressed(program, dtype, calibrated=False)
    for ending in ("pt", "pt2", "safetensors"):
        result.program.save(tmp_path / f"net.{ending}")
    state = load_file(tmp_path / "net.safetensors")
    assert {t.dtype for t in state.values() if t.is_floating_point()} == {dtype}
    script_state = torch.jit.load(tmp_path / "net.pt").state_dict()
    assert {n: t.dtype for n, t in script_state.items()} == {n: t.dtype for n, t in state.items()}
    x = samples(7).to(dtype)
    torch.save(x, tmp_path / "samples.tensor")
    subprocess.run([sys.executable, "-c", _READER], check=True, cwd=tmp_path, timeout=120)
    results = torch.load(tmp_path / "results.tensor", weights_only=True)
    for outputs in results:
        for batch, output in zip((1, 7), outputs, strict=True):
            torch.testing.assert_close(output, result.program(x[:batch]), rtol=0.05, atol=0.05)
    module = resize_(build("vgg", seed=5).to(dtype), tmp_path / "net.safetensors")
    torch.testing.assert_close(module(x), result.program(x), rtol=0.05, atol=0.05)


def test_half_precision_onnx_runs(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    program = compressed(read(build("vgg"), torch.float16), torch.float16, False).program
    session = onnxruntime.InferenceSession(str(program.save(tmp_path / "net.onnx")))
    x = samples(3).half()
    (output,) = session.run(None, {"x": x.numpy()})
    torch.testing.assert_close(torch.from_numpy(output), program(x), rtol=0.05, atol=0.05)


class Mixed(nn.Module):
    """Half precision around a norm in float32, as language models have it."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.up = nn.Linear(8, 16).to(dtype)
        self.norm = nn.LayerNorm(16)
        self.down = nn.Linear(16, 8, bias=False).to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        y = self.up(x.to(self.dtype)).relu()
        y = self.norm(y.float()).to(self.dtype)
        y = y + torch.zeros(1, dtype=self.dtype)
        return self.down(y).float()


@pytest.mark.parametrize("dtype", NARROW)
def test_casts_come_back_where_they_were(tmp_path: Path, dtype: torch.dtype) -> None:
    program = load(Mixed(dtype).eval(), input_shapes=[(1, 8)])
    broad = widened(program)
    assert {t.dtype for t in broad.tensors.values()} == {torch.float32}
    assert str(dtype) not in str(broad.graph)
    x = torch.randn(5, 8)
    torch.testing.assert_close(broad(x), program(x), rtol=0.05, atol=0.05)
    again = narrowed(broad, program)
    assert str(again.graph) == str(program.graph)
    assert {n: t.dtype for n, t in again.tensors.items()} == {
        n: t.dtype for n, t in program.tensors.items()
    }
    torch.testing.assert_close(again(x), program(x), rtol=0, atol=0)

    small = intrafusion.compress(program, CompressionSpec(), device="cpu").program
    assert small.tensors["down.weight"].shape == (8, 8)
    assert {n: t.dtype for n, t in small.tensors.items()} == {
        n: t.dtype for n, t in program.tensors.items()
    }
    script = torch.jit.load(small.save(tmp_path / "net.pt"))
    torch.testing.assert_close(script(x), small(x), rtol=0.05, atol=0.05)


def test_wide_programs_pass_as_they_are() -> None:
    program = load(build("vgg"), input_shapes=[(1, *INPUT_SHAPE)])
    assert widened(program) is program
    smaller = replace(program)
    assert narrowed(smaller, program) is smaller


def test_double_precision_stays(tmp_path: Path) -> None:
    program = read(build("vgg"), torch.float64)
    spec = CompressionSpec(compensation="none")
    small = intrafusion.compress(program, spec, device="cpu").program
    state = load_file(small.save(tmp_path / "net.safetensors"))
    assert {t.dtype for t in state.values() if t.is_floating_point()} == {torch.float64}
