"""The restated peers do what their papers and packages do, so that beating them means something."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

from benchmarks.peers import magnitude, published_intra_fusion
from benchmarks.peers.published_intra_fusion import Group
from examples.networks import FashionResNet, FashionVGG


@pytest.fixture(params=["vgg", "resnet"])
def network(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    made = FashionVGG((8, 8, 16, 16)) if request.param == "vgg" else FashionResNet((4, 8, 8))
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
    return made.eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(64, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def channels(network: nn.Module) -> list[int]:
    return [m.out_channels for m in network.modules() if isinstance(m, nn.Conv2d)]


@pytest.mark.parametrize("criterion", sorted(magnitude.CRITERIA))
def test_torch_pruning_halves_every_group(network: nn.Module, criterion: str) -> None:
    before = channels(network)
    pruned = magnitude.prune(network, 0.5, criterion)
    assert channels(pruned) == [width // 2 for width in before]
    assert channels(network) == before, "the original is left as it was"


def test_reestimated_batch_norm_gives_the_images_their_own_statistics(
    network: nn.Module, images: torch.Tensor
) -> None:
    estimated = magnitude.reestimate_batch_norm(network, images)
    seen: list[torch.Tensor] = []
    norms = [m for m in estimated.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.register_forward_hook(
            lambda m, _, out: seen.append((out - m.bias[:, None, None]) / m.weight[:, None, None])
        )
    with torch.no_grad():
        estimated(images)
    assert len(seen) == len(norms)
    for normalised in seen:
        assert normalised.mean((0, 2, 3)).abs().max() < 1e-3
        assert (normalised.std((0, 2, 3)) - 1).abs().max() < 1e-2


def test_the_published_fold_leaves_epsilon_out(network: nn.Module, images: torch.Tensor) -> None:
    folded = deepcopy(network)
    published_intra_fusion.fold_batch_norm(folded)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0
    with torch.no_grad():
        torch.testing.assert_close(folded(images), network(images), rtol=1e-3, atol=1e-3)


def test_the_published_method_halves_every_group(network: nn.Module, images: torch.Tensor) -> None:
    fused = published_intra_fusion.compress(network, 0.5)
    assert channels(fused) == [width // 2 for width in channels(network)]
    with torch.no_grad():
        assert fused(images).isfinite().all()


def test_the_published_map_multiplies_duplicates_by_n_over_m() -> None:
    torch.manual_seed(0)
    first, last = nn.Conv2d(3, 8, 3, bias=False), nn.Conv2d(8, 5, 3, bias=False)
    rows = nn.functional.normalize(torch.randn(4, 27), p=1).view(4, 3, 3, 3)
    columns = nn.functional.normalize(torch.randn(4, 45), p=1).view(4, 5, 3, 3).transpose(0, 1)
    # The copies are a shade smaller, so that one of each pair stays.
    first.weight = nn.Parameter(torch.cat([rows, rows * 0.9999]))
    last.weight = nn.Parameter(torch.cat([columns, columns], dim=1))
    network = nn.Sequential(first, nn.ReLU(), last)
    images = torch.rand(2, 3, 9, 9)
    with torch.no_grad():
        before = network(images)
        group = Group(producers=(first,), consumers=(last,))
        published_intra_fusion.apply(group, published_intra_fusion.fusion_map(group, 4))
        torch.testing.assert_close(network(images), 2 * before, rtol=1e-3, atol=1e-4)
