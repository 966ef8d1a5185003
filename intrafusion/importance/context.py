"""What every importance criterion is given, and what it says it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from intrafusion.channels import Analysis, Group
from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.folding import Moments
from intrafusion.importance import IMPORTANCE
from intrafusion.importance.activations import Reading, observe
from intrafusion.importance.gradients import loss_gradients
from intrafusion.importance.sensitivity import sense
from intrafusion.importance.subset import Selection, select

Need = Literal["nothing", "samples", "labels"]


@dataclass(frozen=True)
class Context:
    """All that a criterion may look at.

    Attributes:
        analysis: of the program to compress, its batch norms folded.
        moments: what each folded norm knew of its layer's output, by the layer's weight.
        seed: of every random choice.
        samples: one tensor per input of the program, (samples, …); None: there are none.
        labels: class indices (samples,); None: there are none.
        scaled: whether scores are scaled to a mean of 1 per weight before they are averaged.
    """

    analysis: Analysis
    moments: Mapping[str, Moments] = field(default_factory=dict)
    seed: int = 0
    samples: tuple[Tensor, ...] | None = None
    labels: Tensor | None = None
    scaled: bool = True

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """The program's parameters and buffers."""
        return self.analysis.program.tensors

    def observe(
        self, statistic: Callable[[Tensor], Tensor]
    ) -> Mapping[Group, Mapping[Reading, Tensor]]:
        """`statistic` of every group's activations on the samples, by where they are read.

        All groups are looked at in one run of the program, on the first call; see
        `intrafusion.importance.activations.observe`. Only criteria that need samples may call it.
        """
        if statistic not in self._observed:
            assert self.samples is not None
            self._observed[statistic] = observe(self.analysis, self.samples, statistic)
        return self._observed[statistic]

    @cached_property
    def gradients(self) -> Mapping[str, Tensor]:
        """Gradient of the loss on the labelled samples for every parameter, by name.

        Only criteria that need labels may read it.
        """
        assert self.samples is not None
        assert self.labels is not None
        return loss_gradients(self.analysis.program, self.samples, self.labels)

    @cached_property
    def selections(self) -> Mapping[Group, Selection]:
        """For every group that is read somewhere, the order in which its units are needed.

        Only what needs samples may read it.
        """
        assert self.samples is not None
        sensed = sense(self.analysis, self.samples, self.seed)
        return {group: select(places) for group, places in sensed if places}

    @cached_property
    def _observed(self) -> dict[Callable[[Tensor], Tensor], dict[Group, dict[Reading, Tensor]]]:
        return {}


Score = Callable[[Group, Context], Tensor]


@dataclass(frozen=True)
class Criterion:
    """A way to score the n units of a group: called, it gives (n,) scores, higher is worth more.

    `needs` says what it cannot do without: `samples`, or samples with `labels`.
    """

    name: str
    score: Score
    needs: Need = "nothing"

    def __call__(self, group: Group, context: Context) -> Tensor:
        """The scores (n,); raises `COMPRESSION_FAILED` if they are of another shape or not finite.

        Users' own criteria run here too, so nothing about the result is taken on trust.
        """
        scores = self.score(group, context)
        if scores.shape != (len(group),) or not bool(torch.isfinite(scores).all()):
            raise IntraFusionError(
                ErrorCode.COMPRESSION_FAILED,
                f"Importance {self.name!r} gave {group.name} scores of shape "
                f"{list(scores.shape)}; {len(group)} finite numbers were expected.",
                "Choose another importance, or exclude this group.",
                importance=self.name,
                group=group.name,
            )
        return scores


F = TypeVar("F", bound=Callable[..., Any])


def needs(what: Need) -> Callable[[F], F]:
    """Declare what a criterion or an allocation cannot do without; checked before any work."""

    def declared(function: F) -> F:
        function.needs = what  # type: ignore[attr-defined]
        return function

    return declared


def need_of(function: Callable[..., Any]) -> Need:
    """What `function` declared with `needs`."""
    declared: Need = getattr(function, "needs", "nothing")
    return declared


def check_need(choice: str, need: Need, *, samples: bool, labels: bool) -> None:
    """Raise `DATASET_TOO_SMALL` or `DATASET_LABELS_INVALID` if what is needed is not there.

    `choice` is the field of the spec and the user's choice: importance 'taylor'.
    """
    if need != "nothing" and not samples:
        what = "samples" if need == "samples" else "samples with labels"
        raise IntraFusionError(
            ErrorCode.DATASET_TOO_SMALL,
            f"{choice} needs {what}, and there are none.",
            f"Give calibration {what}, or choose one that looks at weights alone.",
        )
    if need == "labels" and not labels:
        raise IntraFusionError(
            ErrorCode.DATASET_LABELS_INVALID,
            f"{choice} needs labels, and the calibration samples have none.",
            "Add the array 'labels' to the calibration set, or choose another.",
        )


def criterion_named(name: str) -> Criterion:
    """The criterion that a spec calls `name`, built in or a user's own."""
    score: Score = IMPORTANCE.get(name)
    return Criterion(name, score, need_of(score))
