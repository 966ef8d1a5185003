"""Files that programs are saved as, read where this package is not."""

from __future__ import annotations

import json
import operator
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

import intrafusion
from intrafusion import ErrorCode, IntraFusionError, Program, load
from intrafusion.program import emit, emit_torchscript
from intrafusion.program.emit_torchscript import METADATA_FILE, source_of
from tests.intrafusion.program.forms import NAMED_FORMS, SHAPES, program_of
from tests.networks import NETWORKS, build, samples

aten = torch.ops.aten
BATCHES = (1, 7, 64)

_READER = """
import sys
from importlib.util import find_spec
from pathlib import Path

sys.path = [p for p in sys.path if not (Path(p or ".") / "intrafusion").is_dir()]
assert find_spec("intrafusion") is None and find_spec("tests") is None
import torch

folder = Path(sys.argv[1])
results = {}
for file in sorted(folder.glob("*.pt")):
    script = torch.jit.load(file)
    x = torch.load(folder / "samples.tensor", weights_only=True)
    outputs = [script.eval().to("cpu")(x[:batch]) for batch in (1, 7, 64)]
    results[file.stem] = {
        "outputs": outputs,
        "state": dict(script.state_dict()),
        "parameters": [name for name, _ in script.named_parameters()],
        "trainable": all(p.requires_grad for p in script.parameters()),
    }
for file in sorted(folder.glob("*.pt2")):
    exported = torch.export.load(file)
    module = exported.module()
    results[file.name] = {
        "outputs": [module(x[:batch]) for batch in (1, 7, 64)],
        "state": {**exported.state_dict, **exported.constants},
        "parameters": [name for name, _ in exported.named_parameters()],
        "trainable": all(p.requires_grad for p in exported.parameters()),
    }
torch.save(results, folder / "results.tensor")
"""


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """What a process without this package finds in the files of all networks in all forms."""
    folder = tmp_path_factory.mktemp("files")
    torch.save(samples(64), folder / "samples.tensor")
    for name in NETWORKS:
        for form in NAMED_FORMS:
            program_of(name, form).save(folder / f"{name}-{form}.pt")
        program_of(name).save(folder / f"{name}-exported.pt2")
    subprocess.run(
        [sys.executable, "-c", _READER, str(folder)], check=True, cwd=folder, timeout=240
    )
    results: dict[str, dict[str, object]] = torch.load(folder / "results.tensor", weights_only=True)
    return results


def _file(name: str, form: str) -> str:
    return f"{name}-exported.pt2" if form == "exported" else f"{name}-{form}"


@pytest.mark.parametrize("form", [*NAMED_FORMS, "exported"])
@pytest.mark.parametrize("name", NETWORKS)
class TestElsewhere:
    def test_outputs_at_every_batch_size(
        self, elsewhere: dict[str, dict[str, object]], name: str, form: str
    ) -> None:
        network = build(name)
        expected = [network(samples(64)[:batch]) for batch in BATCHES]
        found = elsewhere[_file(name, form)]["outputs"]
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)

    def test_state_dict_and_parameters_are_the_original_ones(
        self, elsewhere: dict[str, dict[str, object]], name: str, form: str
    ) -> None:
        network = build(name)
        result = elsewhere[_file(name, form)]
        torch.testing.assert_close(result["state"], dict(network.state_dict()), rtol=0, atol=0)
        assert result["parameters"] == [key for key, _ in network.named_parameters()]
        assert result["trainable"]


def test_saved_file_comes_back_in(tmp_path: Path) -> None:
    network = build("mobilenet")
    first = program_of("mobilenet")
    second = load(first.save(tmp_path / "net.pt"), input_shapes=SHAPES)
    assert list(second.tensors) == list(first.tensors)
    calls = [Counter(n.target for n in program.graph.nodes) for program in (first, second)]
    assert calls[0] == calls[1]
    torch.testing.assert_close(second(samples(5)), network(samples(5)))


def test_same_program_gives_the_same_safetensors(tmp_path: Path) -> None:
    program = program_of("concat")
    first = program.save(tmp_path / "first.safetensors").read_bytes()
    assert program.save(tmp_path / "second.safetensors").read_bytes() == first


