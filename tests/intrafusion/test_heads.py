"""Turned heads compute what they did, and have what counts in their first channels."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from intrafusion import CompressionSpec, Dataset, Program, compress, load
from intrafusion.channels import Analysis, analyse
from intrafusion.heads import heads_of, turn_heads
from tests.intrafusion.programs import relative_error

WIDTH, HEADS, EACH = 12, 3, 4


class Attention(nn.Module):
    """Self-attention over (n, tokens, WIDTH), written in one way or another."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.keys = HEADS if way != "grouped" else 1
        self.q = nn.Linear(WIDTH, HEADS * EACH)
        self.k = nn.Linear(WIDTH, self.keys * EACH, bias=way != "no_bias")
        self.v = nn.Linear(WIDTH, self.keys * EACH)
        self.qkv = nn.Linear(WIDTH, 3 * HEADS * EACH)
        self.norm = nn.LayerNorm(EACH)
        self.out = nn.Linear(HEADS * EACH, 5)
        self.inward = nn.Parameter(self.qkv.weight.detach().T.clone())
        self.outward = nn.Parameter(self.out.weight.detach().T.clone())
        self.register_buffer("scale", torch.linspace(0.5, 1.5, EACH))

    def heads(self, x: Tensor, count: int) -> Tensor:
        return x.reshape(x.shape[0], x.shape[1], count, EACH).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        shape = x.shape[:2]
        if self.way == "packed":
            packed = self.qkv(x).reshape(x.shape[0], x.shape[1], 3, HEADS, EACH)
            q, k, v = packed.permute(2, 0, 3, 1, 4).unbind(0)
        elif self.way == "addmm":
            made = torch.addmm(self.qkv.bias, x.flatten(0, 1), self.inward).reshape(*shape, -1)
            q, k, v = (self.heads(each, HEADS) for each in made.chunk(3, -1))
        else:
            q, k = self.heads(self.q(x), HEADS), self.heads(self.k(x), self.keys)
            v = self.heads(self.v(x), self.keys)
        if self.way == "normed":
            q, k = self.norm(q), self.norm(k)
        if self.way == "scaled_by_place":
            q, k = q * self.scale, k * self.scale
        if self.way == "products":
            mixed = ((q * EACH**-0.5) @ k.transpose(2, 3)).softmax(-1) @ v
        else:
            grouped = self.way == "grouped"
            mixed = functional.scaled_dot_product_attention(q, k, v, enable_gqa=grouped)
        if self.way == "seen":
            mixed = mixed.relu()
        mixed = mixed.transpose(1, 2).flatten(2)
        if self.way == "addmm":
            return torch.addmm(self.out.bias, mixed.flatten(0, 1), self.outward).reshape(*shape, 5)
        return self.out(mixed)


def tokens(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    # Some directions are larger than others, as in networks that have learned something.
    return torch.randn(count, 7, WIDTH, generator=generator) * torch.linspace(0.1, 2, WIDTH)


def analysed(way: str) -> Analysis:
    torch.manual_seed(0)
    return analyse(load(Attention(way).eval(), example_inputs=(tokens(2),)))


def turned(analysis: Analysis, samples: Tensor) -> Program:
    return turn_heads(analysis, heads_of(analysis), (samples,))


@pytest.mark.parametrize(
    ("way", "groups"),
    [
        ("packed", {"qkv.weight"}),
        ("addmm", {"inward", "inward#2"}),
        ("split", {"q.weight", "v.weight"}),
        ("no_bias", {"q.weight", "v.weight"}),
        ("products", {"q.weight", "v.weight"}),
        ("grouped", {"q.weight", "v.weight"}),
        ("normed", {"v.weight"}),
        ("scaled_by_place", {"v.weight"}),
        ("seen", {"q.weight"}),
    ],
)
def test_turned_heads_compute_the_same(way: str, groups: set[str]) -> None:
    analysis = analysed(way)
    assert set(heads_of(analysis)) == groups
    result, x = turned(analysis, tokens(50, seed=1)), tokens(20, seed=2)
    assert relative_error(result(x), analysis.program(x)) < 1e-4
    changed = {
        name
        for name, tensor in analysis.program.tensors.items()
        if not torch.equal(tensor, result.tensors[name])
    }
    assert {group.partition("#")[0] for group in groups} <= changed
    assert "norm.weight" not in changed


def test_what_stays_of_scores_is_the_best_that_so_many_channels_can_do() -> None:
    # In one sample the mean over queries and keys is over all its scores.
    analysis, x = analysed("split"), tokens(1, seed=3)
    made = turned(analysis, x).tensors

    def sides(tensors: dict[str, Tensor], head: int) -> tuple[Tensor, Tensor]:
        rows = slice(head * EACH, (head + 1) * EACH)
        q, k = (
            x[0] @ tensors[f"{s}.weight"][rows].T + tensors[f"{s}.bias"][rows] for s in ("q", "k")
        )
        return q, k - k.mean(0)

    for head in range(HEADS):
        q, k = sides(dict(analysis.program.tensors), head)
        new_q, new_k = sides(dict(made), head)
        scores = q @ k.T
        assert relative_error(new_q @ new_k.T, scores) < 1e-4
        for count in range(1, EACH):
            error = (new_q[:, :count] @ new_k[:, :count].T - scores).norm()
            best = torch.linalg.svdvals(scores)[count:].norm()
            assert float(error) <= 1.01 * float(best) + 1e-4
            for some in combinations(range(EACH), count):
                assert float(error) < float((q[:, some] @ k[:, some].T - scores).norm())


def test_what_stays_of_values_is_worth_more_than_any_channels_as_they_were() -> None:
    analysis = analysed("split")
    samples = tokens(50, seed=1)
    made = turned(analysis, samples)

    def read(program: Program, some: tuple[int, ...]) -> Tensor:
        """What the last layer puts out when only some channels of each head have values."""
        keep = torch.zeros(HEADS, EACH)
        keep[:, list(some)] = 1
        weight = program.tensors["out.weight"] * keep.reshape(-1)
        out = replace(program, tensors={**program.tensors, "out.weight": weight})(samples)
        return out - out.mean((0, 1))

    wanted = analysis.program(samples)
    wanted = wanted - wanted.mean((0, 1))
    for count in range(1, EACH):
        error = float((read(made, tuple(range(count))) - wanted).norm())
        assert all(
            error < float((read(analysis.program, some) - wanted).norm())
            for some in combinations(range(EACH), count)
        )


@pytest.mark.parametrize("samples", [torch.zeros(20, 7, WIDTH), torch.ones(20, 7, WIDTH)])
def test_samples_that_say_nothing_give_no_nan(samples: Tensor) -> None:
    program = load(Attention("packed").eval(), example_inputs=(tokens(2),))
    result = compress(program, CompressionSpec(sparsity=0.5, joint_steps=2), Dataset((samples,)))
    assert bool(torch.isfinite(result.program(tokens(5))).all())


def test_turned_heads_lose_their_last_channels() -> None:
    torch.manual_seed(0)
    program = load(Attention("packed").eval(), example_inputs=(tokens(2),))
    spec = CompressionSpec(sparsity=0.5, joint_steps=0, steps=2)
    samples = Dataset((tokens(100, seed=4),))
    result = compress(program, spec, samples)
    assert result.program.tensors["qkv.weight"].shape[0] == 3 * HEADS * 2
    x = tokens(100, seed=5)
    plain = compress(program, spec.model_copy(update={"importance": "l1"}), samples)
    assert distance(result.program(x), program(x)) < distance(plain.program(x), program(x))


def distance(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())
