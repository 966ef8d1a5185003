"""The same network through Torch-Pruning, which works on the nn.Module it was built from."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
import torch_pruning as tp
from torch import nn

import intrafusion
from benchmarks.architectures import named, randomise
from benchmarks.published import PUBLISHED
from benchmarks.zoo.row import EXAMPLE_BATCH, line_of, median_seconds, tensors_of
from intrafusion.channels import analyse

TORCH_PRUNING = "torch-pruning"


@dataclass(frozen=True)
class PeerRow:
    """One architecture through Torch-Pruning.

    Attributes:
        architecture: its name in the zoo.
        graph_seconds: building the dependency graph; None where that fails.
        left: share of parameter elements after half of every group's channels were to go.
        failure: what went wrong: building, pruning, running afterwards, or other output shapes.
    """

    architecture: str
    graph_seconds: float | None = None
    left: float | None = None
    failure: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def measure_peer(name: str) -> PeerRow:
    """Torch-Pruning at its defaults, told which layers make the outputs and so must stay."""
    architecture, row = named(name), PeerRow(name)
    torch.manual_seed(0)
    network = randomise(architecture.build())
    inputs = architecture.inputs(EXAMPLE_BATCH)
    before = sum(p.numel() for p in network.parameters())
    with torch.no_grad():
        shapes = [t.shape for t in tensors_of(network(*inputs))]
    last = _output_layers(network, inputs)
    try:
        step = "graph"
        row = replace(row, graph_seconds=_graph_seconds(network, inputs, name))
        step = "prune"
        pruner = tp.pruner.BasePruner(
            network,
            inputs,
            importance=tp.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=0.5,
            ignored_layers=last,
        )
        pruner.step()
        row = replace(row, left=sum(p.numel() for p in network.parameters()) / before)
        step = "run"
        with torch.no_grad():
            found = [t.shape for t in tensors_of(network(*inputs))]
    except Exception as failure:  # noqa: BLE001 - a table of what fails needs all that fails
        return replace(row, failure=f"{step}: {line_of(failure)}")
    if found != shapes:
        return replace(row, failure=f"run: outputs of shape {found}, not {shapes}")
    if row.left == 1:
        return replace(row, failure="prune: nothing was removed")
    return row


def _graph_seconds(network: nn.Module, inputs: tuple[torch.Tensor, ...], name: str) -> float:
    """The time of its analysis, on the network in its published size."""
    if (published := PUBLISHED.get(name)) is not None:
        network, inputs = published.build(), published.shortest(EXAMPLE_BATCH)
    return median_seconds(lambda: tp.DependencyGraph().build_dependency(network, inputs))


def _output_layers(network: nn.Module, inputs: tuple[torch.Tensor, ...]) -> list[nn.Module]:
    """The layers whose channels are outputs, which a user of Torch-Pruning has to name."""
    analysis = analyse(intrafusion.load(network, example_inputs=inputs))
    names = {f.tensor.rpartition(".")[0] for f in analysis.frozen if f.op == "output"}
    modules = dict(network.named_modules())
    return [modules[name] for name in sorted(names) if name in modules]
