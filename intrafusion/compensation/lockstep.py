"""The lockstep run: original and compressed side by side, each layer refitted as it is reached.

Everything before the layer at hand is corrected already, so a layer is fitted on exactly what it
will read, to what the original put out there — not to what the original layer would make of the
compressed input, which would let errors pile up.

The samples go through in parts. The original runs once, and leaves at each layer the rows that
its refit needs. The compressed program runs from one refit to the next; what lies between is put
aside. So memory does not grow with the number of samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx

from intrafusion.batches import samples_at_a_time
from intrafusion.channels import Analysis, Removal
from intrafusion.compensation.layers import Fit, Layer, Place, Record, Sides, layers_of
from intrafusion.compensation.layers.flat import added_to
from intrafusion.compensation.layers.layer import put_together
from intrafusion.compensation.parts import parts
from intrafusion.compensation.schedule import Stage, stages, with_ends
from intrafusion.compensation.shelf import Shelf
from intrafusion.devices import room
from intrafusion.fusion import Maps
from intrafusion.program.nodes import call

RIDGE, RIDGE_OF_FEW, FEW_SAMPLES = 1e-3, 1e-2, 64


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
    sides = Sides(analysis, removal, maps, dict(removal.program.tensors))
    due = _due(sides)
    total = len(set(due.values()))
    run = _Run(sides, due, samples, seed)
    fits: list[Fit] = []
    with torch.no_grad(), Shelf(room(analysis.program.device)) as shelf:
        if due:
            run.watch_original(shelf)
        for stage in run.stages:
            run.advance(stage, shelf)
            for twin in stage.fits:
                fits.append(run.refit(twin, shelf))
                progress(len(fits), total)
    held_out = [fit.held_out for fit in fits if fit.held_out is not None]
    return Refit(
        sides.tensors,
        len(fits),
        sum(fit.seen for fit in fits) / len(fits) if fits else None,
        sum(held_out) / len(held_out) if held_out else None,
    )


def _due(sides: Sides) -> dict[fx.Node, Layer]:
    """The layers to refit, by their nodes in the original."""
    changed = _changed(sides)
    return {
        node: layer
        for layer in layers_of(sides.analysis.program.graph)
        if layer.is_due(sides, reads_changed=not changed.isdisjoint(layer.sources))
        for node in layer.nodes
    }


def _changed(sides: Sides) -> set[fx.Node]:
    """The nodes of the original whose value is not the same in the compressed program."""
    before, after = sides.original, sides.removal.program.tensors
    changed: set[fx.Node] = set()
    for node in sides.analysis.program.graph.nodes:
        if node.op == "get_attr":
            if not torch.equal(before[node.target], after[node.target]):
                changed.add(node)
        elif any(source in changed for source in node.all_input_nodes):
            changed.add(node)
    return changed


class _Run:
    """Both programs, some samples at a time."""

    def __init__(
        self,
        sides: Sides,
        due: Mapping[fx.Node, Layer],
        samples: tuple[Tensor, ...],
        seed: int,
    ) -> None:
        self.sides, self.samples = sides, samples
        analysis, twins = sides.analysis, sides.removal.twins
        self.layers = {twins[node]: layer for node, layer in due.items()}
        total = len(samples[0])
        self.parts = parts(total, samples_at_a_time(analysis.program, analysis.walk))
        self.ridge = RIDGE if total >= FEW_SAMPLES else RIDGE_OF_FEW
        self.generator = torch.Generator().manual_seed(seed)
        partners = {
            twins[node]: added_to(node, analysis.walk) if layer.makes_up else None
            for node, layer in due.items()
        }
        beside = {twin: None if node is None else twins[node] for twin, node in partners.items()}
        self.stages = stages(sides.removal.program.graph, self.layers, beside.__getitem__)
        self.skips = {twin: partners[twin] for twin in _skips(self.stages, beside)}
        self.records: dict[tuple[fx.Node, int], Record] = {}

    def watch_original(self, shelf: Shelf) -> None:
        """Run the original on all parts, and put aside what each layer's refit needs."""
        graph = self.sides.analysis.program.graph
        twins = self.sides.removal.twins
        watched = {node: twins[node] for layer in self.layers.values() for node in layer.nodes}
        inputs = graph.find_nodes(op="placeholder")
        nodes = list(self._original_order())
        for number, part in enumerate(self.parts):
            values = dict(zip(inputs, part.of(self.samples), strict=True))
            for node, ended in with_ends(nodes):
                if node.op == "call_function":
                    values[node] = _execute(node, values, self.sides.original)
                if node in watched:
                    twin = watched[node]
                    place = Place(node, values, self.skips.get(twin), part.share, self.generator)
                    record = self.layers[twin].watch(self.sides, place)
                    shelf.put((twin, number), record.rows)
                    self.records[twin, number] = replace(record, rows={})
                for source in ended:
                    del values[source]

    def _original_order(self) -> Iterator[fx.Node]:
        """The original's nodes in the order of their twins, layers where they are refitted.

        As far as the last node at which one of them stands.
        """
        origin = {twin: node for node, twin in self.sides.removal.twins.items()}
        for stage in self.stages:
            for twin in (*(node for node, _ in stage.nodes), *stage.fits):
                # A layer has run when it was refitted; what resizing put in has no original.
                if (node := origin.pop(twin, None)) is not None:
                    yield node
        left = [twin for twin in origin if origin[twin].op == "call_function"]
        watched = [place for place, twin in enumerate(left, 1) if twin in self.layers]
        yield from (origin[twin] for twin in left[: max(watched, default=0)])

    def advance(self, stage: Stage, shelf: Shelf) -> None:
        """Run the compressed program on all parts until the layers that `stage` refits."""
        inputs = self.sides.removal.program.graph.find_nodes(op="placeholder")
        for number, part in enumerate(self.parts):
            values = _Recalled(shelf, number)
            for node, ended in stage.nodes:
                if node.op == "placeholder":
                    values[node] = part.of(self.samples)[inputs.index(node)]
                else:
                    values[node] = _execute(node, values, self.sides.tensors)
                for source in ended:
                    values.forget(source)
            for twin in stage.fits:
                rows = self.layers[twin].read(
                    self.sides, values, self.skips.get(twin), self.records.pop((twin, number))
                )
                shelf.put((twin, number, "read"), rows)
            for node in stage.leaves:
                shelf.put((number, node), values[node])

    def refit(self, twin: fx.Node, shelf: Shelf) -> Fit:
        """Refit the layer at `twin` on what both programs had of all parts."""
        layer, twins = self.layers[twin], self.sides.removal.twins
        taken = [
            put_together([shelf.take((twins[node], number)) for node in layer.nodes])
            | shelf.take((twin, number, "read"))
            for number in range(len(self.parts))
        ]
        seen = sum(
            len(rows["wanted"])
            for part, rows in zip(self.parts, taken, strict=True)
            if not part.held_out
        )
        rows = put_together(taken)
        return layer.refit(self.sides, rows, seen, self.ridge)


