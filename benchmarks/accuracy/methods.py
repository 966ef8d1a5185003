"""Who takes part: ours through the door that users take, and the peers with their best choices.

Ours is the default of the spec. As its groups share the loss unevenly, it keeps as many channels
as the peers do and more of the multiply-accumulates, so it also runs with no more of these, nor of
the parameters, than an even share would leave.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from torch import Tensor, nn

import intrafusion
from benchmarks.accuracy.rows import Data, Row
from benchmarks.measure import Size, accuracy, predict, size
from benchmarks.peers import magnitude, model_folding, published_intra_fusion
from examples.trained import Trained, load
from intrafusion import CompressionSpec
from intrafusion.evaluation import latencies

OURS = "Intra-Fusion"
OURS_EQUAL = "Intra-Fusion, as small as the peers"
RESTATED_FOR = ("fashion_vgg", "fashion_resnet", "mnist_mlp")
"""The peers restated here know convolutions, linear layers and sums, as in their papers."""

LATENCY_SECONDS = 2.0

Method = Callable[[Trained, float, Sequence[int]], Iterator[Row]]


def original(bench: Trained) -> Row:
    """The network as it was trained."""
    counted = size(bench.program)
    found = accuracy(predict(bench.network, bench.test), bench.test)
    return Row(bench.name, "original", "", "", 0.0, [found], counted.parameters, counted.macs, 0.0)


def ours(bench: Trained, sparsity: float, seeds: Sequence[int]) -> Iterator[Row]:
    """From the TorchScript file, as many channels as the peers keep."""
    yield from _with_and_without_samples(bench, OURS, sparsity, seeds, {"sparsity": sparsity})


def ours_equal(bench: Trained, sparsity: float, seeds: Sequence[int]) -> Iterator[Row]:
    """From the TorchScript file, as many parameters and MACs as an even share leaves at most."""
    even = CompressionSpec(
        sparsity=sparsity, importance="l1", allocation="uniform", compensation="none"
    )
    planned = intrafusion.plan(bench.program, even)
    before, after = planned.before, planned.after
    budget = {
        "parameters": after.parameters / before.parameters,
        "macs": after.macs / before.macs,
    }
    yield from _with_and_without_samples(bench, OURS_EQUAL, sparsity, seeds, budget)


def published(bench: Trained, sparsity: float, seeds: Sequence[int]) -> Iterator[Row]:
    """Intra-Fusion as its authors published it: restated, or by the engine's restatement."""
    if bench.name in RESTATED_FOR:
        made = _peer(bench, lambda: published_intra_fusion.compress(bench.network, sparsity))
    else:
        spec = CompressionSpec(sparsity=sparsity, method="intra-fusion-published")
        made = _ours(bench, spec, None)
    yield _row(bench, "Intra-Fusion as published", "none", sparsity, [made])


def torch_pruning(bench: Trained, sparsity: float, seeds: Sequence[int]) -> Iterator[Row]:
    """Torch-Pruning, each time with the criterion that does best on the held-out samples."""
    (samples,) = bench.calibration.inputs
    pruned = {}
    for name in magnitude.criteria_for(bench.network):
        with suppress(magnitude.DoesNotRunError):
            pruned[name] = _peer(
                bench,
                lambda name=name: magnitude.prune(
                    bench.network, sparsity, name, samples.shape[1:], samples.dtype
                ),
            )
    if not pruned:
        return
    yield _best(bench, "Torch-Pruning 1.6.1", "none", sparsity, pruned)
    if not magnitude.has_norms(bench.network):
        return
    estimated = {
        name: _peer(bench, lambda made=made: magnitude.reestimate_batch_norm(made.network, samples))
        for name, made in pruned.items()
    }
    name = "Torch-Pruning 1.6.1 + batch norm re-estimated"
    yield _best(bench, name, "unlabelled", sparsity, estimated)


def folding(bench: Trained, sparsity: float, seeds: Sequence[int]) -> Iterator[Row]:
    """Model Folding, clustering units as they are or their directions, whichever is better."""
    if bench.name not in RESTATED_FOR:
        return
    (images,) = bench.calibration.inputs
    repairs: dict[model_folding.Repair, Data] = {"naive": "none"}
    if magnitude.has_norms(bench.network):
        repairs |= {"AR": "none", "R": "unlabelled"}
    for repair, data in repairs.items():
        made = {
            "directions" if normalised else "units": [
                _peer(
                    bench,
                    lambda repair=repair, normalised=normalised, seed=seed: model_folding.compress(
                        bench.network, sparsity, repair, images, normalised=normalised, seed=seed
                    ),
                )
                for seed in seeds
            ]
            for normalised in (False, True)
        }
        best = max(made, key=lambda clustered: made[clustered][0].held_out)
        yield _row(bench, f"Model Folding {repair}", data, sparsity, made[best], best)


METHODS: dict[str, Method] = {
    "ours": ours,
    "ours-equal": ours_equal,
    "published": published,
    "torch-pruning": torch_pruning,
    "model-folding": folding,
}


@dataclass(frozen=True)
class _Made:
    """A smaller network, and what there is to say of it."""

    network: Callable[[Tensor], Tensor]
    size: Size
    seconds: float
    latency: float
    accuracy: float
    held_out: float


def _with_and_without_samples(
    bench: Trained,
    name: str,
    sparsity: float,
    seeds: Sequence[int],
    budget: dict[str, float],
) -> Iterator[Row]:
    """A row from the unlabelled samples, and one from none."""
    given: dict[Data, intrafusion.Dataset | None] = {
        "unlabelled": bench.calibration,
        "none": None,
    }
    for data, samples in given.items():
        specs = [CompressionSpec(seed=seed, **budget) for seed in seeds]
        made = [_ours(bench, spec, samples) for spec in specs]
        yield _row(bench, name, data, sparsity, made)


def _ours(bench: Trained, spec: CompressionSpec, samples: intrafusion.Dataset | None) -> _Made:
    began = time.perf_counter()
    result = intrafusion.compress(bench.program, spec, samples)
    seconds = time.perf_counter() - began
    return _made(bench, result.program, result.program, seconds)


def _peer(bench: Trained, make: Callable[[], nn.Module]) -> _Made:
    began = time.perf_counter()
    network = make()
    seconds = time.perf_counter() - began
    program = load(network, bench.test)
    return _made(bench, network, program, seconds)


def _made(
    bench: Trained,
    network: Callable[[Tensor], Tensor],
    program: intrafusion.Program,
    seconds: float,
) -> _Made:
    before, after = latencies([bench.program, program], seconds=LATENCY_SECONDS)
    return _Made(
        network,
        size(program),
        seconds,
        after.median_ms / before.median_ms,
        accuracy(predict(network, bench.test), bench.test),
        accuracy(predict(network, bench.held_out), bench.held_out),
    )


def _best(bench: Trained, name: str, data: Data, sparsity: float, made: dict[str, _Made]) -> Row:
    """Of several choices the one that does best on the held-out samples."""
    best = max(made, key=lambda choice: made[choice].held_out)
    return _row(bench, name, data, sparsity, [made[best]], best)


def _row(
    bench: Trained,
    method: str,
    data: Data,
    sparsity: float,
    made: Sequence[_Made],
    choice: str = "",
) -> Row:
    first = made[0]
    return Row(
        bench.name,
        method,
        choice,
        data,
        sparsity,
        [each.accuracy for each in made],
        first.size.parameters,
        first.size.macs,
        first.seconds,
        first.latency,
    )
