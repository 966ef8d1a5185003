"""The lockstep run: original and compressed side by side, each layer refitted as it is reached.

Everything before the layer at hand is corrected already, so a layer is fitted on exactly what it
will read, to what the original put out there — not to what the original layer would make of the
compressed input, which would let errors pile up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx

from intrafusion.channels import Analysis, Removal, Role
from intrafusion.compensation.layers import (
    Layer,
    Picks,
    flat_parts,
    input_rows,
    layer_of,
    output_rows,
    pick,
)
from intrafusion.compensation.ridge import Rows, Solution, residual, solve, solve_channels
from intrafusion.fusion import Maps, fuse_dimension
from intrafusion.program.nodes import arguments, call, count_uses, name_of

MAX_ROWS = 20_000
WIDE = 2_000
"""Above this many inputs (channels × taps) one matrix over channels serves all taps."""
RIDGE, RIDGE_OF_FEW, FEW_SAMPLES = 1e-3, 1e-2, 64
HOLDOUT = 10
"""One sample in so many is kept out of the fit, to tell whether it holds elsewhere."""


@dataclass(frozen=True)
class Refit:
    """The corrected tensors of the compressed program, and how well they fit.

    Attributes:
        tensors: all parameters and buffers of the compressed program.
        layers: number of layers refitted.
        fit_error: squared error relative to the variance of what was wanted, mean over layers.
        holdout_error: the same on samples that were kept out; None if there were too few.
    """

    tensors: dict[str, Tensor]
    layers: int
    fit_error: float | None
    holdout_error: float | None


@dataclass(frozen=True)
class _Run:
    """Both programs in the middle of their run: values so far, and the tensors as corrected."""

    analysis: Analysis
    removal: Removal
    maps: Maps
    tensors: dict[str, Tensor]
    generator: torch.Generator
    original: dict[fx.Node, Any] = field(default_factory=dict)
    compressed: dict[fx.Node, Any] = field(default_factory=dict)

    def twin(self, node: fx.Node) -> Any:
        """What the compressed program has where the original has `node`."""
        return self.compressed.get(self.removal.twins[node])


def refit(
    analysis: Analysis,
    removal: Removal,
    maps: Maps,
    samples: tuple[Tensor, ...],
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Refit:
    """Refit every layer of the compressed program that reads something changed.

    Args:
        analysis: of the original program.
        removal: the compressed program, fused but not corrected.
        maps: how each group was fused.
        samples: one tensor per input, (samples, …).
        seed: of the choice of positions.
        progress: called with the number of layers done and their total.
    """
    uses = count_uses(analysis.program.graph)
    changed = _changed(analysis, removal)
    due = {
        node: layer
        for node in analysis.program.graph.nodes
        if (layer := layer_of(node, uses)) is not None and node.args[0] in changed
    }
    origin = {twin: node for node, twin in removal.twins.items()}
    generator = torch.Generator().manual_seed(seed)
    run = _Run(analysis, removal, maps, dict(removal.program.tensors), generator)
    inputs = iter(samples)
    errors: list[tuple[float, float | None]] = []
    with torch.no_grad():
        for twin in removal.program.graph.nodes:
            node = origin.get(twin)
            if twin.op == "placeholder":
                assert node is not None
                run.original[node] = run.compressed[twin] = next(inputs)
            elif twin.op == "call_function":
                if node is not None:
                    run.original[node] = _execute(node, run.original, analysis.program.tensors)
                    if node in due:
                        errors.append(_refit_layer(run, due[node]))
                        progress(len(errors), len(due))
                run.compressed[twin] = _execute(twin, run.compressed, run.tensors)
                _forget(run, twin, node)
    held_out = [holdout for _, holdout in errors if holdout is not None]
    return Refit(
        run.tensors,
        len(errors),
        sum(fit for fit, _ in errors) / len(errors) if errors else None,
        sum(held_out) / len(held_out) if held_out else None,
    )


def _changed(analysis: Analysis, removal: Removal) -> set[fx.Node]:
    """The nodes of the original whose value is not the same in the compressed program."""
    before, after = analysis.program.tensors, removal.program.tensors
    changed: set[fx.Node] = set()
    for node in analysis.program.graph.nodes:
        if node.op == "get_attr":
            if not torch.equal(before[node.target], after[node.target]):
                changed.add(node)
        elif any(source in changed for source in node.all_input_nodes):
            changed.add(node)
    return changed


def _execute(node: fx.Node, values: Mapping[fx.Node, Any], tensors: Mapping[str, Tensor]) -> Any:
    def look_up(source: fx.Node) -> Any:
        # Parameters are read where they are used: a refit may have changed them meanwhile.
        return tensors[str(source.target)] if source.op == "get_attr" else values[source]

    return call(node, fx.map_arg(node.args, look_up), fx.map_arg(node.kwargs, look_up))


def _forget(run: _Run, twin: fx.Node, node: fx.Node | None) -> None:
    """Drop the values that nothing reads any more."""
    for values, reader in ((run.compressed, twin), (run.original, node)):
        for source in () if reader is None else reader.all_input_nodes:
            if all(user in values for user in source.users):
                values[source] = None


def _refit_layer(run: _Run, layer: Layer) -> tuple[float, float | None]:
    """Refit one layer; returns its relative error on the samples seen, and on those held out."""
    value: Tensor = run.original[layer.node]
    weight = run.tensors[layer.weight]
    picks = pick(value.shape, layer.channel_dim, MAX_ROWS, run.generator)
    rows = Rows(
        input_rows(layer, run.twin(arguments(layer.node)[0]), weight.shape[2:], picks),
        *_wanted(run, layer, picks),
    )
    held = (picks.sample % HOLDOUT == HOLDOUT - 1).to(value.device)
    seen, unseen = _part(rows, ~held), _part(rows, held)
    ridge = RIDGE if value.shape[0] >= FEW_SAMPLES else RIDGE_OF_FEW
    intercept = layer.bias is not None

    if layer.kind == "norm":
        solution = solve_channels(seen, _norm_scale(run, layer), ridge, intercept=intercept)
        _write_norm(run, layer, solution, seen.read)
    else:
        if layer.kind == "depthwise":
            if weight.shape[1] > 1:
                return _relative(seen, unseen, Solution(weight.flatten(1), None))
            solution = solve_channels(seen, weight.flatten(1), ridge, intercept=intercept)
        elif weight[0].numel() > WIDE:
            matrix = _channel_matrix(run, layer, ridge)
            solution = _with_offset(seen, _through(run, layer, matrix), intercept=intercept)
        else:
            solution = solve(seen, weight.flatten(1), ridge, intercept=intercept)
        run.tensors[layer.weight] = solution.weight.reshape(weight.shape).to(weight)
        if layer.bias is not None and solution.bias is not None:
            run.tensors[layer.bias] = solution.bias.to(weight)
    return _relative(seen, unseen, solution)


def _wanted(
    run: _Run, layer: Layer, picks: Picks
) -> tuple[Tensor, Tensor | None, float | None, float | None]:
    """What the layer should put out, what is then added to it, and where the result is flat.

    If the output goes into a sum whose other part is known, the layer also makes up for what is
    wrong with that part.
    """
    wanted = _mapped(run, layer, output_rows(run.original[layer.node], layer.channel_dim, picks))
    skip = _skip(run, layer.node)
    if skip is None:
        return wanted, None, *flat_parts(layer.node)
    skipped = _mapped(run, layer, output_rows(run.original[skip], layer.channel_dim, picks))
    added = output_rows(run.twin(skip), layer.channel_dim, picks)
    return wanted + skipped - added, added, *flat_parts(next(iter(layer.node.users)))


def _skip(run: _Run, node: fx.Node) -> fx.Node | None:
    """What `node` alone is added to, if both programs have computed it already."""
    users = list(node.users)
    if len(users) != 1 or name_of(users[0]) != "add" or users[0].kwargs.get("alpha", 1) != 1:
        return None
    others = [a for a in users[0].all_input_nodes if a is not node]
    if len(others) != 1 or not isinstance(run.twin(others[0]), Tensor):
        return None
    return others[0] if run.original[others[0]].shape == run.original[node].shape else None


def _mapped(run: _Run, layer: Layer, rows: Tensor) -> Tensor:
    """Rows (r, o) of the original's output, fused and cut to the kept channels: (r, o′)."""
    for group, binding in run.analysis.bindings.get((layer.weight, 0), ()):
        if group in run.maps:
            along = replace(binding, dim=1, role=Role.PRODUCER)
            rows = fuse_dimension(rows, along, run.maps[group])
    return _cut(run, layer, 0, rows)


