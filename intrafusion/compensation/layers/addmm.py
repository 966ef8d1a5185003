"""Linear layers whose weight stands the other way round, (inputs, outputs), as in GPT-2."""

from __future__ import annotations

from torch import Tensor, fx

from intrafusion.compensation.layers.affine import Affine
from intrafusion.program.nodes import arguments


class Addmm(Affine):
    """b + x W."""

    argument_positions = (2, 0)

    def __init__(self, node: fx.Node) -> None:
        super().__init__(node)
        self.out_dim, self.in_dim = 1, 0

    @property
    def source(self) -> fx.Node:
        found: fx.Node = arguments(self.node)[1]
        return found

    @property
    def can_be_refitted(self) -> bool:
        # Where both are scaled, or an activation is added, it is something else.
        return None not in self.tensors and not self.node.kwargs

    def matrix(self, weight: Tensor, groups: int) -> Tensor:
        return weight.T[None]

    def tensor(self, matrix: Tensor, like: Tensor) -> Tensor:
        return matrix[0].T.contiguous().to(like)
