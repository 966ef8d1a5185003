from __future__ import annotations

from dataclasses import replace

import torch

from intrafusion.importance.context import criterion_named
from tests.intrafusion.importance.networks import context_of, two_layers


def test_the_lot_follows_the_seed() -> None:
    context = context_of(two_layers(), (1, 3, 8, 8))
    (group,) = context.analysis.groups
    random = criterion_named("random")
    assert torch.equal(random(group, context), random(group, context))
    assert not torch.equal(random(group, context), random(group, replace(context, seed=1)))