def _cut(run: _Run, layer: Layer, dim: int, rows: Tensor) -> Tensor:
    staying = run.removal.staying.get((layer.weight, dim))
    return rows if staying is None else rows.index_select(1, staying.to(rows.device))


def _channel_matrix(run: _Run, layer: Layer, ridge: float) -> Tensor:
    """B (i, i′), which rebuilds the original's input channels from the compressed ones.

    Its prior is the consumer map Q.
    """
    source = arguments(layer.node)[0]
    before: Tensor = run.original[source]
    picks = pick(before.shape, layer.channel_dim, MAX_ROWS, run.generator)
    rows = Rows(
        output_rows(run.twin(source), layer.channel_dim, picks),
        output_rows(before, layer.channel_dim, picks),
    )
    prior = torch.eye(before.shape[layer.channel_dim], device=before.device)
    for group, binding in run.analysis.bindings.get((layer.weight, 1), ()):
        if group in run.maps:
            prior = fuse_dimension(prior, binding, run.maps[group])
    return solve(rows, _cut(run, layer, 1, prior), ridge, intercept=True).weight


def _through(run: _Run, layer: Layer, matrix: Tensor) -> Tensor:
    """W·B (o′, i′ · taps): the original weight, its outputs fused, reading through B (i, i′)."""
    weight = run.analysis.program.tensors[layer.weight]
    outputs_last = weight.movedim(0, -1)
    fused = _mapped(run, layer, outputs_last.flatten(0, -2))
    fused = fused.reshape(*outputs_last.shape[:-1], -1)
    return torch.einsum("i...o,ij->oj...", fused, matrix.to(weight)).flatten(1)


