"""The restated peers do what their papers and packages do, so that beating them means something."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

from benchmarks.peers import magnitude, model_folding, published_intra_fusion
from benchmarks.peers.groups import Group, apply, fold_batch_norm
from examples.networks import FashionResNet, FashionVGG, MnistMLP, MnistViT


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


def test_torch_pruning_is_told_of_the_heads_of_attention() -> None:
    transformer = MnistViT(depth=1).eval()
    pruned = magnitude.prune(transformer, 0.5, "l2")
    assert isinstance(pruned, MnistViT)
    assert pruned.blocks[0].attention.qkv.out_features == 3 * 32
    with pytest.raises(magnitude.DoesNotRunError, match="shape"):
        magnitude.prune(transformer, 0.7, "l2")


def test_without_batch_norms_their_scales_are_no_criterion() -> None:
    assert "bn_scale" not in magnitude.criteria_for(MnistMLP())
    assert "bn_scale" in magnitude.criteria_for(FashionVGG())


def test_model_folding_without_batch_norms() -> None:
    folded = model_folding.compress(MnistMLP((8, 8, 8)).eval(), 0.5, "naive")
    widths = [m.out_features for m in folded.modules() if isinstance(m, nn.Linear)]
    assert widths == [4, 4, 4, 10]


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
    fold_batch_norm(folded, epsilon=False)
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
        mapping = published_intra_fusion.fusion_map(group, 4)
        apply(group, mapping, mapping)
        torch.testing.assert_close(network(images), 2 * before, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("repair", ["naive", "AR", "R"])
@pytest.mark.parametrize("normalised", [False, True])
def test_model_folding_halves_every_group(
    network: nn.Module, images: torch.Tensor, repair: model_folding.Repair, normalised: bool
) -> None:
    folded = model_folding.compress(network, 0.5, repair, images, normalised=normalised)
    assert channels(folded) == [width // 2 for width in channels(network)]
    with torch.no_grad():
        assert folded(images).isfinite().all()


@pytest.mark.parametrize("repair", ["naive", "AR"])
def test_folding_exact_copies_loses_nothing(repair: model_folding.Repair) -> None:
    torch.manual_seed(0)
    network = FashionVGG((8, 8, 8, 8)).eval()
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        for before, after in zip(
            convolutions, [*convolutions[1:], network.classifier], strict=True
        ):
            before.weight[4:] = before.weight[:4]
            after.weight[:, 4:] = after.weight[:, :4]
    images = torch.rand(4, 1, 28, 28)
    folded = model_folding.compress(network, 0.5, repair)
    with torch.no_grad():
        torch.testing.assert_close(folded(images), network(images), rtol=1e-3, atol=1e-4)


def test_the_repair_gives_layers_the_spread_they_had(
    network: nn.Module, images: torch.Tensor
) -> None:
    repaired = model_folding.compress(network, 0.5, "R", images)
    naive = model_folding.compress(network, 0.5, "naive", images)
    spreads = {}
    for name, folded in (("R", repaired), ("naive", naive)):
        seen: list[torch.Tensor] = []
        layer = next(m for m in folded.modules() if isinstance(m, nn.Conv2d))
        layer.register_forward_hook(lambda m, _, out, seen=seen: seen.append(out.clone()))
        with torch.no_grad():
            folded(images)
        spreads[name] = seen[0].std((0, 2, 3), correction=0)
    norm = next(m for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    # A cluster's spread is the mean of its members' γ; the sum over all tells them together.
    assert not torch.allclose(spreads["R"], spreads["naive"], rtol=1e-2)
    assert norm.weight.min() - 1e-2 < spreads["R"].min()
    assert spreads["R"].max() < norm.weight.max() + 1e-2
