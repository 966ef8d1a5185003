"""The joint refit: all layers at once, to the original's outputs on the same samples.

The lockstep fits each layer to what the original has there, and so cannot trade an error in one
layer for a smaller one in the next. From its result, some hundred steps of gradient descent
(`descent.py`) on the distance between both programs' outputs do. No labels are used: wanted is
what the original says, which may be asked about any input, so samples are mixed with each other to
stretch them. What has become better on samples kept out of the fit is kept, else nothing.

Samples that were made up are not what the network will see, and outputs that agree on them may
differ elsewhere. There it helps to ask for more: that the layers within read what they read in the
original, in the channels that are left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from intrafusion.batches import held_out, in_parts, samples_at_a_time
from intrafusion.channels.walk import walk
from intrafusion.compensation.descent import OrthogonalDescent, macs_of_a_step
from intrafusion.compensation.landmarks import Landmark, landmarks, with_insides
from intrafusion.compensation.parts import HOLDOUT
from intrafusion.effort import affordable_times
from intrafusion.evaluation import macs
from intrafusion.program import Program
from intrafusion.program.precision import is_real

BATCH, SMALLEST_BATCH = 64, 16
"""Samples of a step. What is affordable goes into more steps first, then into larger ones."""
RATE = 0.025
"""How far the first step moves each parameter, as a share of its size and a multiple of the root of
the error: the nearer the outputs are, the less there is to move."""
MIXED = 0.5
"""A sample is mixed with at most this share of another."""
INSIDE = 1.0
"""What a relative distance inside counts beside one of the outputs."""
CHECKS = 10
"""How often the samples kept out are looked at."""
STEPS, FEWEST_STEPS, STEPS_OF_A_TRY = 1000, 60, 300
"""Unasked at most so many, and none where fewer are affordable than make a difference. Networks
that are only tried in a search for the smallest get fewer."""
LOOKED_AT = 512
"""Of the samples kept out at most so many are looked at."""


@dataclass(frozen=True)
class JointRefit:
    """The corrected program, and the squared distance between its outputs and the original's.

    Attributes:
        program: with new parameters, or the given one if it was not bettered.
        steps: of gradient descent.
        error_before: on the samples kept out of the fit, relative to the outputs' variance.
        error_after: the same for the result.
    """

    program: Program
    steps: int
    error_before: float
    error_after: float


def affordable_steps(original: Program, compressed: Program, most: int = STEPS) -> int:
    """As many steps as are affordable where `compressed` is, at most `most`; 0 if too few are."""
    cost = _macs_of_a_step(original, compressed)
    steps = min(most, affordable_times(cost(SMALLEST_BATCH), compressed.device))
    return steps if steps >= FEWEST_STEPS else 0


def affordable_batch(original: Program, compressed: Program, steps: int) -> int:
    """How many samples each of so many steps may have."""
    cost = _macs_of_a_step(original, compressed)
    for batch in range(BATCH, SMALLEST_BATCH, -1):
        if affordable_times(cost(batch), compressed.device) >= steps:
            return batch
    return SMALLEST_BATCH


def _macs_of_a_step(original: Program, compressed: Program) -> Callable[[int], int]:
    """What a step costs with so many samples.

    It runs the original once, the compressed program forward and backward, and moves its weights.
    """
    passes = macs(original) + 3 * macs(compressed)
    moving = macs_of_a_step(compressed.tensors[name] for name in compressed.trainable)
    return lambda samples: samples * passes + moving


def refit_jointly(
    original: Program,
    compressed: Program,
    samples: Sequence[Tensor],
    *,
    steps: int,
    look_inside: bool = False,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> JointRefit:
    """Lower the distance between the outputs by `steps` steps of descent at a falling rate.

    Args:
        original: the program to follow.
        compressed: the program to correct; buffers and what is frozen in its graph stay.
        samples: one tensor per input, (samples, …).
        steps: how many, of as many samples as are affordable.
        look_inside: bring near not only the outputs but what every layer reads; for samples that
            were made up.
        seed: of the choice and the mixing of samples.
        progress: called with the steps done and their total.
    """
    held = held_out(len(samples[0]), HOLDOUT)
    seen, unseen = tuple(x[~held] for x in samples), tuple(x[held] for x in samples)
    if not len(unseen[0]):
        unseen = seen
    unseen = tuple(x[:LOOKED_AT] for x in unseen)
    marks = landmarks(original, compressed) if look_inside else []
    teacher, student = _Teacher(original, marks), _Student(compressed, marks)
    size = samples_at_a_time(original, walk(original))
    wanted = _outputs(original, unseen, size)
    scales = [_scale(output) for output in wanted]
    generator = torch.Generator().manual_seed(seed)
    batch = affordable_batch(original, compressed, steps)
    before = best = student.error(unseen, wanted, scales, size)
    optimiser = OrthogonalDescent(student.parameters, RATE * before**0.5)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    result = compressed
    for step in range(1, steps + 1):
        mixed = _mixed(seen, batch, generator)
        optimiser.zero_grad()
        for part in in_parts(mixed, size):
            loss = student.distance(part, *teacher(part), scales)
            gradients = torch.autograd.grad(loss, student.parameters, materialize_grads=True)
            for parameter, gradient in zip(student.parameters, gradients, strict=True):
                share = gradient * (len(part[0]) / len(mixed[0]))
                parameter.grad = share if parameter.grad is None else parameter.grad + share
        optimiser.step()
        schedule.step()
        progress(step, steps)
        if step % max(1, steps // CHECKS) == 0 or step == steps:
            error = student.error(unseen, wanted, scales, size)
            if error < best:
                best, result = error, student.program()
    return JointRefit(result, steps, before, best)


class _Teacher:
    """The original, asked for its outputs and for what it has inside, in the channels left."""

    def __init__(self, program: Program, marks: Sequence[Landmark]) -> None:
        self._network = with_insides(program, [mark.original for mark in marks])
        self._marks = marks

    @torch.no_grad()
    def __call__(self, inputs: Sequence[Tensor]) -> tuple[Sequence[Any], list[Tensor]]:
        outputs, insides = self._network(*inputs)
        return outputs, [
            inside.index_select(mark.dim, mark.staying)
            for mark, inside in zip(self._marks, insides, strict=True)
        ]


class _Student:
    """The compressed program with parameters of its own, to be changed in place."""

    def __init__(self, program: Program, marks: Sequence[Landmark]) -> None:
        self._program = program
        own = {name: program.tensors[name].clone() for name in program.trainable}
        started = replace(program, tensors={**program.tensors, **own})
        self._network = with_insides(started, [mark.compressed for mark in marks])
        named = dict(self._network.named_parameters())
        self._named = {name: p for name, p in named.items() if p.is_floating_point()}
        for parameter in self.parameters:
            parameter.requires_grad_()

    @property
    def parameters(self) -> list[Tensor]:
        return list(self._named.values())

    def distance(
        self,
        inputs: Sequence[Tensor],
        wanted: Sequence[Any],
        wanted_inside: Sequence[Tensor],
        scales: Sequence[Tensor],
    ) -> Tensor:
        """Mean over all outputs of the squared difference relative to their variance.

        To it comes the same mean over what the layers read, if that is asked for.
        """
        with torch.enable_grad():
            outputs, insides = self._network(*inputs)
            distance = _distance(outputs, wanted, scales)
            if not wanted_inside:
                return distance
            return distance + INSIDE * _distance(
                insides, wanted_inside, [_scale(x) for x in wanted_inside]
            )

    def error(
        self, inputs: Sequence[Tensor], wanted: Sequence[Any], scales: Sequence[Tensor], size: int
    ) -> float:
        """The same as a number, from `size` samples at a time."""
        found = _outputs(self.program(), inputs, size)
        return float(_distance(found, wanted, scales))

    def program(self) -> Program:
        """The program with the parameters as they are now."""
        now = {name: p.detach().clone() for name, p in self._named.items()}
        return replace(self._program, tensors={**self._program.tensors, **now})


def _distance(found: Sequence[Any], wanted: Sequence[Any], scales: Sequence[Tensor]) -> Tensor:
    parts = [
        (a - b).square().mean() * scale
        for a, b, scale in zip(found, wanted, scales, strict=True)
        if is_real(b)
    ]
    return torch.stack(parts).mean()


def _outputs(program: Program, samples: Sequence[Tensor], size: int) -> tuple[Any, ...]:
    """The outputs on all samples, `size` of them at a time."""
    found = [program.outputs(*part) for part in in_parts(samples, size)]
    return tuple(
        torch.cat(o) if isinstance(o[0], Tensor) else o[0] for o in zip(*found, strict=True)
    )


def _mixed(samples: Sequence[Tensor], batch: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """A batch of samples, real inputs mixed with those of other samples."""
    count = len(samples[0])
    chosen = torch.randint(count, (min(batch, count),), generator=generator)
    others = torch.randint(count, chosen.shape, generator=generator)
    shares = torch.rand(chosen.shape, generator=generator) * MIXED
    mixed = []
    for x in samples:
        part = x[chosen]
        if is_real(x):
            share = shares.to(x).reshape(-1, *[1] * (x.dim() - 1))
            part = torch.lerp(part, x[others], share)
        mixed.append(part)
    return tuple(mixed)


def _scale(output: Any) -> Tensor:
    variance = output.var(correction=0) if is_real(output) else torch.ones(())
    return torch.where(variance > 0, 1 / variance, torch.ones_like(variance))
