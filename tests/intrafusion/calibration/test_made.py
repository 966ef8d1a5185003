"""Samples where nothing is remembered: text that is written, noise and ids."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from intrafusion import CompressionSpec, ErrorCode, IntraFusionError, compress, effort, load
from intrafusion.calibration.inversion import Inversion, invert
from intrafusion.calibration.made import kind, search
from intrafusion.calibration.made.classes import Classes
from intrafusion.calibration.made.inputs import looked_up
from intrafusion.calibration.made.noise import audible, share_differing
from intrafusion.evaluation import macs
from intrafusion.program import Program
from intrafusion.report import CompensationReport

VOCABULARY, TIME = 12, 10


@pytest.fixture(autouse=True)
def short_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "STEPS", 60)


class Successor(nn.Module):
    """Says that after each token its successor comes, round and round."""

    def __init__(self, *, last: bool, causal: bool = True) -> None:
        super().__init__()
        self.last, self.causal = last, causal
        self.table = nn.Embedding(VOCABULARY, VOCABULARY)
        self.table.weight.data = 50 * torch.eye(VOCABULARY)
        self.hidden = nn.Linear(VOCABULARY, 24, bias=False)
        self.head = nn.Linear(24, VOCABULARY, bias=False)
        with torch.no_grad():
            self.hidden.weight[:VOCABULARY] = torch.eye(VOCABULARY)
            self.hidden.weight[VOCABULARY:] *= 0.01
            self.head.weight[:, :VOCABULARY] = torch.eye(VOCABULARY).roll(1, 0)
            self.head.weight[:, VOCABULARY:] *= 0.01

    def forward(self, tokens: Tensor) -> Tensor:
        values = self.table(tokens)
        if not self.causal:
            values = values + values.mean(1, keepdim=True)
        scores = self.head(torch.relu(self.hidden(values)))
        return scores[:, -1] if self.last else scores


def tokens() -> tuple[Tensor]:
    return (torch.zeros(2, TIME, dtype=torch.int64),)


def made_for(network: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Program, Inversion]:
    torch.manual_seed(0)
    program = load(network.eval(), example_inputs=inputs)
    return program, invert(program)


def reported(program: Program) -> tuple[CompensationReport, str]:
    report = compress(program, CompressionSpec(joint_steps=0)).report
    return report.compensation, " ".join(report.warnings)


@pytest.mark.parametrize("last", [True, False])
def test_a_language_model_writes_what_it_has_learned(last: bool) -> None:
    program, made = made_for(Successor(last=last), tokens())
    assert made.made_from == "written"
    (text,) = made.samples
    assert text.shape == (kind.MOST, TIME)
    assert torch.equal((text[:, :-1] + 1) % VOCABULARY, text[:, 1:])
    assert text[:, 0].unique().tolist() == list(range(VOCABULARY))
    compensation, warnings = reported(program)
    assert (compensation.made_from, compensation.samples) == ("written", kind.MOST)
    assert "a language model, wrote them itself" in warnings


def test_the_same_seed_writes_the_same_text() -> None:
    class Unsure(Successor):
        def forward(self, tokens: Tensor) -> Tensor:
            return 0.01 * super().forward(tokens)

    program, made = made_for(Unsure(last=True), tokens())
    assert torch.equal(made.samples[0], invert(program, seed=0).samples[0])
    assert not torch.equal(made.samples[0], invert(program, seed=1).samples[0])


def test_text_that_would_take_too_long_is_shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    program, _ = made_for(Successor(last=False), tokens())
    monkeypatch.setitem(effort.AFFORDABLE, "cpu", 40 * (TIME - 1) * macs(program))
    assert len(invert(program).samples[0]) == 40


def test_scores_of_nan_are_an_error_and_no_text() -> None:
    class Broken(Successor):
        def forward(self, tokens: Tensor) -> Tensor:
            return super().forward(tokens).where(tokens[:, :1] < 3, torch.nan)

    program = load(Broken(last=True).eval(), example_inputs=tokens())
    with pytest.raises(IntraFusionError, match="text that it wrote") as caught:
        invert(program)
    assert caught.value.code is ErrorCode.MODEL_DOES_NOT_RUN


def test_who_looks_ahead_is_no_language_model() -> None:
    program, made = made_for(Successor(last=False, causal=False), tokens())
    assert made.made_from == "noise"
    assert made.samples[0].unique().tolist() == list(range(VOCABULARY))
    assert "noise or random ids" in reported(program)[1]


class Words(nn.Module):
    """A classifier of words, a mask of which says what counts."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 8, padding_idx=3)
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))

    def forward(self, words: Tensor, mask: Tensor) -> Tensor:
        values = self.table(words.unsqueeze(1)).squeeze(1) * mask[:, :, None]
        return self.layers(values.sum(1))


