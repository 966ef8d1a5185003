"""TorchScript written from the graph, so that it runs at any batch size under the old names.

`torch.jit.trace` would bake the example's batch size into the file.
"""

from __future__ import annotations

import json
import keyword
import math
import operator
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.program import torch_private
from intrafusion.program.branch import Branch, nodes_within, returned
from intrafusion.program.emit_module import hold
from intrafusion.program.emit_outputs import nested
from intrafusion.program.messages import reason_line
from intrafusion.program.program import Program
from intrafusion.program.read_back import check_outputs, differs

METADATA_FILE = "intrafusion.json"
"""The name of the extra file that holds the metadata inside the archive."""

_RESERVED = frozenset({"self", "torch", "getattr", "float", "List", "Optional", "Tensor"})

_PYTHON_OPERATORS: dict[Any, str] = {
    operator.add: "({} + {})",
    operator.sub: "({} - {})",
    operator.mul: "({} * {})",
    operator.floordiv: "({} // {})",
    operator.mod: "({} % {})",
    operator.truediv: "({} / {})",
    operator.pow: "({} ** {})",
    operator.neg: "(-{})",
    operator.getitem: "{}[{}]",
    torch.sym_max: "max({}, {})",
    torch.sym_min: "min({}, {})",
    torch.sym_float: "float({})",
    torch.sym_int: "int({})",
}

_SIZES: dict[Any, str] = {
    torch.ops.aten.sym_size.int: "torch.ops.aten.size",
    torch.ops.aten.sym_numel.default: "torch.ops.aten.numel",
    torch.ops.aten.sym_stride.int: "torch.ops.aten.stride",
}
"""Operations on symbolic sizes, and what they are called on plain integers."""


