"""Each method keeps its rules."""

from __future__ import annotations

from copy import deepcopy

import ot
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.peers import published_intra_fusion
from benchmarks.peers.groups import apply, find_groups, fold_batch_norm
from examples.networks import FashionResNet, FashionVGG
from intrafusion import CompressionSpec, Program, compress, load
from intrafusion.methods import METHODS
from intrafusion.spec import METHODS as DESCRIPTIONS
from tests.intrafusion.programs import program_of, relative_error, trained_looking

PUBLISHED = CompressionSpec(method="intra-fusion-published", sparsity=0.5)


def published_map(producer: Tensor, consumer: Tensor, kept: int, p: int = 1) -> Tensor:
    """n·T (kept, n) of Theus et al., from a producer (n, …) and a consumer (out, n, …)."""
    rows, columns = producer.flatten(1), consumer.transpose(0, 1).flatten(1)
    importance = (rows.abs().sum(1) + columns.abs().sum(1)) / 2
    units = functional.normalize(torch.cat([rows, columns], 1).double(), dim=1)
    survivors = importance.topk(kept).indices.sort().values
    cost = torch.cdist(units, units[survivors], p=p)
    n = len(units)
    source, target = torch.full((n,), 1 / n).double(), torch.full((kept,), 1 / kept).double()
    return torch.from_numpy(ot.emd(source.numpy(), target.numpy(), cost.numpy())).T * n


def test_published_is_what_its_formulas_say() -> None:
    torch.manual_seed(0)
    network = trained_looking(
        nn.Sequential(
            nn.Conv2d(3, 8, 3, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 12, 3),
            nn.ReLU(),
            nn.Conv2d(12, 5, 3),
        )
    )
    first, norm, _, second, _, third = network
    x = torch.randn(2, 3, 12, 12)
    with torch.no_grad():
        scale = norm.weight / norm.running_var.sqrt()
        w1, b1 = first.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale
        w2, b2, w3 = second.weight, second.bias, third.weight
        # The group next to the output comes first, and the other sees what it did.
        later = published_map(w2, w3, 6).float()
        w2, b2 = torch.tensordot(later, w2, 1), later @ b2
        w3 = torch.einsum("mn,on...->om...", later, w3)
        earlier = published_map(w1, w2, 4).float()
        w1, b1 = torch.tensordot(earlier, w1, 1), earlier @ b1
        w2 = torch.einsum("mn,on...->om...", earlier, w2)
        hidden = functional.relu(
            functional.conv2d(functional.relu(functional.conv2d(x, w1, b1)), w2, b2)
        )
        expected = functional.conv2d(hidden, w3, third.bias)
    result = compress(load(network, example_inputs=(x,)), PUBLISHED)
    assert relative_error(result.program(x), expected) <= 1e-6
    assert result.report.compensation.mode == "none"


def peer(network: nn.Module) -> nn.Module:
    """Half of the restated peer's groups, from the output backwards.

    The peer takes residual groups in the order in which Torch-Pruning walks the graph, which
    follows how autograd stores it.
    """
    fused = deepcopy(network)
    fold_batch_norm(fused, epsilon=False)
    place = {module: number for number, module in enumerate(fused.modules())}
    groups = find_groups(fused)
    groups.sort(key=lambda group: max(place[layer] for layer in group.producers), reverse=True)
    with torch.no_grad():
        for group in groups:
            fusion = published_intra_fusion.fusion_map(group, group.units // 2)
            apply(group, fusion, fusion)
    return fused


@pytest.mark.parametrize("kind", ["vgg", "resnet"])
def test_published_agrees_with_the_restated_peer(kind: str) -> None:
    torch.manual_seed(0)
    network = trained_looking(
        FashionVGG((8, 8, 16, 16)) if kind == "vgg" else FashionResNet((4, 8, 8))
    )
    images = torch.rand(4, 1, 28, 28)
    expected = peer(network)(images).detach()
    result = compress(load(network, example_inputs=(images,)), PUBLISHED)
    assert relative_error(result.program(images), expected) <= 1e-5


def assert_holds(program: Program, weights: dict[str, Tensor]) -> None:
    for name, tensor in weights.items():
        torch.testing.assert_close(program.tensors[name], tensor, rtol=0, atol=0)


def test_prune_keeps_the_most_important_units_as_they_are() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    spec = CompressionSpec(method="prune", sparsity=0.5, compensation="none")
    result = compress(load(network, input_shapes=[(1, 6)]), spec)
    made, read = network[0].weight.detach(), network[2].weight.detach()
    size = made.abs().sum(1) / made.abs().sum() + read.abs().sum(0) / read.abs().sum()
    kept = size.topk(4).indices.sort().values
    assert_holds(
        result.program,
        {
            "0.weight": made[kept],
            "0.bias": network[0].bias.detach()[kept],
            "2.weight": read[:, kept],
            "2.bias": network[2].bias.detach(),
        },
    )


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_described_and_halves_every_group(method: str) -> None:
    assert DESCRIPTIONS[method]
    spec = CompressionSpec(method=method, allocation="uniform", compensation="none")
    report = compress(program_of("mobilenet"), spec).report
    assert all(group.kept == group.units // 2 for group in report.groups)
