"""The optimiser of the joint refit: orthogonalised momentum (Jordan et al., *Muon*, 2024).

Adam moves a weight matrix mostly along the few directions in which its gradients are large. Here
all singular values of the step are made alike, so that every direction of every layer moves. Each
parameter moves by the same share of its own root mean square (You et al., *LARS*, 2017), since
layers into which norms were folded differ in size by orders of magnitude.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from intrafusion.effort import affordable_times

MOMENTUM, SQUARES = 0.9, 0.999
"""Of the means of gradients and, where a step is not orthogonalised, of their squares."""
ROUNDS = 5
QUINTIC = 3.4445, -4.7750, 2.0315
"""Jordan's Newton-Schulz iteration a·X + b·XXᵀX + c·(XXᵀ)²X, which brings singular values in
(0, 1] to about 0.7 … 1.2 in five rounds."""
AFFORDABLE_STEPS = 1000
"""A matrix is orthogonalised if so many steps of it alone are affordable."""


class OrthogonalDescent(torch.optim.Optimizer):
    """Gradient descent by steps of which every direction counts the same.

    A parameter of several dimensions is a matrix of its first by all others, one of a single
    dimension moves as Adam would have it, and so does a matrix too large to orthogonalise.

    Args:
        parameters: to be changed in place.
        lr: root mean square of a step, as a share of that of the parameter.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if (gradient := parameter.grad) is not None:
                    size = parameter.square().mean().sqrt() * group["lr"]
                    parameter.sub_(self._direction(parameter, gradient).mul_(size))

    def _direction(self, parameter: Tensor, gradient: Tensor) -> Tensor:
        """Where to go, with a root mean square of about 1."""
        mean = self._remembered(parameter, "mean").lerp_(gradient, 1 - MOMENTUM)
        if is_orthogonalised(parameter):
            ahead = torch.lerp(gradient, mean, MOMENTUM).flatten(1)
            return (orthogonalised(ahead) * math.sqrt(max(ahead.shape))).reshape(parameter.shape)
        square = self._remembered(parameter, "square").lerp_(gradient.square(), 1 - SQUARES)
        state = self.state[parameter]
        state["step"] = count = int(state.get("step", 0)) + 1
        spread = (square / (1 - SQUARES**count)).sqrt_()
        spread.mul_(1 - MOMENTUM**count).add_(torch.finfo(spread.dtype).tiny)
        return mean / spread

    def _remembered(self, parameter: Tensor, name: str) -> Tensor:
        """A running mean over the steps, in the shape of `parameter`; nothing at first."""
        state: dict[str, Tensor] = self.state[parameter]
        if name not in state:
            state[name] = torch.zeros_like(parameter)
        return state[name]


def orthogonalised(matrix: Tensor) -> Tensor:
    """The nearest (semi-)orthogonal matrix, roughly: U·Vᵀ of U·S·Vᵀ; zero stays zero."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    a, b, c = QUINTIC
    x: Tensor = wide / (wide.norm() + torch.finfo(wide.dtype).tiny)
    for _ in range(ROUNDS):
        squared = x @ x.T
        x = a * x + (b * squared + c * squared @ squared) @ x
    return x if wide is matrix else x.T


def is_orthogonalised(parameter: Tensor) -> bool:
    """Whether the step of a parameter is made orthogonal, which is cubic in its smaller side."""
    affordable = affordable_times(_macs_of(parameter), parameter.device) >= AFFORDABLE_STEPS
    return parameter.dim() > 1 and affordable


def macs_of_a_step(parameters: Iterable[Tensor]) -> int:
    """Multiply-accumulates of one step, the gradients left out."""
    return sum(_macs_of(parameter) for parameter in parameters if is_orthogonalised(parameter))


def _macs_of(parameter: Tensor) -> int:
    if parameter.dim() < 2 or not parameter.numel():
        return 0
    short, long = sorted((parameter.shape[0], parameter.numel() // parameter.shape[0]))
    return ROUNDS * short**2 * (2 * long + short)
