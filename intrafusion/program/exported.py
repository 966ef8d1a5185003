"""From `torch.export`'s ExportedProgram to a graph whose parameters are attributes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import InputKind, InputSpec, OutputKind

from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.program import torch_private
from intrafusion.program.exported_branches import branch_from, given
from intrafusion.program.functional import functional
from intrafusion.program.messages import reason_line

if TYPE_CHECKING:
    from torch.utils._pytree import TreeSpec


@dataclass(frozen=True)
class Capture:
    """A functional ATen graph as it was read, before `normalise`.

    `tensors`, `trainable`, `aliases` and `out_spec` are as in `Program`.
    """

    graph: fx.Graph
    tensors: Mapping[str, Tensor]
    trainable: frozenset[str]
    aliases: Mapping[str, str]
    out_spec: TreeSpec
    notes: tuple[str, ...] = ()


def export_module(module: nn.Module, inputs: tuple[Tensor, ...]) -> ExportedProgram:
    """Export a module with one symbolic batch size, shared by dimension 0 of every input."""
    batch = Dim("batch")
    shapes = tuple({0: batch} for _ in inputs)
    return torch_private.export(module, inputs, _per_argument(module, shapes))


def open_exported(path: Path) -> ExportedProgram:
    """Read a file that `torch.export.save` wrote.

    Raises `IntraFusionError` with `CORRUPT_MODEL` where torch cannot read it, and
    `CAPTURE_FAILED` where it was exported for one batch size alone.
    """
    try:
        exported = torch.export.load(path)
    except Exception as error:
        raise IntraFusionError(
            ErrorCode.CORRUPT_MODEL,
            f"{path.name} cannot be read as a .pt2: {reason_line(error)}.",
            "Save it again with torch.export.save, by a torch no newer than the one here "
            f"({torch.__version__}).",
        ) from error
    fixed = [x for x in _user_inputs(exported) if isinstance(x.shape[0], int)]
    if fixed:
        raise IntraFusionError(
            ErrorCode.CAPTURE_FAILED,
            f"{path.name} was exported for a batch of {fixed[0].shape[0]} alone.",
            "Export it for any batch: torch.export.export(model, inputs, dynamic_shapes="
            "({0: torch.export.Dim('batch')},)).",
        )
    return exported


def example_shapes(exported: ExportedProgram) -> tuple[list[list[int]] | None, list[str]]:
    """Shapes and dtypes of an exported program's inputs; no shapes where more than the batch
    is left open.
    """
    inputs = _user_inputs(exported)
    dtypes = [str(x.dtype).removeprefix("torch.") for x in inputs]
    if any(not isinstance(size, int) for x in inputs for size in x.shape[1:]):
        return None, dtypes
    return [[1, *x.shape[1:]] for x in inputs], dtypes


def _user_inputs(exported: ExportedProgram) -> list[Tensor]:
    """The inputs as fake tensors, which have shapes and dtypes alone."""
    names = set(exported.graph_signature.user_inputs)
    values = [
        node.meta["val"]
        for node in exported.graph.nodes
        if node.op == "placeholder" and node.name in names
    ]
    for value in values:
        if not isinstance(value, Tensor) or value.dim() == 0:
            raise _no_tensor("input", repr(value))
    return values


def capture_module(module: nn.Module, inputs: tuple[Tensor, ...], quick: bool = True) -> Capture:
    """The graph of a module at the fixed shapes of `inputs`."""
    return lower(torch_private.export(module, inputs), quick=quick)


def _per_argument(module: nn.Module, shapes: tuple[Any, ...]) -> tuple[Any, ...]:
    """`shapes` nested as `torch.export` wants them: one entry for all of `*args`."""
    kinds = [p.kind for p in inspect.signature(module.forward).parameters.values()]
    if Parameter.VAR_POSITIONAL not in kinds:
        return shapes
    before = kinds.index(Parameter.VAR_POSITIONAL)
    return (*shapes[:before], shapes[before:])


def lower(
    exported: ExportedProgram,
    prefix: str = "",
    input_names: Sequence[str] | None = None,
    quick: bool = True,
) -> Capture:
    """Make every parameter, buffer and constant of an exported program a `get_attr` node.

    `prefix` is stripped from parameter and buffer names; `input_names` replace the inputs'.
    In-place operations go, the `quick` way where `intrafusion.program.functional` can. Tensors
    are those of the exported program, not copies. Writes to buffers and inputs are dropped,
    with a note.

    Raises `IntraFusionError` with `CAPTURE_FAILED` where an input or output is no tensor.
    """
    written = functional(exported.graph) if quick else None
    if written is None:
        exported = exported.run_decompositions({})
        written = exported.graph
    stored = _Stored()
    graph = fx.Graph()
    nodes: dict[fx.Node, fx.Node] = {}
    attributes: list[tuple[fx.Node, str]] = []
    names = iter(input_names or ())
    placeholders = [node for node in written.nodes if node.op == "placeholder"]
    for node, spec in zip(placeholders, exported.graph_signature.input_specs, strict=True):
        if spec.kind is not InputKind.USER_INPUT:
            attributes.append((node, stored.add(exported, spec, prefix)))
            continue
        if not isinstance(node.meta.get("val"), Tensor):
            raise _no_tensor("input", node.name)
        nodes[node] = graph.placeholder(next(names, node.name))
        nodes[node].meta = dict(node.meta)
    for node, name in attributes:
        if node.users:
            nodes[node] = graph.get_attr(name)
            nodes[node].meta = dict(node.meta)
    for node in written.nodes:
        if node.op == "output":
            kept, notes = _outputs(exported, node, prefix)
            graph.output(tuple(nodes[value] for value in kept))
            out_spec = _nesting(exported, node)
        elif torch_private.is_cond(node.target):
            branch, constants = branch_from(node, exported.graph_module)
            held = [graph.get_attr(stored.constant(constant)) for constant in constants]
            nodes[node] = graph.call_function(branch, (*given(node, nodes), *held))
            nodes[node].meta = dict(node.meta)
        elif node.op == "call_function":
            nodes[node] = graph.node_copy(node, lambda old: nodes[old])
    return Capture(
        graph=graph,
        tensors=stored.tensors,
        trainable=frozenset(stored.trainable),
        aliases=stored.aliases,
        out_spec=out_spec,
        notes=notes,
    )


class _Stored:
    """The parameters, buffers and constants of an exported program, each once."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.trainable: set[str] = set()
        self.aliases: dict[str, str] = {}
        self._names: dict[tuple[object, ...], str] = {}
        self._constants = 0

    def add(self, exported: ExportedProgram, spec: InputSpec, prefix: str) -> str:
        """Take the tensor a placeholder stands for; returns the name the graph is to use."""
        target = str(spec.target)
        if spec.kind is InputKind.CONSTANT_TENSOR:
            return self.constant(_lookup(exported, target))
        if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER):
            name = target.removeprefix(prefix)
        else:
            raise IntraFusionError(
                ErrorCode.CAPTURE_FAILED,
                f"The network uses {target!r}, a {spec.kind.name.lower()}, as an input.",
                "Give the network as one that computes with tensors alone.",
            )
        tensor = _lookup(exported, target)
        if spec.kind is InputKind.PARAMETER and _identity(tensor) not in self._names:
            self.trainable.add(name)
        return self._keep(name, tensor)

    def constant(self, tensor: Tensor) -> str:
        """Take a tensor without a name; returns the one the graph is to use."""
        self._constants += 1
        return self._keep(f"_constant{self._constants - 1}", tensor)

    def _keep(self, name: str, tensor: Tensor) -> str:
        identity = _identity(tensor)
        if identity in self._names:
            self.aliases[name] = self._names[identity]
        else:
            self._names[identity] = name
            self.tensors[name] = tensor.detach()
        return self._names[identity]