def write(program: Program, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a program as TorchScript; see `intrafusion.program.emit.Writer`."""
    script = to_script(program)
    with path.open("wb") as file:
        torch_private.save_script(script, file, {METADATA_FILE: json.dumps(dict(metadata))})
    _read_back(program, path)


def to_script(program: Program) -> torch.jit.ScriptModule:
    """The program as a ScriptModule whose parameters have their original names.

    Raises `IntraFusionError` with `FORMAT_NOT_POSSIBLE` where TorchScript cannot say what
    the graph says.
    """
    root = _tree(program)
    source = source_of(program)
    try:
        script = torch_private.define(root, source)
    except RuntimeError as error:
        raise _not_possible(f"TorchScript refuses the graph: {reason_line(error)}.") from error
    _check_overloads(program.graph, torch_private.operations(script))
    return script


def source_of(program: Program) -> str:
    """The `forward` method of the program, in TorchScript's subset of Python."""
    return _Writer(program).method()


def _tree(program: Program) -> nn.Module:
    # TorchScript keeps one type per Python class: a class of its own keeps this `forward`
    # from landing on other modules of the same structure.
    root: nn.Module = type("Network", (nn.Module,), {})()
    return hold(program, root)


_LIST = re.compile(r"List\[(int|float|bool|Tensor|Optional\[Tensor\])\]")


class _Writer:
    """Turns nodes into lines; `names` maps each to the variable that holds its value."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self.names: dict[fx.Node, str] = {}
        self._taken = set(_RESERVED)

    def method(self) -> str:
        graph = self._program.graph
        inputs = [self._name(node) for node in graph.find_nodes(op="placeholder")]
        self._device = f"{inputs[0]}.device"
        lines = [*self._lines(graph), f"return {self._returned(graph.output_node())}"]
        header = ", ".join(["self", *inputs])
        return f"def forward({header}):\n" + "".join(f"    {line}\n" for line in lines)

    def _name(self, node: fx.Node) -> str:
        """A variable of its own for a node."""
        name = node.name
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        self.names[node] = name
        return name

    def _lines(self, graph: fx.Graph) -> Iterator[str]:
        for node in graph.nodes:
            if isinstance(node.target, Branch):
                yield from self._branch(node, node.target)
            elif node.op not in ("placeholder", "output"):
                expression = self._expression(node)
                yield f"{self._name(node)} = {expression}"

    def _branch(self, node: fx.Node, branch: Branch) -> Iterator[str]:
        condition, *operands = map(self._any, node.args)
        chosen = self._name(node)
        for line, way in zip((f"if bool({condition}):", "else:"), branch.ways, strict=True):
            yield line
            self.names.update(zip(way.find_nodes(op="placeholder"), operands, strict=True))
            yield from (f"    {inner}" for inner in self._lines(way))
            yield f"    {chosen} = {_source(tuple(map(self._any, returned(way))))}"

    def _expression(self, node: fx.Node) -> str:
        if node.op == "get_attr":
            return _attribute(str(node.target))
        if node.target in _PYTHON_OPERATORS:
            return _PYTHON_OPERATORS[node.target].format(*(self._any(a) for a in node.args))
        if node.target in _SIZES:
            return f"{_SIZES[node.target]}({', '.join(self._any(a) for a in node.args)})"
        target = node.target
        if not isinstance(target, torch._ops.OpOverload):
            raise _not_possible(f"{node.name} calls {target}, which is no operation of ATen.")
        schema = {argument.name: str(argument.type) for argument in target._schema.arguments}
        given = dict(zip(schema, node.args, strict=False)) | node.kwargs
        arguments = [
            # By name, for overloads that differ in the names alone. The first is the tensor
            # itself, whose name may be none that Python allows.
            (f"{name}=" if position else "") + self._argument(value, schema[name])
            for position, (name, value) in enumerate(given.items())
        ]
        namespace, _, name = target._schema.name.partition("::")
        return f"torch.ops.{namespace}.{name}({', '.join(arguments)})"

    def _argument(self, value: Any, kind: str) -> str:
        """A literal or variable; `kind` is the type that the operation's schema wants."""
        if isinstance(value, list | tuple):
            match = _LIST.search(kind)
            element = match[1] if match else ""
            items = f"[{', '.join(self._argument(item, element) for item in value)}]"
            # TorchScript takes an empty list for one of tensors.
            annotated = not value or element.startswith("Optional")
            return f"torch.jit.annotate(List[{element}], {items})" if annotated else items
        if isinstance(value, torch.device):
            # Not the device the network was read on: the file must follow its inputs.
            return self._device
        if isinstance(value, int) and kind in ("float", "Optional[float]"):
            return repr(float(value))
        return self._any(value)

    def _any(self, value: Any) -> str:
        if isinstance(value, fx.Node):
            return self.names[value]
        if isinstance(value, float) and not math.isfinite(value):
            return f'float("{value}")'
        if value is None or isinstance(value, bool | int | float):
            return repr(value)
        if isinstance(value, str):
            return json.dumps(value)
        if isinstance(value, torch.dtype | torch.layout | torch.memory_format):
            return str(value)
        raise _not_possible(f"{value!r} is nothing TorchScript can be given.")

    def _returned(self, output: fx.Node) -> str:
        (values,) = output.args
        assert isinstance(values, tuple | list)
        return _source(nested(self._program.out_spec, [self._any(value) for value in values]))


def _attribute(name: str) -> str:
    """The expression for a dotted name, whose parts need not be identifiers ("layers.0")."""
    expression = "self"
    for part in name.split("."):
        if part.isidentifier() and not keyword.iskeyword(part):
            expression += f".{part}"
        else:
            expression = f"getattr({expression}, {json.dumps(part)})"
    return expression


def _source(returned: Any) -> str:
    """The expression for nested outputs whose leaves are names of variables."""
    if isinstance(returned, str):
        return returned
    if isinstance(returned, dict):
        pairs = (f"{json.dumps(key)}: {_source(child)}" for key, child in returned.items())
        return "{" + ", ".join(pairs) + "}"
    children = [_source(child) for child in returned]
    if isinstance(returned, list):
        return f"[{', '.join(children)}]"
    return f"({', '.join(children)},)"


def _check_overloads(graph: fx.Graph, operations: list[str]) -> None:
    """Check that TorchScript chose the overloads of the graph, where they can be told apart.

    A number where the overload has a tensor makes TorchScript take the overload for numbers,
    which computes the same; and None is of every optional type.
    """
    expected = Counter(
        torch_private.overload_name(node.target)
        for node in nodes_within(graph)
        if isinstance(node.target, torch._ops.OpOverload)
        and node.target not in _SIZES
        and not _is_ambiguous(node)
    )
    missing = expected - Counter(operations)
    if missing:
        raise _not_possible(f"TorchScript took another overload for {', '.join(missing)}.")


def _is_ambiguous(node: fx.Node) -> bool:
    target: Any = node.target
    return any(
        value is None or (_is_number(value) and str(argument.type) == "Tensor")
        for value, argument in zip(node.args, target._schema.arguments, strict=False)
    )


def _is_number(value: Any) -> bool:
    """Whether a value is no tensor but a number, written out or computed from sizes."""
    if isinstance(value, fx.Node):
        computed = value.target in _PYTHON_OPERATORS and value.target is not operator.getitem
        return value.target in _SIZES or computed
    return isinstance(value, int | float)


def _read_back(program: Program, path: Path) -> None:
    """Check that the file loads, has every name and gives the program's outputs."""
    try:
        script = torch_private.load_script(path)
    except RuntimeError as error:
        raise _not_possible(f"torch cannot read the file back: {reason_line(error)}.") from error
    names = {*program.tensors, *program.aliases}
    found = set(script.state_dict())
    if found != names:
        lost, added = sorted(names - found)[:3], sorted(found - names)[:3]
        raise differs(f"lacks {lost} or adds {added}", kind="TorchScript", output="torchscript")
    check_outputs(program, script, kind="TorchScript", output="torchscript")


def _not_possible(message: str) -> IntraFusionError:
    return IntraFusionError(
        ErrorCode.FORMAT_NOT_POSSIBLE,
        message,
        "Save as safetensors instead, or load the network in another form.",
        format="torchscript",
    )