def test_tied_parameters_are_stored_once_under_both_names(tmp_path: Path) -> None:
    from tests.intrafusion.program.test_loading import Tied

    network = Tied().eval()
    program = load(network, input_shapes=[(1, 4)])
    script = torch.jit.load(program.save(tmp_path / "tied.pt"))
    assert list(script.state_dict()) == ["embed.weight", "unembed.weight"]
    assert script.embed.weight.data_ptr() == script.unembed.weight.data_ptr()
    network.load_state_dict(_tensors(program.save(tmp_path / "tied.safetensors")))


def test_file_holds_no_more_than_the_tensors(tmp_path: Path) -> None:
    program = program_of("vgg")
    name = "classifier.0.weight"
    wide = torch.zeros(program.tensors[name].shape[0], 100_000)
    wide[:, : program.tensors[name].shape[1]] = program.tensors[name]
    view = wide[:, : program.tensors[name].shape[1]]
    sliced = _with(program, tensors={**program.tensors, name: view})
    for ending in ("pt", "safetensors"):
        assert sliced.save(tmp_path / f"net.{ending}").stat().st_size < 100_000


# --- outputs ------------------------------------------------------------------------------


class Pair(NamedTuple):
    first: Tensor
    second: Tensor


class Returns(nn.Module):
    def __init__(self, shape: Callable[[Tensor, Tensor], object]) -> None:
        super().__init__()
        self.shape = shape
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> object:
        return self.shape(self.fc(x), x + 1)


@pytest.mark.parametrize(
    "shape",
    [
        lambda a, b: a,
        lambda a, b: (a,),
        lambda a, b: (a, b),
        lambda a, b: [a, b],
        lambda a, b: {"logits": a, "features": b},
        lambda a, b: (a, [b, a], {"b": b}),
        lambda a, b: {"a": a, "all": [a, b]},
    ],
    ids=["tensor", "one", "tuple", "list", "dict", "nested", "mixed"],
)
def test_outputs_nest_as_the_originals(
    tmp_path: Path, shape: Callable[[Tensor, Tensor], object]
) -> None:
    network = Returns(shape).eval()
    path = load(network, input_shapes=[(1, 4)]).save(tmp_path / "net.pt")
    x = torch.randn(7, 4)
    torch.testing.assert_close(torch.jit.load(path)(x), network(x))


def test_named_tuple_becomes_a_tuple(tmp_path: Path) -> None:
    network = Returns(Pair).eval()
    script = torch.jit.load(load(network, input_shapes=[(1, 4)]).save(tmp_path / "net.pt"))
    x = torch.randn(7, 4)
    torch.testing.assert_close(script(x), tuple(network(x)))


def test_outputs_that_torchscript_lacks(tmp_path: Path) -> None:
    program = load(Returns(lambda a, b: {"a": a, 1: b}), input_shapes=[(1, 4)])
    with pytest.raises(IntraFusionError) as caught:
        program.save(tmp_path / "net.pt")
    assert caught.value.code is ErrorCode.FORMAT_NOT_POSSIBLE
    assert list(tmp_path.iterdir()) == []


# --- graphs -------------------------------------------------------------------------------


def written(
    build_graph: Callable[[fx.Graph, fx.Node], object],
    example: Tensor,
    tensors: dict[str, Tensor] | None = None,
) -> Program:
    """A program with one input whose graph `build_graph` writes; it returns the output."""
    graph = fx.Graph()
    output = build_graph(graph, graph.placeholder("x"))
    graph.output((output,))
    return Program(
        graph=graph,
        tensors=tensors or {},
        trainable=frozenset(tensors or {}),
        example_inputs=(example,),
        out_spec=pytree.tree_flatten(0)[1],
        source="module",
    )


def _check_round_trip(program: Program, path: Path) -> None:
    script = torch.jit.load(program.save(path))
    x = torch.cat([program.example_inputs[0]] * 4)
    torch.testing.assert_close(script(x), program(x), equal_nan=True)


