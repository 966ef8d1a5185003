from __future__ import annotations

import torch
import torch_pruning as tp
from torch import nn

from intrafusion.channels import analyse
from intrafusion.folding import fold_batch_norm
from intrafusion.importance.context import Context, criterion_named
from tests.intrafusion.importance.networks import context_of, torch_pruning_scores, two_layers
from tests.intrafusion.programs import program_of


def test_folded_scales_are_those_of_torch_pruning() -> None:
    plain = two_layers()
    norm = nn.BatchNorm2d(12)
    nn.init.normal_(norm.weight)
    network = nn.Sequential(plain[0], norm, plain[1], plain[2]).eval()
    context = context_of(network, (1, 3, 8, 8))
    (group,) = context.analysis.groups
    ours = criterion_named("bn_scale")(group, context)
    torch.testing.assert_close(ours, norm.weight.detach().abs())
    theirs = torch_pruning_scores(network, tp.importance.BNScaleImportance())
    assert ours.argsort().tolist() == theirs.argsort().tolist()


def test_norms_that_stay_count_too() -> None:
    folded = fold_batch_norm(program_of("concat"))
    context = Context(analyse(folded.program), folded.moments)
    group = next(g for g in context.analysis.groups if g.name == "stem.weight")
    gammas = [context.tensors[f"norm{number}.weight"][:8].abs() for number in (1, 2, 3)]
    torch.testing.assert_close(
        criterion_named("bn_scale")(group, context), torch.stack(gammas).mean(0)
    )


def test_without_batch_norm_it_is_the_norm_of_the_weights() -> None:
    context = context_of(two_layers(), (1, 3, 8, 8))
    (group,) = context.analysis.groups
    assert torch.equal(
        criterion_named("bn_scale")(group, context), criterion_named("l1")(group, context)
    )
