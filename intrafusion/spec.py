"""What a user may ask for. Light: importing this costs no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from intrafusion.budget import ALLOCATIONS
from intrafusion.importance import IMPORTANCE
from intrafusion.registry import Registry
from intrafusion.transport import TARGETS

Share = Annotated[float, Field(gt=0, lt=1)]
Mass = Literal["uniform", "importance", "softmax"]
MethodName = Literal["intra-fusion", "intra-fusion-published", "prune"]
Compensation = Literal["calibration", "both", "inversion", "none"]

Size = Literal["parameters", "macs"]
Cost = Literal["sparsity", Size]
Limit = Literal["max_accuracy_drop", "max_output_distance"]
Budget = Literal[Cost, "latency", Limit]
K = TypeVar("K", bound=str)

COSTS: tuple[Cost, ...] = get_args(Cost)
LIMITS: tuple[Limit, ...] = get_args(Limit)
BUDGETS: tuple[Budget, ...] = get_args(Budget)
DEFAULT_SPARSITY = 0.5

Selector = str | Annotated[int, Field(ge=0)]
"""Which groups: a name or glob that a parameter matches, or a number counted from the output."""

METHODS: Mapping[MethodName, str] = {
    "intra-fusion": "fuses all n units of a group into m by optimal transport",
    "intra-fusion-published": (
        "does so by the rules of the code published with the paper, for comparison: one map sums "
        "what makes and what reads the units, ε is left out of the fold of batch norm, biases "
        "out of the cost, and nothing is corrected unless `compensation` is `calibration`"
    ),
    "prune": (
        "keeps m units as they are and drops the others: nothing is transported, so masses, "
        "`distance` and `producers` play no part"
    ),
}


def _or_auto(registry: Registry, *more: str) -> Callable[[str], str]:
    """A check that lets `auto`, `more` and the names of a registry through."""
    return lambda name: name if name in ("auto", *more) else registry.check(name)


class SpecModel(BaseModel):
    """A frozen model that refuses fields it does not know, so that a typo is never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Architecture(SpecModel):
    """The code a state dict belongs to: a registered factory and its arguments."""

    name: str = Field(
        description="A registered architecture; `GET /v1/architectures` lists them.",
        examples=["torchvision/resnet18"],
    )
    arguments: dict[str, Any] = Field(
        default_factory=dict,
        description="Keyword arguments of the factory.",
        examples=[{"num_classes": 10}],
    )


class ModelDescription(SpecModel):
    """What the model file does not say about itself."""

    input_shapes: list[list[Annotated[int, Field(gt=0)]]] | None = Field(
        default=None,
        description=(
            "The shape of each input, batch first; the batch size itself does not matter. "
            "May be left out when calibration or evaluation data is given."
        ),
        examples=[[[1, 3, 224, 224]]],
    )
    input_dtypes: list[str] | None = Field(
        default=None,
        description="The dtype of each input, `float32` unless stated.",
        examples=[["float32"]],
    )
    architecture: Architecture | None = Field(
        default=None, description="Needed for a state dict (safetensors or .pt), and only there."
    )


