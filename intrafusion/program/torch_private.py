"""Every use this project makes of torch's private parts, one small function each.

What breaks when torch changes breaks here; `tests/intrafusion/program/test_torch_private.py`
holds a test per function. (What it makes of TorchScript's graphs is in `script_graph.py`.)
"""

from __future__ import annotations

import re
import warnings
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn
from torch._C import DispatchKey
from torch._ops import OpOverload
from torch.export import ExportedProgram
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols
from torch.utils import _pytree as pytree


def flatten(value: Any) -> tuple[list[Any], pytree.TreeSpec]:
    """The leaves of nested tuples, lists and dicts, and how they nest."""
    return pytree.tree_flatten(value)


def unflatten(leaves: Sequence[Any], spec: pytree.TreeSpec) -> Any:
    """`leaves` nested as `spec` says; undoes `flatten`."""
    return pytree.tree_unflatten(list(leaves), spec)


def map_tensors(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """`value` with `function` of each tensor in its nested tuples, lists and dicts."""
    return pytree.tree_map_only(Tensor, function, value)


def out_spec(program: ExportedProgram) -> pytree.TreeSpec:
    """How the flat outputs of an exported program nest."""
    spec: pytree.TreeSpec = program.call_spec.out_spec
    return spec


def load_script(path: Path) -> torch.jit.ScriptModule:
    """`torch.jit.load` onto the CPU; runs code from the file."""
    return _load(str(path))


def copy_script(script: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    """A copy on the CPU as `load_script` gives it; export fails on one just scripted."""
    file = BytesIO()
    save_script(script, file, {})
    file.seek(0)
    return _load(file)


def _load(source: str | BinaryIO) -> torch.jit.ScriptModule:
    load: Callable[..., torch.jit.ScriptModule] = torch.jit.load
    script = load(source, map_location="cpu")
    _lift_sizes(script)
    return script


def _lift_sizes(script: torch.jit.ScriptModule) -> None:
    """Have sizes pass through `lift_fresh`, which does nothing, before they are computed with.

    Traced TorchScript holds sizes as tensors. Export follows the arithmetic on them to the
    number at its end only where it has seen them enter, and this is what it sees. A method's
    graph can be changed until it first runs.
    """
    for module in script.modules():
        compiled: Any = module._c
        for name in compiled._method_names():
            graph = compiled._get_method(name).graph
            for node in graph.findAllNodes("prim::NumToTensor"):
                size = node.output()
                if any(use.user.kind() == "aten::lift_fresh" for use in size.uses()):
                    continue  # Modules of one type share their methods.
                lift = graph.create("aten::lift_fresh", [size], 1)
                lift.insertAfter(node)
                size.replaceAllUsesAfterNodeWith(lift, lift.output())


def is_frozen(script: torch.jit.ScriptModule) -> bool:
    """Whether `torch.jit.freeze` turned the module's parameters into unnamed constants."""
    return not hasattr(script, "training")


def arguments(script: torch.jit.ScriptModule) -> list[tuple[str, str, bool]]:
    """Name and type of `forward`'s arguments without `self`, and whether each may be left out."""
    schema = script._c._get_method("forward").schema
    return [(a.name, str(a.type), a.has_default_value()) for a in schema.arguments[1:]]


def is_about_data(error: BaseException) -> bool:
    """Whether export stopped at a choice that depends on what a tensor holds."""
    return "data-dependent" in str(error)


def cond(
    condition: Tensor | bool,
    then: Callable[..., tuple[Tensor, ...]],
    otherwise: Callable[..., tuple[Tensor, ...]],
    operands: tuple[Any, ...],
) -> tuple[Tensor, ...]:
    """`torch.cond` without the compiler that it puts before itself, for use while exporting."""
    taken: Sequence[Tensor] = torch.ops.higher_order.cond(condition, then, otherwise, operands)
    return tuple(taken)


def size_depends_on_data(value: Tensor) -> bool:
    """Whether a fake tensor of an export has a size that only running the network tells."""
    return bool(free_unbacked_symbols(value))


def is_cond(target: Any) -> bool:
    """Whether a node of an exported graph calls `torch.cond`."""
    return target is torch.ops.higher_order.cond


def memory(tensor: Tensor) -> int:
    """A number that tensors have in common where they share memory, fake ones too."""
    number: int = tensor.untyped_storage()._cdata
    return number


def overloads(*packets: str) -> list[OpOverload]:
    """Every functional overload of the named ATen operations that this torch has."""
    aten = torch.ops.aten
    present = [getattr(aten, name) for name in packets if hasattr(aten, name)]
    return [
        getattr(packet, overload)
        for packet in present
        for overload in packet.overloads()
        if "out" not in overload
    ]


def written_arguments(overload: OpOverload) -> list[int]:
    """The positions of the arguments that an operation writes to."""
    return [
        position
        for position, argument in enumerate(overload._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]


def viewed_arguments(overload: OpOverload) -> list[int]:
    """The positions of the arguments whose memory an operation's result may share."""
    return [
        position
        for position, argument in enumerate(overload._schema.arguments)
        if argument.alias_info is not None and not argument.alias_info.is_write
    ]


def is_composite(overload: OpOverload) -> bool:
    """Whether an operation is written in terms of others, so that its schema may hide views."""
    return overload.has_kernel_for_dispatch_key(DispatchKey.CompositeImplicitAutograd)


def export(
    module: nn.Module, inputs: tuple[Tensor, ...], dynamic_shapes: Any = None
) -> ExportedProgram:
    """`torch.export.export`, without the graph that it prints of every attempt that fails."""
    with redirect_stderr(StringIO()):
        return torch.export.export(module, inputs, dynamic_shapes=dynamic_shapes, strict=False)


class _Wrapper(nn.Module):
    """Python around a ScriptModule, so that `torch.export` takes it for its own kind."""

    def __init__(self, script: torch.jit.ScriptModule) -> None:
        super().__init__()
        self.script = script

    def forward(self, *inputs: Tensor) -> Any:
        return self.script(*inputs)


SCRIPT_PREFIX = "script."
"""What `export_script` puts before every parameter name."""


def export_script(script: torch.jit.ScriptModule, inputs: tuple[Tensor, ...]) -> ExportedProgram:
    """Export a ScriptModule; every shape in the result is the literal of `inputs`.

    Names of parameters and buffers come out with `SCRIPT_PREFIX` before them.
    """
    for parameter in script.parameters():
        # Tensors that come out of TorchScript lack the mark by which export tells them
        # from constants.
        parameter._is_param = True
    with _unoptimised():
        return export(_Wrapper(script), inputs)


@contextmanager
def _unoptimised() -> Iterator[None]:
    """Run TorchScript as written: the profiling executor's fused kernels hide the ATen ops."""
    before = torch._C._get_graph_executor_optimize()
    torch._C._set_graph_executor_optimize(False)
    try:
        yield
    finally:
        torch._C._set_graph_executor_optimize(before)


def define(root: nn.Module, source: str) -> torch.jit.ScriptModule:
    """Script a tree of bare modules and give its root the method `source` defines."""
    script: torch.jit.ScriptModule = torch.jit.script(root)
    # The names that `source` may use are those in sight here.
    script.define(source)
    return script


def operations(script: torch.jit.ScriptModule) -> list[str]:
    """The overloads that `forward` calls, in order, as `aten::name.overload`."""

    def within(block: Any) -> Iterator[Any]:
        for node in block.nodes():
            yield node
            for inner in node.blocks():
                yield from within(inner)

    schemas = (node.schema() for node in within(script.graph))
    return [schema.partition("(")[0] for schema in schemas if "(no schema)" not in schema]


def overload_name(overload: OpOverload) -> str:
    """An overload as TorchScript names it: `aten::name.overload`, or `aten::name`."""
    schema = overload._schema
    return f"{schema.name}.{schema.overload_name}" if schema.overload_name else schema.name


def save_script(
    script: torch.jit.ScriptModule, file: BinaryIO, extra_files: Mapping[str, str]
) -> None:
    """`torch.jit.save` into an open file, whose name then stays out of the archive."""
    save: Callable[..., None] = torch.jit.save
    save(script, file, _extra_files=dict(extra_files))


def save_exported(
    exported: ExportedProgram, file: BinaryIO, extra_files: Mapping[str, str]
) -> None:
    """`torch.export.save` into an open file, whose ending then does not matter."""
    save: Callable[..., None] = torch.export.save
    save(exported, file, extra_files=dict(extra_files))


def load_exported(file: BinaryIO) -> ExportedProgram:
    """`torch.export.load` from an open file, whose ending then does not matter."""
    load: Callable[..., ExportedProgram] = torch.export.load
    return load(file)


def to_onnx(
    exported: ExportedProgram,
    inputs: Sequence[str],
    outputs: Sequence[str],
    metadata: Mapping[str, str],
) -> bytes:
    """An ONNX file of an exported program, its symbolic batch size called `batch`.

    torch keeps its exporter's errors to itself: this raises whatever it raises.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        converted = torch.onnx.export(
            exported,
            f=None,
            dynamo=True,
            verbose=False,
            input_names=inputs,
            output_names=outputs,
        )
    assert converted is not None
    model: Any = converted.model_proto
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    graph = model.graph
    symbol = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*graph.input, *graph.output, *graph.value_info):
        for size in value.type.tensor_type.shape.dim:
            if size.HasField("dim_param"):
                size.dim_param = re.sub(rf"\b{symbol}\b", "batch", size.dim_param)
    content: bytes = model.SerializeToString()
    return content


def tie(root: nn.Module, alias: str, name: str) -> None:
    """Register the parameter or buffer `name` a second time, as `alias`."""
    path, _, leaf = alias.rpartition(".")
    owner = root
    for part in filter(None, path.split(".")):
        if part not in owner._modules:
            owner.add_module(part, nn.Module())
        owner = owner.get_submodule(part)
    path, _, source = name.rpartition(".")
    holder = root.get_submodule(path)
    if source in holder._parameters:
        owner.register_parameter(leaf, holder._parameters[source])
    else:
        owner.register_buffer(leaf, holder._buffers[source])


def children(spec: pytree.TreeSpec) -> list[pytree.TreeSpec]:
    """The specs nested directly in a spec."""
    return list(spec.children())


def is_named_tuple(spec: pytree.TreeSpec) -> bool:
    """Whether a spec stands for a named tuple, which is built from its fields in order."""
    return spec.type is namedtuple