class _Recalled(dict[fx.Node, Any]):
    """Values of one part of the samples; what earlier stages left is fetched where it is read."""

    def __init__(self, shelf: Shelf, number: int) -> None:
        super().__init__()
        self._shelf, self._number = shelf, number

    def __missing__(self, node: fx.Node) -> Any:
        self[node] = value = self._shelf.get((self._number, node))
        return value

    def forget(self, node: fx.Node) -> None:
        """Drop a value that nothing reads any more."""
        self.pop(node, None)
        if (self._number, node) in self._shelf:
            self._shelf.drop((self._number, node))


def _skips(
    order: tuple[Stage, ...], partners: Mapping[fx.Node, fx.Node | None]
) -> Iterator[fx.Node]:
    """The layers whose partner in a sum the compressed program has computed when they are due."""
    ran: set[fx.Node] = set()
    for stage in order:
        ran.update(node for node, _ in stage.nodes)
        yield from (twin for twin in stage.fits if partners[twin] in ran)


def _execute(node: fx.Node, values: Mapping[fx.Node, Any], tensors: Mapping[str, Tensor]) -> Any:
    def look_up(source: fx.Node) -> Any:
        # Parameters are read where they are used: a refit may have changed them meanwhile.
        return tensors[str(source.target)] if source.op == "get_attr" else values[source]

    return call(node, fx.map_arg(node.args, look_up), fx.map_arg(node.kwargs, look_up))