class CompressionSpec(SpecModel):
    """How a network is to be compressed."""

    method: MethodName = Field(
        default="intra-fusion",
        description="; ".join(f"`{name}` {does}" for name, does in METHODS.items()) + ".",
    )
    sparsity: Share | None = Field(
        default=None,
        description=(
            "Share of the selected groups' units to remove: the budget, of 0.5, if no other is "
            "named. `sparsity`, `parameters` and `macs` may stand together, and all are kept."
        ),
        examples=[0.5],
    )
    parameters: Share | None = Field(
        default=None,
        description="Budget: share of the parameters that may be left.",
    )
    macs: Share | None = Field(
        default=None,
        description="Budget: share of the multiply-accumulates of a forward pass that may be left.",
    )
    latency: Share | None = Field(
        default=None,
        description=(
            "Budget: share of the original's latency, measured here on a batch of 1, that may be "
            "left; the network of most multiply-accumulates that keeps to it is searched for."
        ),
    )
    max_accuracy_drop: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        default=None,
        description=(
            "Budget: the smallest network is searched for whose accuracy is at most so much below "
            "the original's; 0.01 is one point. Needs labelled samples: evaluation samples, or "
            "some of the calibration samples are held out."
        ),
        examples=[0.01],
    )
    max_output_distance: Annotated[float, Field(gt=0)] | None = Field(
        default=None,
        description=(
            "Budget: the smallest network is searched for whose outputs are at most so far from "
            "the original's, as the report's `relative_distance`. Needs samples, no labels."
        ),
        examples=[0.1],
    )
    minimise: Size = Field(
        default="parameters",
        description="What makes a network the smallest in a search: `parameters` or `macs`.",
    )
    allocation: Annotated[str, AfterValidator(_or_auto(ALLOCATIONS, "uniform"))] = Field(
        default="auto",
        description=(
            "How groups share the budget. `uniform`: all lose the same share of units; "
            "`reconstruction`: those lose most whose units rebuild each other best, by how much "
            "the outputs care, which needs samples; `measured`: the same by trial, each group made "
            "smaller alone at a few widths, which takes a refit for each; `global`: units of least "
            "importance go, wherever they are. `auto` is `reconstruction` where there are samples, "
            "given or made."
        ),
    )
    importance: Annotated[str, AfterValidator(_or_auto(IMPORTANCE))] = Field(
        default="auto",
        description=(
            f"Criterion that scores units: one of {', '.join(IMPORTANCE)}. `reconstruction`, "
            "`activation` and `chip` need calibration samples, `taylor` needs them with labels. "
            "`auto` is `reconstruction` where there are samples, given or made, `l1` where not."
        ),
    )
    target: Annotated[str, AfterValidator(TARGETS.check)] = Field(
        default="most_important",
        description=(
            f"What the units are transported to: one of {', '.join(TARGETS)}. `most_important` "
            "are the units of highest importance; `kmeans` and `gmm` make centroids of clusters."
        ),
    )
    source_mass: Mass = Field(
        default="uniform",
        description=(
            "How much each unit weighs in the transport: all the same (`uniform`), its "
            "`importance` as a share of the sum, or the `softmax` of it."
        ),
    )
    target_mass: Mass = Field(
        default="uniform",
        description=(
            "How much each target takes up: the same choices. A centroid has the importance of the "
            "unit in whose place it stands."
        ),
    )
    distance: Literal[1, 2] = Field(
        default=1, description="p of the ground cost ‖x̂_j − ŷ_k‖_p between normalised units."
    )
    producers: Literal["auto", "mean", "keep"] = Field(
        default="auto",
        description=(
            "What makes a fused unit: the `mean` of the units transported to it, or the surviving "
            "one as it is (`keep`). `auto` is `keep` where consumers are refitted on samples, and "
            "`mean` where they are not."
        ),
    )
    compensation: Literal["auto", Compensation] = Field(
        default="auto",
        description=(
            "How consumers are corrected after fusion. `calibration` refits them on the "
            "calibration samples; `inversion` on samples that the network itself is made to give: "
            "from what its batch norms remember of its training data, else text that a language "
            "model writes, inputs that make a classifier sure of its classes, or "
            "noise and random ids (the report's `made_from` says which); `both` on all of them; "
            "`none` rescales them by the variance the averaging lost. `auto` is `calibration` "
            "where there are samples, or `both` where they are fewer than 192 (for a language "
            "model 768), else `inversion`, else `none`. Samples are made unasked only where that "
            "is a matter of minutes, and no noise beside real ones."
        ),
    )
    joint_steps: Annotated[int, Field(ge=0, le=100_000)] | None = Field(
        default=None,
        description=(
            "Steps of the joint refit: after the consumers are refitted one by one, gradient "
            "descent lowers the distance between the outputs of both networks on the same "
            "samples, without labels. 0 leaves it out; unless given, as many as are a matter of "
            "minutes on one CPU core, at most 1000 (300 for each try of a search)."
        ),
    )
    steps: Annotated[int, Field(ge=1, le=100)] = Field(
        default=1,
        description=(
            "In how many rounds the units are removed, the same number in each. Every round goes "
            "through all that a compression does, on the network that the round before gave."
        ),
    )
    attention: Literal["width", "heads"] = Field(
        default="width",
        description=(
            "What attention loses: `width`, the same number of channels in every head, or whole "
            "`heads`."
        ),
    )
    group_sparsity: dict[str, Annotated[float, Field(ge=0, lt=1)]] = Field(
        default_factory=dict,
        description=(
            "A sparsity of its own for groups with a parameter matching a name or glob, or the "
            "group of a number as in `include`; the first that matches counts, and 0 leaves a "
            "group whole."
        ),
        examples=[{"layer4.*": 0.7, "layer1.*": 0.2}],
    )
    include: list[Selector] = Field(
        default_factory=list,
        description=(
            "Only groups with a parameter matching one of these names or globs; [] is all. A "
            "number is a group counted from the output: 0 is the last."
        ),
        examples=[["features.*", 0]],
    )
    exclude: list[Selector] = Field(
        default_factory=list,
        description="No group with a parameter matching one of these; written as in `include`.",
        examples=[["head.*"]],
    )
    round_to: Annotated[int, Field(ge=1, le=256)] | None = Field(
        default=None,
        description=(
            "Kept units per group are rounded up to a multiple of this, if so many exist. Unless "
            "given, 16 for groups of at least 64 units with a depthwise convolution, which runs "
            "several times slower on other widths; for the others of these 8 where the work is "
            "done on a GPU, whose tensor cores take 8 numbers at a time; and else 1."
        ),
    )
    seed: int = Field(default=0, description="Seed of every random choice: same seed, same result.")

    @property
    def costs(self) -> dict[Cost, float]:
        """The budgets that numbers of units alone decide; all are to be kept."""
        return dict(self._named(COSTS))

    @property
    def limit(self) -> tuple[Limit, float] | None:
        """The budget if it is one that only a network that was made can be held to, else None."""
        return next(iter(self._named(LIMITS)), None)

    def _named(self, kinds: Sequence[K]) -> list[tuple[K, float]]:
        return [(kind, value) for kind in kinds if (value := getattr(self, kind)) is not None]

    @model_validator(mode="before")
    @classmethod
    def _default_budget(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and all(given.get(kind) is None for kind in BUDGETS):
            return {**given, "sparsity": DEFAULT_SPARSITY}
        return given

    @model_validator(mode="after")
    def _budgets_go_together(self) -> Self:
        named = [kind for kind, _ in self._named(BUDGETS)]
        alone = [kind for kind in named if kind not in COSTS]
        if alone and len(named) > 1:
            raise ValueError(
                f"{' and '.join(named)} are budgets, and {alone[0]} is searched for alone; name "
                f"it, or any of {', '.join(COSTS)}"
            )
        return self