def _with_offset(rows: Rows, weight: Tensor, *, intercept: bool) -> Solution:
    bias = (rows.wanted - rows.read.flatten(1) @ weight.T).double().mean(0)
    return Solution(weight, bias if intercept else None)


def _norm_scale(run: _Run, layer: Layer) -> Tensor:
    """γ/σ (channels, 1) of a norm as fused."""
    gamma, variance = run.tensors[layer.weight], run.tensors[str(layer.tensors[3])]
    return (gamma / torch.sqrt(variance + arguments(layer.node)[7]))[:, None]


def _write_norm(run: _Run, layer: Layer, solution: Solution, read: Tensor) -> None:
    """A norm that does x ↦ a·x + b, with the statistics of what it reads now."""
    mean, variance = read.double().mean(0), read.double().var(0, correction=0)
    scale = solution.weight[:, 0].double()
    assert solution.bias is not None
    gamma = scale * torch.sqrt(variance + arguments(layer.node)[7])
    values = (gamma, solution.bias + scale * mean, mean, variance)
    for name, value in zip(layer.tensors, values, strict=True):
        run.tensors[str(name)] = value.to(run.tensors[str(name)])


def _part(rows: Rows, mask: Tensor) -> Rows:
    added = None if rows.added is None else rows.added[mask]
    return replace(rows, read=rows.read[mask], wanted=rows.wanted[mask], added=added)


def _relative(seen: Rows, unseen: Rows, solution: Solution) -> tuple[float, float | None]:
    fit = residual(seen, solution)
    return fit, residual(unseen, solution) if len(unseen.wanted) else None
