"""Sizes that a trace computes with as tensors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from intrafusion import load
from intrafusion.channels import analyse


class Windows(nn.Module):
    """A query per sample, repeated for each of its four windows, as in GCViT."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.window, self.head = nn.Linear(8, 6), nn.Linear(2, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        windows = x.reshape(-1, 2)
        query = self.query(x)
        query = query.repeat_interleave(windows.shape[0] // query.shape[0], dim=0)
        y = self.head(query * self.window(windows))
        return y.reshape(-1, 4, 3).mean(1)


@pytest.mark.parametrize("form", ["traced", "scripted"])
def test_quotient_of_sizes_is_the_same_at_any_batch_size(form: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Windows().eval()
    path = tmp_path / "net.pt"
    script = torch.jit.script(network) if form == "scripted" else None
    (script or torch.jit.trace(network, torch.randn(2, 8))).save(path)
    program = load(path, input_shapes=[(1, 8)])
    for batch in (1, 2, 7):
        x = torch.randn(batch, 8)
        torch.testing.assert_close(program(x), network(x), rtol=1e-5, atol=1e-6)
    assert program.tensors.keys() == network.state_dict().keys()
    (group,) = analyse(program).groups
    assert len(group) == 6