@pytest.mark.slow
def test_ten_thousand_operations(tmp_path: Path) -> None:
    def chain(graph: fx.Graph, x: fx.Node) -> fx.Node:
        for step in range(5_000):
            x = graph.call_function(aten.add.Tensor, (x, 1 + step % 3))
            x = graph.call_function(aten.sin.default, (x,))
        return x

    _check_round_trip(written(chain, torch.randn(2, 3)), tmp_path / "long.pt")


@pytest.mark.parametrize(
    "expression",
    [
        lambda g, x: g.call_function(aten.add.Scalar, (x, 2)),
        lambda g, x: g.call_function(aten.add.Tensor, (x, 2.5), {"alpha": 2}),
        lambda g, x: g.call_function(aten.mean.default, (x,)),
        lambda g, x: g.call_function(aten.mean.dim, (x, [1], True), {"dtype": torch.float64}),
        lambda g, x: g.call_function(aten.sum.dim_IntList, (x, [], False)),
        lambda g, x: g.call_function(aten.clamp.default, (x, None, 0.5)),
        lambda g, x: g.call_function(aten.masked_fill.Scalar, (x, _positive(g, x), float("-inf"))),
        lambda g, x: g.call_function(
            aten.index.Tensor, (x, [None, g.call_function(aten.arange.default, (2,))])
        ),
        lambda g, x: g.call_function(
            operator.getitem, (g.call_function(aten.max.dim, (x, 1)), 0)
        ),
        lambda g, x: g.call_function(
            operator.getitem, (g.call_function(aten.split.Tensor, (x, 2, 1)), 1)
        ),
        lambda g, x: g.call_function(
            aten.expand.default,
            (g.call_function(aten.ones.default, ([1, 3],), {"device": torch.device("cpu")}),
             [g.call_function(operator.mul, (g.call_function(aten.sym_size.int, (x, 0)), 3)), -1]),
        ),
        lambda g, x: g.call_function(
            aten.div.Tensor_mode, (x, x), {"rounding_mode": "floor"}
        ),
        lambda g, x: g.call_function(
            aten.div.Tensor, (x, g.call_function(aten.sym_size.int, (x, 0)))
        ),
        lambda g, x: g.call_function(aten._to_copy.default, (x,), {"dtype": torch.float16}),
        lambda g, x: g.call_function(aten.slice.Tensor, (x, 1, 0, 9223372036854775807, 2)),
        lambda g, x: g.call_function(aten.elu.default, (x, 1, 1, 2)),
        lambda g, x: g.call_function(
            aten.upsample_nearest1d.vec,
            (g.call_function(aten.unsqueeze.default, (x, 1)), [8], None),
        ),
        lambda g, x: g.call_function(
            aten.upsample_nearest1d.default,
            (g.call_function(aten.unsqueeze.default, (x, 1)), [8], 2.0),
        ),
    ],
)  # fmt: skip
def test_operations_keep_their_overloads(
    tmp_path: Path, expression: Callable[[fx.Graph, fx.Node], object]
) -> None:
    _check_round_trip(written(expression, torch.randn(2, 4)), tmp_path / "net.pt")


def _positive(graph: fx.Graph, x: fx.Node) -> fx.Node:
    return graph.call_function(aten.gt.Scalar, (x, 0))


def test_names_that_are_no_identifiers(tmp_path: Path) -> None:
    names = ["weight", "0.weight", "a-b.c d", "List.Tensor"]

    def add_all(graph: fx.Graph, x: fx.Node) -> fx.Node:
        for name in names:
            x = graph.call_function(aten.add.Tensor, (x, graph.get_attr(name)))
        return x

    tensors = {name: torch.randn(4) for name in names}
    program = written(add_all, torch.randn(2, 4), tensors)
    _check_round_trip(program, tmp_path / "net.pt")
    assert list(torch.jit.load(tmp_path / "net.pt").state_dict()) == names


