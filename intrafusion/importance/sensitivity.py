"""What units do on samples, and how much the network's outputs care.

A unit that goes is rebuilt, as well as may be, from the units that stay. What is left over, δ,
changes the outputs by gᵀδ to first order, g being the gradient of the outputs where the unit is
read. So two moments say all that is needed of each place where a group is read: the covariance of
its units, and the second moment of their gradients.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from intrafusion.batches import in_parts, samples_at_a_time
from intrafusion.channels import Analysis, Group
from intrafusion.channels.walk import Value
from intrafusion.importance.activations import Reading, readings
from intrafusion.program.precision import is_real

MAX_ROWS = 20_000
"""Positions looked at per reading, over all samples."""
PROBES = 2
"""Random directions in the space of the outputs, per sample."""


@dataclass(frozen=True)
class Sensed:
    """One place where the n units of a group are read.

    Attributes:
        covariance: C (n, n) of the units' activations, over samples and positions.
        sensitivity: M (n, n), so that tr(M·R) is the squared change of the outputs, relative to
            their variance, when what is left of the units has the covariance R.
    """

    covariance: Tensor
    sensitivity: Tensor


@dataclass(frozen=True)
class SensedRows:
    """The same where there are few rows and many units: C = A·Aᵀ and M = G·Gᵀ.

    Attributes:
        activations: A (n, r), centred.
        gradients: G (n, s).
    """

    activations: Tensor
    gradients: Tensor

    def moments(self) -> Sensed:
        """C and M."""
        return Sensed(self.activations @ self.activations.T, self.gradients @ self.gradients.T)


def sense(
    analysis: Analysis, samples: Sequence[Tensor], seed: int = 0
) -> Iterator[tuple[Group, tuple[Sensed | SensedRows, ...]]]:
    """Run the program forward and backward over `samples`, some at a time.

    M is estimated as the mean of g·gᵀ, g being the gradient of a random combination of the
    outputs: its expectation is the Gauss–Newton matrix JᵀJ. A place that no output depends on has
    M = 0; a group without any has an empty tuple.

    Args:
        analysis: of the program.
        samples: one tensor per input, (samples, …).
        seed: of the combinations and of the positions looked at.
    """
    real = {
        node.name
        for node, value in analysis.walk.values.items()
        if isinstance(value, Value) and value.dtype.is_floating_point
    }
    where = {
        group: [reading for reading in own if reading.node in real]
        for group, own in readings(analysis).items()
    }
    watch = _Watch(analysis, {reading.node for own in where.values() for reading in own})
    generator = torch.Generator().manual_seed(seed)
    device = analysis.program.device
    sums = {group: [_Sums(len(group), device) for _ in own] for group, own in where.items()}
    total, per_batch = len(samples[0]), samples_at_a_time(analysis.program, analysis.walk)
    rows = max(1, MAX_ROWS * per_batch // max(per_batch, total))
    for batch in in_parts(samples, per_batch):
        values = watch.on(batch)
        gradients = watch.gradients(values, generator)
        for group, own in where.items():
            for reading, sum_ in zip(own, sums[group], strict=True):
                sum_.add(reading, values[reading.node], gradients[reading.node], rows, generator)
    for group in list(sums):
        # What is done with is let go of: these are the largest things there are of a wide group.
        yield group, tuple([sum_.sensed(total) for sum_ in sums.pop(group)])


class _Watch(fx.Interpreter):
    """Runs the program with gradients and keeps the values that are asked for."""

    def __init__(self, analysis: Analysis, nodes: set[str]) -> None:
        super().__init__(analysis.program.network().requires_grad_())
        self.nodes, self.scales = nodes, list[Tensor]()
        self.outputs: list[Tensor] = []
        self.values: dict[str, Tensor] = {}

    def on(self, inputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """The values on a batch of inputs."""
        self.values = {}
        with torch.enable_grad():
            outputs = self.run(*inputs)
        self.outputs = [output for output in outputs if is_real(output)]
        if not self.scales:
            self.scales = [_scale(output.detach()) for output in self.outputs]
        return self.values

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.name in self.nodes:
            if not value.requires_grad:
                value.requires_grad_()
            self.values[n.name] = value
        return value

    def gradients(
        self, values: Mapping[str, Tensor], generator: torch.Generator
    ) -> dict[str, list[Tensor]]:
        """For each value the gradients of `PROBES` combinations of the last batch's outputs."""
        found: dict[str, list[Tensor]] = {name: [] for name in values}
        for probe in range(PROBES):
            directions = [
                torch.randn(output.shape, generator=generator).to(output) * scale
                for output, scale in zip(self.outputs, self.scales, strict=True)
            ]
            gradients = torch.autograd.grad(
                self.outputs,
                list(values.values()),
                directions,
                retain_graph=probe < PROBES - 1,
                materialize_grads=True,
            )
            for own, gradient in zip(found.values(), gradients, strict=True):
                own.append(gradient)
        return found


def _scale(output: Tensor) -> Tensor:
    """Makes the squares of changes, summed over a sample's outputs, relative to their variance."""
    variance = output.double().var(correction=0) * (output.numel() / max(1, len(output)))
    return torch.where(variance > 0, variance.rsqrt(), torch.ones_like(variance)).to(output)


class _Sums:
    """The moments of one reading while the batches go by.

    They stay rows for as long as these are smaller than the two matrices they come to.
    """

    def __init__(self, units: int, device: torch.device) -> None:
        self.units, self.rows = units, 0
        self.values = torch.zeros(units, dtype=torch.float64, device=device)
        self.held: list[Tensor] = []
        self.slopes: list[Tensor] = []
        self.moments: Sensed | None = None

    def add(
        self,
        reading: Reading,
        value: Tensor,
        gradients: Sequence[Tensor],
        rows: int,
        generator: torch.Generator,
    ) -> None:
        """Add a batch: `value` and its gradients, at `rows` random positions."""
        held = reading.of(value.detach()).flatten(2)
        places = held.shape[2]
        picked = torch.randperm(places, generator=generator)[:rows].to(held.device)
        held = held[:, :, picked].flatten(1).double()
        self.rows += held.shape[1]
        self.values += held.sum(1)
        self.held.append(held)
        scale = math.sqrt(places / len(picked) / len(gradients))
        for gradient in gradients:
            slopes = reading.of(gradient).flatten(2)[:, :, picked].flatten(1).double()
            self.slopes.append(slopes.mul_(scale))
        if sum(part.shape[1] for part in (*self.held, *self.slopes)) > 2 * self.units:
            self._multiply()

    def _multiply(self) -> None:
        """Turn rows into moments."""
        if self.moments is None:
            products = self.values.new_zeros(self.units, self.units)
            self.moments = Sensed(products, products.clone())
        for parts, total in (
            (self.held, self.moments.covariance),
            (self.slopes, self.moments.sensitivity),
        ):
            for part in parts:
                total.addmm_(part, part.T)
            parts.clear()

    def sensed(self, samples: int) -> Sensed | SensedRows:
        """What the sums come to, which are used up."""
        mean = self.values / self.rows
        if self.moments is None:
            activations, gradients = torch.cat(self.held, 1), torch.cat(self.slopes, 1)
            return SensedRows(
                activations.sub_(mean[:, None]).div_(math.sqrt(self.rows)),
                gradients.div_(math.sqrt(samples)),
            )
        self._multiply()
        covariance = self.moments.covariance.div_(self.rows).addr_(mean, mean, alpha=-1)
        return Sensed(covariance, self.moments.sensitivity.div_(samples))
