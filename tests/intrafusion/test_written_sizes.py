"""Attention in the user's own class: numbers of heads and their widths follow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import intrafusion
from benchmarks.architectures import EncoderNet, randomise, timm, transformer
from intrafusion import CompressionSpec, ErrorCode, IntraFusionError, Program, resize_
from intrafusion.program.plan import Plan
from intrafusion.written_sizes import guesses, uneven_heads, written_numbers

Mode = Literal["width", "heads"]


class Attention(nn.Module):
    """Two heads of six, without a number for their width where `literal`."""

    def __init__(self, literal: bool = False) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.steps = 2, 6, 12
        self.qkv, self.proj = nn.Linear(8, 36), nn.Linear(12, 5)
        self.literal = literal

    def forward(self, x: Tensor) -> Tensor:
        width = 6 if self.literal else self.head_dim
        joined = self.qkv(x).reshape(len(x), -1, 3, self.num_heads, width)
        q, k, v = joined.permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(q, k, v)
        return self.proj(y.transpose(1, 2).flatten(2))


class Apart(nn.Module):
    """The same with a layer each for queries, keys and values, of which values are on their own."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads, self.head_dim = 2, 6
        self.q, self.k, self.v = (nn.Linear(8, 12) for _ in range(3))
        self.proj = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        parts = (layer(x) for layer in (self.q, self.k, self.v))
        heads = (y.view(len(x), -1, self.num_heads, self.head_dim).transpose(1, 2) for y in parts)
        y = functional.scaled_dot_product_attention(*heads)
        return self.proj(y.transpose(1, 2).flatten(2))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[int], Tensor]]] = {
    "own": (Attention, lambda batch: torch.randn(batch, 4, 8)),
    "torch": (EncoderNet, lambda batch: torch.randint(0, 100, (batch, 12))),
    "timm": (
        timm("vit_tiny_patch16_224", img_size=32, depth=2, embed_dim=48, num_heads=4),
        lambda batch: torch.randn(batch, 3, 32, 32),
    ),
    "transformers": (transformer("bert"), lambda batch: torch.randint(0, 100, (batch, 12))),
    "rotary": (transformer("gpt_neox"), lambda batch: torch.randint(0, 100, (batch, 12))),
    "grouped": (transformer("llama"), lambda batch: torch.randint(0, 100, (batch, 12))),
}


def sharp(network: nn.Module) -> nn.Module:
    """Attention that attends: with small weights it is a mean, whatever the heads."""
    for name, parameter in network.named_parameters():
        if any(part in name for part in ("qkv", "in_proj", "query", "key")):
            parameter.data.mul_(6)
    return randomise(network)


def compressed(network: nn.Module, x: Tensor, mode: Mode) -> Program:
    spec = CompressionSpec(compensation="none", attention=mode)
    return intrafusion.compress(intrafusion.load(network, example_inputs=x), spec).program


@pytest.mark.parametrize("mode", ["width", "heads"])
@pytest.mark.parametrize("name", NETWORKS)
def test_attention_takes_the_compressed_sizes(tmp_path: Path, name: str, mode: Mode) -> None:
    torch.manual_seed(0)
    make, inputs = NETWORKS[name]
    program = compressed(sharp(make()), inputs(2), mode)
    module = sharp(make())
    size = sum(p.numel() for p in module.parameters())
    resize_(module, program.save(tmp_path / "net.safetensors"))
    assert sum(p.numel() for p in module.parameters()) < 0.8 * size
    x = inputs(5)
    with torch.no_grad():
        torch.testing.assert_close(module(x), program(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("mode", "numbers"), [("width", (2, 3)), ("heads", (1, 6))])
def test_numbers_say_what_became_of_the_heads(
    tmp_path: Path, mode: Mode, numbers: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    program = compressed(sharp(Attention()), torch.randn(2, 4, 8), mode)
    module = resize_(Attention(), program.save(tmp_path / "net.safetensors"))
    assert (module.num_heads, module.head_dim) == numbers


def test_number_that_no_attribute_holds_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    program = compressed(sharp(Attention(literal=True)), torch.randn(2, 4, 8), "width")
    path = program.save(tmp_path / "net.safetensors")
    module = Attention(literal=True)
    x = torch.randn(2, 4, 8)
    expected = module(x)
    with pytest.raises(IntraFusionError, match="raises with them") as caught:
        resize_(module, path)
    assert caught.value.code is ErrorCode.MODULE_NOT_RESIZABLE
    assert written_numbers(module)[""] == {"num_heads": 2, "head_dim": 6, "steps": 12}
    torch.testing.assert_close(module(x), expected, rtol=0, atol=0)


def test_heads_left_with_two_widths_are_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    program = intrafusion.load(Apart().eval(), example_inputs=torch.randn(2, 4, 8))
    spec = CompressionSpec(compensation="none", group_sparsity={"v.*": 0.5, "q.*": 0.34})
    path = intrafusion.compress(program, spec).program.save(tmp_path / "net.safetensors")
    with pytest.raises(IntraFusionError) as caught:
        resize_(Apart(), path)
    assert caught.value.code is ErrorCode.MODULE_NOT_RESIZABLE
    said = (
        "the heads of the module have one width, head_dim = 6, and are left with 3 and 4 channels"
    )
    assert said in caught.value.message
    assert 'attention="heads"' in caught.value.hint


@pytest.mark.parametrize(
    ("sizes", "kept", "uneven"),
    [
        # Queries, keys, values of two heads of four, one sort after the other and by heads.
        ({"qkv.weight": 24}, {"qkv.weight": (0, 4, 8, 12, 16, 17, 20, 21)}, True),
        ({"qkv.weight": 24}, {"qkv.weight": (0, 4, 8, 9, 12, 16, 20, 21)}, True),
        ({"q.weight": 8, "v.weight": 8}, {"q.weight": (0, 4), "v.weight": (0, 1, 4, 5)}, True),
        ({"q.weight": 8, "v.weight": 8}, {"q.weight": (0, 4), "v.weight": (1, 5)}, False),
        ({"fc.weight": 24}, {"fc.weight": (0, 1, 2, 4, 8, 12, 16, 20)}, False),
    ],
)
def test_two_widths_show_in_what_is_left(
    sizes: dict[str, int], kept: dict[str, tuple[int, ...]], uneven: bool
) -> None:
    plan = Plan(
        shapes={name: (size, 8) for name, size in sizes.items()},
        kept={name: {0: positions} for name, positions in kept.items()},
    )
    said = uneven_heads(nn.Module(), {"": {"width": 4}}, plan)
    expected = (
        "the heads of the module have one width, width = 4, and are left with 1 and 2 channels"
    )
    assert said == (expected if uneven else None)


def test_what_is_left_after_the_last_guess_is_the_module_as_it_was() -> None:
    module = Attention()
    kept = {"qkv.weight": {0: (*range(3), *range(6, 9), *range(12, 36))}, "proj.weight": {}}
    plan = Plan(shapes={"qkv.weight": (36, 8)}, kept=kept)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    seen = [dict(written_numbers(module)[""]) for _ in guesses(module, {"": {}}, plan)]
    assert seen[-1] == {"num_heads": 2, "head_dim": 6, "steps": 12}
    torch.testing.assert_close(dict(module.state_dict()), before, rtol=0, atol=0)
