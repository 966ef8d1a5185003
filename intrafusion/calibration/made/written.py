"""Text that a language model wrote itself.

A network that says of every token how likely it is to come next can be asked for text: a token is
drawn by its scores, put behind the others, and so on. What it writes is what it read in training
as far as it has learned it (Liu et al., LLM-QAT, 2023), which random tokens are far from.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from intrafusion.batches import in_parts, samples_at_a_time
from intrafusion.calibration.made.inputs import drawn, looked_up
from intrafusion.calibration.made.kind import MOST, Kind, Made, Progress
from intrafusion.channels.walk import walk
from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.program import Program
from intrafusion.program.precision import is_real

FLUSHED = 1.5
"""A network that reads whole windows starts from a random one. So many windows are written: the
random one is gone, and half of what was written after it as well."""


class Written(Kind):
    """Windows of tokens, each drawn by the scores that the network gives it after those before."""

    name = "written"
    enough = MOST
    loss = (
        "the network, a language model, wrote them itself: what it has not learned is not in "
        "them. A few unlabelled samples may preserve more."
    )

    def fits(self, program: Program) -> bool:
        return _writer(program) is not None

    def passes(self, program: Program) -> int:
        return _able(program).steps

    def make(self, program: Program, count: int, seed: int, progress: Progress) -> Made:
        writer = _able(program)
        inputs = [x.value() for x in drawn(program, count, 1.0, seed)]
        generator = torch.Generator().manual_seed(seed)
        size = samples_at_a_time(program, walk(program))
        for step in range(1, writer.steps + 1):
            scores = [
                writer.read(program.outputs(*part)[0], step).double().cpu()
                for part in in_parts(inputs, size)
            ]
            following = _draw(torch.cat(scores), generator).to(inputs[writer.position])
            inputs[writer.position] = writer.write(inputs[writer.position], following, step)
            progress(step, writer.steps)
        return Made(tuple(inputs))


@dataclass(frozen=True)
class _Writer(ABC):
    """How tokens are got out of a network.

    Attributes:
        position: of the input (n, time) with the tokens.
        time: how many tokens there are.
    """

    position: int
    time: int

    @property
    @abstractmethod
    def steps(self) -> int:
        """How many tokens are drawn for each sample."""

    @abstractmethod
    def read(self, scores: Tensor, step: int) -> Tensor:
        """The scores (n, vocabulary) of the token of a step, of what the network puts out."""

    @abstractmethod
    def write(self, tokens: Tensor, following: Tensor, step: int) -> Tensor:
        """`tokens` (n, time) with those of a step, (n, 1), in their place."""


class _Onward(_Writer):
    """Scores (n, vocabulary) are of what follows the window, which then moves on by one."""

    @property
    def steps(self) -> int:
        return math.ceil(FLUSHED * self.time)

    def read(self, scores: Tensor, step: int) -> Tensor:
        return scores

    def write(self, tokens: Tensor, following: Tensor, step: int) -> Tensor:
        return torch.cat([tokens[:, 1:], following], 1)


class _Within(_Writer):
    """Scores (n, time, vocabulary) are of what follows each token; the first stays random."""

    @property
    def steps(self) -> int:
        return self.time - 1

    def read(self, scores: Tensor, step: int) -> Tensor:
        return scores[:, step - 1]

    def write(self, tokens: Tensor, following: Tensor, step: int) -> Tensor:
        return torch.cat([tokens[:, :step], following, tokens[:, step + 1 :]], 1)


def _able(program: Program) -> _Writer:
    writer = _writer(program)
    assert writer is not None, "see `fits`"
    return writer


def _writer(program: Program) -> _Writer | None:
    """How `program` writes; None if it is no language model.

    It is one if it has scores for every row of the table that its tokens address: of one token
    for each sample, or of one behind each, which those after it do not change.
    """
    scores = program.outputs(*program.example_inputs)[0]
    if not is_real(scores) or scores.dim() not in (2, 3):
        return None
    found = [
        (position, x.shape[1])
        for position, (x, table) in enumerate(
            zip(program.example_inputs, looked_up(program), strict=True)
        )
        if x.dim() == 2 and table is not None and table.rows == scores.shape[-1]
    ]
    if len(found) != 1:
        return None
    (position, time) = found[0]
    if scores.dim() == 2:
        return _Onward(position, time)
    if scores.shape[1] == time > 1 and _is_causal(program, position):
        return _Within(position, time)
    return None


def _is_causal(program: Program, position: int) -> bool:
    """Whether the last token of an input changes no score but those behind it."""
    inputs = [x.value().detach() for x in drawn(program, 2, 1.0, seed=0)]
    before = program.outputs(*inputs)[0]
    tokens = inputs[position]
    others = tokens[:, -1:].flip(0) if bool(tokens[0, -1] != tokens[1, -1]) else tokens[:, :1]
    inputs[position] = torch.cat([tokens[:, :-1], others], 1)
    after = program.outputs(*inputs)[0]
    return torch.allclose(before[:, :-1], after[:, :-1], rtol=1e-4, atol=1e-5)


def _draw(scores: Tensor, generator: torch.Generator) -> Tensor:
    """One token (n, 1) for each of the scores (n, vocabulary)."""
    shares = scores.softmax(1)
    if bool(shares.isnan().any()):
        raise IntraFusionError(
            ErrorCode.MODEL_DOES_NOT_RUN,
            "The network itself gives NaN on text that it wrote.",
            "Give a checkpoint that works, or calibration samples of the kind it was trained on.",
        )
    return torch.multinomial(shares, 1, generator=generator)
