"""What became of the original's parameters: enough to do the same to the network's own code."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FoldedNorm(_Part):
    """A batch norm that the layer before it took in.

    `mean` and `variance` (channels left,) are those of what the layer puts out, as the norm's
    own β and γ say: a norm with these statistics, scaled to pass its input through, sees in
    further training what it expects.
    """

    layer: str = Field(description="The weight that took the norm in.")
    dimension: int = Field(description="The weight's dimension of output channels.")
    mean: tuple[float, ...]
    variance: tuple[float, ...]


class Plan(_Part):
    """How a program's tensors stand to those of the network it was made from, name by name."""

    shapes: Mapping[str, tuple[int, ...]] = Field(
        default_factory=dict, description="The original shape of every tensor that shrank."
    )
    kept: Mapping[str, Mapping[int, tuple[int, ...]]] = Field(
        default_factory=dict,
        description="For every tensor that shrank, by dimension, the original positions that stay.",
    )
    folded: Mapping[str, FoldedNorm] = Field(
        default_factory=dict, description="Batch norms that are gone, by the name of their module."
    )
    biases: tuple[str, ...] = Field(
        default=(), description="Biases that appeared where there were none."
    )
    constants: tuple[str, ...] = Field(
        default=(), description="Tensors that belong to the graph and to no module."
    )

    def then(self, later: Plan) -> Plan:
        """One plan for two: `later` was made for a program that this plan is of."""
        kept = {name: dict(dims) for name, dims in self.kept.items()}
        for name, dims in later.kept.items():
            own = kept.setdefault(name, {})
            for dim, positions in dims.items():
                own[dim] = tuple(own[dim][p] for p in positions) if dim in own else positions
        folded = {norm: _cut(part, later) for norm, part in self.folded.items()}
        return Plan(
            shapes={**later.shapes, **self.shapes},
            kept=kept,
            folded={**folded, **later.folded},
            biases=(*self.biases, *later.biases),
            constants=tuple(dict.fromkeys((*self.constants, *later.constants))),
        )

    def with_aliases(self, aliases: Mapping[str, str]) -> Plan:
        """The same plan, which also knows tied parameters under their further names."""
        known = {alias: name for alias, name in aliases.items() if name in self.shapes}
        return self.model_copy(
            update={
                "shapes": {**self.shapes, **{a: self.shapes[n] for a, n in known.items()}},
                "kept": {**self.kept, **{a: self.kept[n] for a, n in known.items()}},
            }
        )


def _cut(norm: FoldedNorm, later: Plan) -> FoldedNorm:
    positions = later.kept.get(norm.layer, {}).get(norm.dimension)
    if positions is None:
        return norm
    return norm.model_copy(
        update={
            "mean": tuple(norm.mean[p] for p in positions),
            "variance": tuple(norm.variance[p] for p in positions),
        }
    )
