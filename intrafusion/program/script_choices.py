"""TorchScript whose choices depend on what tensors hold, as a module that export can follow.

`torch.export` sees what TorchScript does, not what it might have done. Here Python goes through
the graph of a ScriptModule, has torch run what lies between such choices piece by piece, and makes
each choice a `torch.cond` of its two blocks.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Any

import torch
from torch import Tensor, nn

from intrafusion.program import script_graph, torch_private
from intrafusion.program.branch import choose
from intrafusion.program.program import module_tree
from intrafusion.program.script_graph import TO_NUMBER, is_tensor

aten = torch.ops.aten

_DTYPES = {"BoolType": torch.bool, "IntType": torch.int64, "FloatType": torch.float64}
"""What stands for TorchScript's numbers where a tensor's entry decides them: one of these dtypes,
without dimensions."""

_LOGIC: dict[str, Callable[..., Tensor]] = {
    "aten::__not__": torch.logical_not,
    "aten::__and__": torch.logical_and,
    "aten::__or__": torch.logical_or,
}

_CHANGES: dict[str, Callable[..., None]] = {
    "aten::append": list.append,
    "aten::extend": list.extend,
    "aten::_set_item": operator.setitem,
}
"""What changes a list or a dictionary, each of which gives its first argument, if anything."""


class NotFollowedError(Exception):
    """The graph does something that this cannot follow; the message says what."""


@dataclass(frozen=True)
class Met:
    """What a run met, as source ranges.

    Attributes:
        chosen: the choices that are in what is exported.
        unchecked: those whose other way raises an error; they are not in it.
    """

    chosen: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)


class Choices(nn.Module):
    """Computes what a ScriptModule computes; to be exported, not run.

    Attributes:
        script: its parameters and buffers, under their names.
        met: what export met. (Export undoes what happens to lists right in a module.)
    """

    def __init__(self, script: torch.jit.ScriptModule) -> None:
        super().__init__()
        tensors = {
            **dict(script.named_parameters(remove_duplicate=False)),
            **dict(script.named_buffers(remove_duplicate=False)),
        }
        trainable = {name for name, _ in script.named_parameters(remove_duplicate=False)}
        self.script = module_tree({n: t.detach() for n, t in tensors.items()}, frozenset(trainable))
        self.met = Met()
        self._graph, self._inputs, self._attributes = script_graph.without_attributes(script)
        # Not as submodules: the tensors that export knows are those of `self.script`.
        self._own = (script,)
        self._from_data = set[str]()
        self._outside: list[Any] = []
        self._held = set[int]()

    def forward(self, *inputs: Tensor) -> Any:
        names = [value.debugName() for value in self._inputs]
        defaults = script_graph.defaults(self._own[0])
        given = [*inputs, *defaults[len(inputs) :]]
        values = dict(zip(names, given, strict=True))
        for value, path in self._attributes:
            values[value.debugName()] = self._attribute(path)
        self._held.update(id(values[value.debugName()]) for value, _ in self._attributes)
        (returned,) = self._run(self._graph, values)
        return returned

    def _attribute(self, path: str) -> Any:
        value: Any = self.script
        own: Any = self._own[0]
        for part in path.split("."):
            value, own = getattr(value, part, None), getattr(own, part)
        return value if isinstance(own, Tensor) and value is not None else own

    def _run(self, block: Any, values: dict[str, Any]) -> list[Any]:
        """What a block (or a whole graph) gives; `values` are those in sight of it, by name."""
        nodes = list(block.nodes())
        last: dict[str, int] = {}
        for position, node in enumerate(nodes):
            last.update((value.debugName(), position) for value in _read(node))
        last.update((value.debugName(), len(nodes)) for value in block.outputs())
        piece: list[Any] = []
        for position, node in enumerate(nodes):
            if not self._is_own(node):
                piece.append(node)
                continue
            self._run_piece(piece, values, {n for n, at in last.items() if at >= position})
            piece = []
            self._run_own(node, values)
        self._run_piece(piece, values, {n for n, at in last.items() if at == len(nodes)})
        return [values[value.debugName()] for value in block.outputs()]

    def _run_piece(self, nodes: list[Any], values: dict[str, Any], wanted: set[str]) -> None:
        """Have torch run some nodes, and note what of it is `wanted`."""
        if not nodes:
            return
        made = {value.debugName(): value for node in nodes for value in node.outputs()}
        read = {v.debugName(): v for node in nodes for v in _read(node)}
        inputs = [value for name, value in read.items() if name not in made]
        outputs = [value for name, value in made.items() if name in wanted]
        run = script_graph.piece(nodes, inputs, outputs)
        found = run(*(values[value.debugName()] for value in inputs))
        values.update(zip((value.debugName() for value in outputs), found, strict=True))

    def _is_own(self, node: Any) -> bool:
        """Whether Python has to do it, for it makes, reads or chooses by a number from a tensor,
        or something within it does.

        Python also changes lists, of which a piece would change a copy, and makes tensors of
        numbers, which torch cannot do by itself within a way.
        """
        if node.kind() == "aten::tensor" or script_graph.changes_container(node):
            return True
        if node.kind() in TO_NUMBER and is_tensor(node.inputsAt(0)):
            return not script_graph.is_size(node.inputsAt(0))
        if any(value.debugName() in self._from_data for value in node.inputs()):
            return True
        return any(self._is_own(inner) for block in node.blocks() for inner in block.nodes())

    def _run_own(self, node: Any, values: dict[str, Any]) -> None:
        inputs = [values[value.debugName()] for value in node.inputs()]
        if node.kind() == "prim::If":
            found = self._choose(node, inputs[0], values)
        elif node.kind() == "prim::Loop":
            found = self._repeat(node, inputs, values)
        elif script_graph.changes_container(node):
            found = self._changed(node, inputs)
        else:
            found = [_computed(node, inputs)]
        self._bind(values, node.outputs(), found)

    def _bind(self, values: dict[str, Any], named: Iterable[Any], found: Sequence[Any]) -> None:
        """Note under their names in `values` what was found, and which numbers are tensors."""
        for value, result in zip(named, found, strict=True):
            values[value.debugName()] = result
            if not is_tensor(value) and isinstance(result, Tensor):
                self._from_data.add(value.debugName())

    def _changed(self, node: Any, inputs: Sequence[Any]) -> list[Any]:
        change = _CHANGES.get(node.kind())
        if change is None or any(held is inputs[0] for held in self._outside):
            raise NotFollowedError(f"{node.kind()} changes a list or dictionary within a branch")
        change(*inputs)
        return [inputs[0] for _ in node.outputs()]

    def _repeat(self, node: Any, inputs: Sequence[Any], values: dict[str, Any]) -> list[Any]:
        times, again, *carried = inputs
        (block,) = node.blocks()
        done = 0
        while True:
            if isinstance(times, Tensor) or isinstance(again, Tensor):
                raise NotFollowedError("a loop runs as often as a tensor's entries say")
            if not again or done >= times:
                return carried
            inside = dict(values)
            self._bind(inside, block.inputs(), (done, *carried))
            again, *carried = self._run(block, inside)
            done += 1

    def _choose(self, node: Any, condition: Any, values: dict[str, Any]) -> list[Any]:
        then, otherwise = node.blocks()
        if not isinstance(condition, Tensor):
            return self._run(then if condition else otherwise, values)
        checks = [block for block in (then, otherwise) if not _raises(block)]
        if len(checks) == 1:
            self.met.unchecked.append(node.sourceRange())
            return self._run(checks[0], values)
        self.met.chosen.append(node.sourceRange())
        names = {value.debugName() for block in (then, otherwise) for value in _read_within(block)}
        leaves, spec = torch_private.flatten({name: values[name] for name in sorted(names)})
        tensors = tuple(leaf for leaf in leaves if isinstance(leaf, Tensor))
        # A way may not write to what it is given: it writes to copies, which come back.
        writes = any(map(script_graph.writes_within, (then, otherwise)))
        written = [writes and id(x) not in self._held for x in tensors]
        nesting: list[Any] = []

        def way(block: Any) -> Callable[..., tuple[Tensor, ...]]:
            def run(*operands: Tensor) -> tuple[Tensor, ...]:
                pairs = zip(operands, written, strict=True)
                own = [x.clone() if is_written else x for x, is_written in pairs]
                given = iter(own)
                filled = [next(given) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
                inside = torch_private.unflatten(filled, spec)
                self._outside += [held for held in inside.values() if isinstance(held, list | dict)]
                found = self._run(block, inside)
                pairs = zip(node.outputs(), found, strict=True)
                flat, kind = torch_private.flatten([_as_tensor(v, r) for v, r in pairs])
                rest = [None if isinstance(leaf, Tensor) else leaf for leaf in flat]
                nesting.append((rest, kind))
                made = [leaf for leaf in flat if isinstance(leaf, Tensor)]
                return (*compress(own, written), *made)

            return run

        taken = iter(choose(condition, way(then), way(otherwise), tensors))
        for tensor in compress(tensors, written):
            tensor.copy_(next(taken))
        if any(other != nesting[0] for other in nesting):
            raise NotFollowedError("two ways of a branch give values of different kinds")
        rest, kind = nesting[0]
        filled = [next(taken) if leaf is None else leaf for leaf in rest]
        results: list[Any] = torch_private.unflatten(filled, kind)
        return results


def _computed(node: Any, inputs: Sequence[Any]) -> Tensor:
    """What a node makes of a tensor's number, or of numbers that came from some."""
    kind = node.kind()
    if kind == "aten::tensor" and not isinstance(inputs[0], Tensor):
        data, kind_of_number, device, _ = inputs
        # TorchScript has numbers for dtypes.
        dtype = None if kind_of_number is None else aten.zeros([], dtype=kind_of_number).dtype
        if isinstance(data, list):
            return torch.tensor(data, dtype=dtype, device=device)
        return torch.full((), data, dtype=dtype, device=device)
    if kind in TO_NUMBER:
        held: Tensor = inputs[0]
        number = held.reshape(()) if held.dim() else held
        dtype = TO_NUMBER[kind] or number.dtype
        return number if number.dtype is dtype else number.to(dtype)
    given = inputs
    if not any(is_tensor(value) for value in node.inputs()):
        pairs = zip(node.inputs(), inputs, strict=True)
        given = [_as_tensor(value, number) for value, number in pairs]
    operation = _LOGIC.get(kind) or getattr(aten, kind.removeprefix("aten::"), None)
    if operation is None:
        raise NotFollowedError(f"{kind} reads a number that a tensor holds")
    result = operation(*given)
    if not isinstance(result, Tensor):
        raise NotFollowedError(f"{kind} reads a number that a tensor holds")
    return result


def _as_tensor(value: Any, number: Any) -> Any:
    """A number as a tensor without dimensions; what is none of TorchScript's, as it is."""
    dtype = _DTYPES.get(value.type().kind())
    if dtype is None:
        return number
    if isinstance(number, Tensor):
        return number.to(dtype)
    return torch.full((), number, dtype=dtype)


def _raises(block: Any) -> bool:
    return any(node.kind() == "prim::RaiseException" for node in block.nodes())


def _read(node: Any) -> Iterator[Any]:
    """The values that a node reads, and that are read within it and come from outside."""
    yield from node.inputs()
    for block in node.blocks():
        yield from _read_within(block)


def _read_within(block: Any) -> Iterator[Any]:
    made = {value.debugName() for value in block.inputs()}
    for node in block.nodes():
        yield from (value for value in _read(node) if value.debugName() not in made)
        made.update(value.debugName() for value in node.outputs())
    yield from (value for value in block.outputs() if value.debugName() not in made)
