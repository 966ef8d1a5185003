"""Attention that torch runs as one operation is taken apart, and computes the same."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from intrafusion import Program, load

aten = torch.ops.aten


class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(12, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


def traced(network: nn.Module) -> tuple[torch.jit.ScriptModule, Program]:
    """A trace without gradients, in which torch takes its fast path, and what is read from it."""
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.data.normal_(0, 0.3, generator=generator)
    with torch.no_grad():
        script = torch.jit.trace(network.eval(), torch.randn(2, 7, 12))
    return script, load(script, input_shapes=[(1, 7, 12)])


def operations(program: Program) -> list[object]:
    return [node.target for node in program.graph.nodes if node.op == "call_function"]


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_encoder_layer(norm_first: bool, activation: str) -> None:
    layer = nn.TransformerEncoderLayer(
        12, 4, 24, activation=activation, norm_first=norm_first, batch_first=True
    )
    script, program = traced(layer)
    assert "aten::_transformer_encoder_layer_fwd" in str(script.inlined_graph)
    assert aten._transformer_encoder_layer_fwd.default not in operations(program)
    assert aten.scaled_dot_product_attention.default in operations(program)
    x = torch.randn(5, 7, 12)
    torch.testing.assert_close(program(x), layer(x))


def test_self_attention() -> None:
    network = SelfAttention()
    script, program = traced(network)
    assert "aten::_native_multi_head_attention" in str(script.inlined_graph)
    assert aten._native_multi_head_attention.default not in operations(program)
    x = torch.randn(5, 7, 12)
    torch.testing.assert_close(program(x), network(x))