def test_ids_are_rows_of_the_table_and_masks_stay() -> None:
    mask = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]])
    program, made = made_for(Words(), (torch.zeros(2, 5, dtype=torch.int64), mask))
    table, none = looked_up(program)
    assert table is not None
    assert (table.rows, table.padding, none) == (10, frozenset({3}), None)
    words, masks = made.samples
    assert words.shape == (kind.MOST, 5)
    assert words.dtype == torch.int64
    assert words.unique().tolist() == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert torch.equal(masks[:2], mask)
    assert torch.equal(masks[2:4], mask)
    assert "Input 1 holds integers" in reported(program)[1]


@pytest.mark.parametrize(
    "head",
    [
        nn.Linear(16, 1),
        nn.Sequential(nn.Linear(16, 6), nn.Unflatten(1, (2, 3))),
    ],
    ids=["one number", "an image"],
)
def test_outputs_that_are_no_scores_are_seen_on_noise(head: nn.Module) -> None:
    network = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), head)
    _, made = made_for(network, (torch.randn(2, 4),))
    assert made.made_from == "noise"
    assert made.samples[0].shape == (kind.MOST, 4)


def test_noise_is_as_large_as_what_a_network_hears() -> None:
    torch.manual_seed(0)
    small = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 1)).eval()
    large = deepcopy(small)
    large[0].weight.data /= 16
    found, times_16 = (audible(load(net, input_shapes=[(1, 4)])) for net in (small, large))
    assert times_16 == 16 * found
    assert 0.03 < found < 30


def test_outputs_that_are_all_alike_differ_by_nothing() -> None:
    assert share_differing([torch.full((5, 3), 2.0), torch.zeros(5, dtype=torch.int64)]) == 0
    assert share_differing([torch.tensor([[1.0], [-1.0]])]) == 1
    assert share_differing([torch.full((5, 3), torch.nan)]) == 0


@pytest.mark.parametrize(
    ("unsure", "begun_at"),
    [
        pytest.param(lambda scale: 0.02 / scale, 2.0, id="surer and surer"),
        pytest.param(lambda scale: 0.3 * max(scale, 1 / scale), 0.5, id="never sure"),
        pytest.param(lambda scale: 0.06 * max(scale, 1 / scale), 2.0, id="sure for a while"),
        pytest.param(lambda scale: float("inf"), kind.SCALES[0], id="no number"),
    ],
)
def test_the_search_begins_above_where_a_network_is_sure_but_not_where_it_no_longer_is(
    unsure: Callable[[float], float], begun_at: float
) -> None:
    assert Classes().size(unsure, unsure) == begun_at


@pytest.mark.parametrize(
    ("head", "made_from"),
    [
        (nn.Linear(8, 8), "classes"),
        (nn.Sequential(nn.Linear(8, 8), nn.Softmax(1)), "classes"),
        (nn.ReLU(), "noise"),
        (nn.LayerNorm(8), "noise"),
    ],
)
def test_what_comes_out_of_no_layer_are_features(head: nn.Module, made_from: str) -> None:
    network = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 8), head)
    assert made_for(network, (torch.zeros(2, 6),))[1].made_from == made_from