def _lookup(exported: ExportedProgram, target: str) -> Tensor:
    if target in exported.state_dict:
        tensor = exported.state_dict[target]
    else:
        tensor = exported.constants[target]
    assert isinstance(tensor, Tensor)
    return tensor


def _identity(tensor: Tensor) -> tuple[object, ...]:
    """Equal for two names of one tensor; an empty tensor is only ever itself."""
    if tensor.numel() == 0:
        return (id(tensor),)
    return (
        tensor.untyped_storage().data_ptr(),
        tensor.storage_offset(),
        tuple(tensor.shape),
        tensor.stride(),
        tensor.dtype,
    )


def _outputs(
    exported: ExportedProgram, output: fx.Node, prefix: str
) -> tuple[list[fx.Node], tuple[str, ...]]:
    """The values the network returns, and what is to say about them."""
    kept: list[fx.Node] = []
    written: list[str] = []
    absent = 0
    (values,) = output.args
    assert isinstance(values, tuple | list)
    for value, spec in zip(values, exported.graph_signature.output_specs, strict=True):
        if spec.kind is OutputKind.BUFFER_MUTATION:
            written.append(str(spec.target).removeprefix(prefix))
        elif spec.kind is OutputKind.USER_OUTPUT and value is None:
            absent += 1
        elif spec.kind is OutputKind.USER_OUTPUT:
            if not (isinstance(value, fx.Node) and isinstance(value.meta.get("val"), Tensor)):
                raise _no_tensor("output", str(value))
            if torch_private.size_depends_on_data(value.meta["val"]):
                raise IntraFusionError(
                    ErrorCode.CAPTURE_FAILED,
                    f"How large the network's output {len(kept)} is depends on what its tensors "
                    "hold, so that there is nothing to compare it with.",
                    "Let the network return all it finds, boxes and scores, and choose among them "
                    "(by a threshold, by non-maximum suppression) in code of its own after it.",
                )
            kept.append(value)
    if not kept:
        raise _no_tensor("output", "None")
    notes = []
    if written:
        names = ", ".join(written[:3]) + (", …" if len(written) > 3 else "")
        notes.append(
            f"The network writes to its buffers when it runs ({names}); the program read from "
            "it does not. If it was saved in training mode, call .eval() before saving."
        )
    if absent:
        notes.append(
            f"The network returns None in {absent} places beside its {len(kept)} tensors; the "
            "program leaves these out."
        )
    return kept, tuple(notes)


def _nesting(exported: ExportedProgram, output: fx.Node) -> TreeSpec:
    """How the outputs nest, those that are None left out."""
    spec = torch_private.out_spec(exported)
    (values,) = output.args
    assert isinstance(values, tuple | list)
    returned = [
        value
        for value, kind in zip(values, exported.graph_signature.output_specs, strict=True)
        if kind.kind is OutputKind.USER_OUTPUT
    ]
    if None not in returned:
        return spec
    _, spec = torch_private.flatten(_without_none(torch_private.unflatten(returned, spec)))
    return spec


def _without_none(returned: Any) -> Any:
    if isinstance(returned, dict):
        return {key: _without_none(v) for key, v in returned.items() if v is not None}
    if isinstance(returned, tuple | list):
        kept = [_without_none(v) for v in returned if v is not None]
        return kept if isinstance(returned, list) else tuple(kept)
    return returned


def _no_tensor(what: str, name: str) -> IntraFusionError:
    return IntraFusionError(
        ErrorCode.CAPTURE_FAILED,
        f"The network's {what} {name!r} is no tensor.",
        f"Wrap the network so that every {what} is a tensor.",
    )
