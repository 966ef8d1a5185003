"""The one form in which the engine sees any network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from intrafusion.program.branch import copied, nodes_within
from intrafusion.program.plan import Plan

if TYPE_CHECKING:
    from torch.utils._pytree import TreeSpec


@dataclass(frozen=True)
class Program:
    """A network as an ATen graph with its parameters. Never mutated: every step makes a new one.

    The graph is functional (no in-place op) and in the normal form of
    `intrafusion.program.normalise`. Its nodes are

    - `placeholder`: one per input tensor, in the order of `example_inputs`;
    - `get_attr`: a parameter or buffer, its target the key in `tensors`;
    - `call_function`: an `OpOverload` of ATen, a Python operator on sizes, or a `Branch`;
    - `output`: a tuple of the output tensors.

    Attributes:
        graph: the ATen graph; any batch size runs.
        tensors: parameters and buffers under their original fully qualified names.
        trainable: which of `tensors` are parameters; the others are buffers.
        example_inputs: one tensor per placeholder with a batch of 2 in dimension 0.
        out_spec: how the flat outputs nest in what the network returns.
        source: the form the program came in: `module`, `torchscript`, `exported`, `state_dict`.
        notes: what the user should know about the capture; ends up in the report's warnings.
        aliases: further names of tied parameters, each to the one under which `tensors` and the
            graph have it; files that are written have both.
        plan: where a compression made the program, what became of the original's tensors.
    """

    graph: fx.Graph
    tensors: Mapping[str, Tensor]
    trainable: frozenset[str]
    example_inputs: tuple[Tensor, ...]
    out_spec: TreeSpec
    source: str
    notes: tuple[str, ...] = field(default=())
    aliases: Mapping[str, str] = field(default_factory=dict)
    plan: Plan | None = None

    def __call__(self, *inputs: Tensor) -> Any:
        """Run the network on one tensor per input, batch first; nests outputs as the original."""
        with torch.no_grad():
            outputs = self._runner(*inputs)
        return torch.utils._pytree.tree_unflatten(list(outputs), self.out_spec)

    def outputs(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run the network; returns its output tensors as a flat tuple."""
        with torch.no_grad():
            outputs: tuple[Tensor, ...] = self._runner(*inputs)
        return outputs

    def network(self) -> fx.GraphModule:
        """A module that computes the program; its parameters are the program's tensors."""
        return fx.GraphModule(module_tree(self.tensors, self.trainable), self.graph)

    @cached_property
    def _runner(self) -> fx.GraphModule:
        return self.network()

    @property
    def parameter_count(self) -> int:
        """Number of parameter elements; buffers are not counted."""
        return sum(self.tensors[name].numel() for name in self.trainable)

    @property
    def device(self) -> torch.device:
        return next((t.device for t in self.tensors.values()), torch.device("cpu"))

    def with_notes(self, *notes: str) -> Program:
        """The same program with `notes` after its own."""
        return replace(self, notes=(*self.notes, *notes))

    def to(self, device: torch.device | str) -> Program:
        """The same program with its tensors, example inputs and new tensors on `device`."""
        return replace(
            self,
            graph=_on_device(self.graph, torch.device(device)),
            tensors={name: t.to(device) for name, t in self.tensors.items()},
            example_inputs=tuple(x.to(device) for x in self.example_inputs),
        )

    def save(self, path: str | Path, format: str | None = None) -> Path:  # noqa: A002
        """Write the program to `path`; see `intrafusion.program.emit` for the formats.

        Without `format` the file's ending decides. Raises `IntraFusionError` with
        `FORMAT_NOT_POSSIBLE`; nothing half-written is left behind.
        """
        from intrafusion.program.emit import save

        return save(self, path, format)


def _on_device(graph: fx.Graph, device: torch.device) -> fx.Graph:
    """The graph with every device that an operation names exchanged for `device`."""
    named = [node for node in nodes_within(graph) if "device" in node.kwargs]
    if all(node.kwargs["device"] in (None, device) for node in named):
        return graph
    result = copied(graph, partial(_on_device, device=device))
    for node in result.nodes:
        if node.kwargs.get("device") is not None:
            node.update_kwarg("device", device)
    return result


def module_tree(
    tensors: Mapping[str, Tensor], trainable: frozenset[str], root: nn.Module | None = None
) -> nn.Module:
    """A tree of bare modules that holds `tensors` under their dotted names, below `root`."""
    root = nn.Module() if root is None else root
    for name, tensor in tensors.items():
        *path, leaf = name.split(".")
        owner = root
        for part in path:
            if part not in owner._modules:
                owner.add_module(part, nn.Module())
            owner = owner.get_submodule(part)
        if name in trainable:
            owner.register_parameter(leaf, nn.Parameter(tensor, requires_grad=False))
        else:
            owner.register_buffer(leaf, tensor)
    return root