def test_name_that_torchscript_cannot_write(tmp_path: Path) -> None:
    def add(graph: fx.Graph, x: fx.Node) -> fx.Node:
        return graph.call_function(aten.add.Tensor, (x, graph.get_attr('quo"te')))

    program = written(add, torch.randn(2, 4), {'quo"te': torch.ones(4)})
    with pytest.raises(IntraFusionError) as caught:
        program.save(tmp_path / "net.pt")
    assert caught.value.code is ErrorCode.FORMAT_NOT_POSSIBLE
    assert list(tmp_path.iterdir()) == []


def test_devices_follow_the_input() -> None:
    program = written(
        lambda g, x: g.call_function(
            aten.add.Tensor,
            (x, g.call_function(aten.ones.default, ([4],), {"device": torch.device("cpu")})),
        ),
        torch.randn(2, 4),
    )
    assert "device=x.device" in source_of(program)


def test_operation_that_is_not_atens(tmp_path: Path) -> None:
    program = written(lambda g, x: g.call_function(torch.sin, (x,)), torch.randn(2, 4))
    with pytest.raises(IntraFusionError, match="no operation of ATen") as caught:
        program.save(tmp_path / "net.pt")
    assert caught.value.code is ErrorCode.FORMAT_NOT_POSSIBLE
    assert list(tmp_path.iterdir()) == []


# --- files --------------------------------------------------------------------------------


def _tensors(path: Path) -> dict[str, Tensor]:
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _with(program: Program, **changes: object) -> Program:
    from dataclasses import replace

    return replace(program, **changes)  # type: ignore[arg-type]


def test_safetensors_load_into_the_users_own_module(tmp_path: Path) -> None:
    network = build("resnet")
    path = program_of("resnet").save(tmp_path / "net.safetensors")
    other = build("resnet", seed=5)
    other.load_state_dict(_tensors(path))
    torch.testing.assert_close(other(samples(5)), network(samples(5)))


def test_metadata_is_kept_in_both_formats(tmp_path: Path) -> None:
    program = program_of("vgg")
    metadata = {"plan": json.dumps({"features.0": 4})}
    emit.save(program, tmp_path / "net.safetensors", metadata=metadata)
    with safe_open(tmp_path / "net.safetensors", "pt") as file:
        assert file.metadata() == {
            "format": "pt",
            "intrafusion": intrafusion.__version__,
            **metadata,
        }
    emit.save(program, tmp_path / "net.pt", metadata=metadata)
    files = {METADATA_FILE: ""}
    torch.jit.load(tmp_path / "net.pt", _extra_files=files)
    assert json.loads(files[METADATA_FILE]) == metadata


def test_format_overrides_the_ending(tmp_path: Path) -> None:
    program = program_of("vgg")
    path = program.save(tmp_path / "net.bin", format="safetensors")
    assert _tensors(path).keys() == program.tensors.keys()


@pytest.mark.parametrize(("name", "format"), [("net.xyz", None), ("net.pt", "keras")])
def test_unknown_format(tmp_path: Path, name: str, format: str | None) -> None:  # noqa: A002
    program = program_of("vgg")
    with pytest.raises(IntraFusionError) as caught:
        program.save(tmp_path / name, format)
    assert caught.value.code is ErrorCode.FORMAT_NOT_POSSIBLE
    assert "torchscript" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_file_that_reads_back_otherwise_replaces_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = program_of("vgg")
    (tmp_path / "net.pt").write_text("precious")

    def wrong(program: Program) -> torch.jit.ScriptModule:
        name = "classifier.3.bias"
        return to_script(_with(program, tensors={**program.tensors, name: torch.ones(10)}))

    to_script = emit_torchscript.to_script
    monkeypatch.setattr(emit_torchscript, "to_script", wrong)
    with pytest.raises(IntraFusionError, match="other outputs") as caught:
        program.save(tmp_path / "net.pt")
    assert caught.value.code is ErrorCode.COMPRESSION_FAILED
    assert [(f.name, f.read_text()) for f in tmp_path.iterdir()] == [("net.pt", "precious")]


def test_new_file_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    program = program_of("vgg")
    path = program.save(tmp_path / "net.safetensors")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
