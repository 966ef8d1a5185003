"""What a user gets back. Light: importing this costs no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from intrafusion.spec import Budget, Compensation, CompressionSpec, Size

Step = Literal[
    "load",
    "synthesise",
    "fold",
    "analyse",
    "turn heads",
    "allocate",
    "search",
    "plan",
    "fuse",
    "compensate",
    "refit jointly",
    "evaluate",
    "save",
]

MadeFrom = Literal["statistics", "written", "classes", "noise"]
"""What samples were made from; see `CompensationReport`."""


@dataclass(frozen=True)
class Progress:
    """One step of a compression, `done` of `total` parts of it complete."""

    step: Step
    done: int
    total: int


ProgressListener = Callable[[Progress], None]
"""Called with every `Progress`; what it raises ends the compression."""


class ReportModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Latency(ReportModel):
    """Measured seconds of one forward pass: the median of interleaved runs."""

    median_ms: float
    batch: int
    threads: int
    device: str


class Regression(ReportModel):
    """How near a program's outputs are to real-valued targets."""

    mse: float = Field(description="Mean squared error.")
    mae: float = Field(description="Mean absolute error.")
    r2: float | None = Field(
        description="1 − squared error ÷ variance of the targets; None where they are constant."
    )


class Measurement(ReportModel):
    """One program, measured."""

    parameters: int = Field(description="Number of parameter elements; buffers are not counted.")
    macs: int = Field(description="Multiply-accumulates of one sample's forward pass.")
    file_bytes: int | None = Field(
        default=None, description="Bytes of the file it was read from, or was saved to."
    )
    accuracy: float | None = Field(
        default=None, description="Top-1 accuracy in [0, 1]; only with labelled evaluation data."
    )
    top5_accuracy: float | None = Field(
        default=None, description="Top-5 accuracy in [0, 1]; with labels and at least 6 classes."
    )
    regression: Regression | None = Field(
        default=None, description="Only where the evaluation data has `targets`."
    )
    peak_activation_bytes: int | None = Field(
        default=None,
        description="The most bytes of activations alive at once while one sample goes through.",
    )
    latency: Latency | None = None


class Histogram(ReportModel):
    """How many values lie between each edge and the next; the last edge belongs to its bin."""

    edges: list[float]
    counts: list[int]


class Fidelity(ReportModel):
    """How far the compressed program's outputs are from the original's on the same samples."""

    samples: int
    source: Literal["evaluation", "calibration", "random"] = Field(
        description="Where the samples come from; `random` is noise and says little."
    )
    agreement: float | None = Field(
        description="Share of samples with the same arg max; None: outputs are no class scores."
    )
    output_distance: float = Field(description="Mean ℓ2 distance of a sample's outputs.")
    relative_distance: float = Field(
        description="The same divided by the mean ℓ2 norm of the original's outputs."
    )
    cosine: float = Field(description="Mean cosine similarity of a sample's outputs.")
    distances: Histogram | None = Field(
        default=None, description="The ℓ2 distances of all samples (figure 5 of the paper)."
    )


class GroupReport(ReportModel):
    """One group of interchangeable units and what became of it."""

    name: str = Field(description="Name of the group: its first producer.")
    units: int
    kept: int
    round_to: int = Field(
        default=1, description="`kept` is a multiple of this, unless all units are kept."
    )
    layers: list[str] = Field(
        description="Parameters the group runs through, as `name[dimension]`."
    )
    parameter_share: float = Field(
        description="Share of the program's parameter elements it touches."
    )
    expected_error: float | None = Field(
        default=None,
        description=(
            "In a plan made with samples: squared change of the outputs, relative to their "
            "variance, that is expected of the units which go, before any joint refit."
        ),
    )
    warnings: list[str] = Field(default_factory=list)


class FrozenReport(ReportModel):
    """A parameter dimension that cannot be pruned, and why."""

    parameter: str
    dimension: int
    channels: int
    op: str = Field(description="The operation that froze it.")
    reason: str


class InspectionReport(ReportModel):
    """What could be pruned in a program."""

    source: str = Field(description="The form the program came in, such as `torchscript`.")
    parameters: int
    macs: int
    inputs: list[str] = Field(description="Each input as `name: dtype[batch, …]`.")
    groups: list[GroupReport]
    frozen: list[FrozenReport]
    coverage: float = Field(
        description="Share of parameter elements that lie in at least one prunable group."
    )
    warnings: list[str] = Field(default_factory=list)

    @property
    def summary(self) -> str:
        """What it is, how large, and how much of it can be pruned, in one line."""
        return (
            f"{self.source}, {self.parameters:,} parameters, {self.macs:,} MACs, "
            f"{self.coverage:.0%} of the parameters prunable"
        )

    def __str__(self) -> str:
        """All of it, a line each."""
        return "\n".join(
            [
                self.summary,
                *(f"input {each}" for each in self.inputs),
                *(f"group {each.name}: {each.units} units" for each in self.groups),
                *(
                    f"frozen {each.parameter}[{each.dimension}]: {each.reason}"
                    for each in self.frozen
                ),
                *(f"warning: {each}" for each in self.warnings),
            ]
        )


class CompensationReport(ReportModel):
    """How consumers were corrected after fusion."""

    mode: Compensation = Field(
        description=(
            "What consumers were refitted on: samples that were given (`calibration`), or made "
            "from what the network itself knows of its data (`inversion`), or `both`."
        )
    )
    made_from: MadeFrom | None = Field(
        default=None,
        description=(
            "What the made samples are: inputs under which the batch norms see the "
            "`statistics` they remember; text that a language model has `written` itself; inputs "
            "that make a classifier sure of its `classes`; "
            "or, where the network says nothing of its data, `noise` and random ids. The first "
            "preserve most, the last least."
        ),
    )
    samples: int = Field(default=0, description="How many there were, the made ones among them.")
    made: int = Field(default=0, description="How many of the samples the network made itself.")
    statistics_error: float | None = Field(
        default=None,
        description=(
            "Of the made samples: squared error of the batch norms' means and standard deviations "
            "under the samples, relative to the variances, averaged. Far above 0.05 the samples "
            "resemble the data little. Null without batch norms."
        ),
    )
    layers: int = Field(default=0, description="Number of layers refitted.")
    fit_error: float | None = Field(
        default=None, description="Relative squared error of the refits on the samples they saw."
    )
    holdout_error: float | None = Field(
        default=None,
        description="The same on held-out samples; far above fit_error is overfitting.",
    )
    joint_steps: int = Field(default=0, description="Steps of the joint refit.")
    output_error_before: float | None = Field(
        default=None,
        description=(
            "Squared distance between the outputs of both networks before the joint refit, on "
            "held-out samples, relative to the outputs' variance."
        ),
    )
    output_error_after: float | None = Field(default=None, description="The same after it.")


class TryReport(ReportModel):
    """A network that was tried in the search for one within a budget."""

    share: float = Field(description="Share of the minimised size that it was allowed.")
    parameters: int
    macs: int
    accuracy: float | None = Field(default=None, description="Where accuracy was measured.")
    relative_distance: float | None = Field(
        default=None, description="Of its outputs to the original's, where it was measured."
    )
    latency: float | None = Field(
        default=None, description="As a share of the original's, where latency was measured."
    )
    within: bool = Field(description="Whether it keeps to the budget.")


class SearchReport(ReportModel):
    """The networks that were tried: a curve of size against what is lost."""

    budget: Budget
    limit: float
    minimised: Size
    samples: int | None = Field(
        default=None, description="On how many samples each network was measured."
    )
    tries: list[TryReport] = Field(description="The largest network first.")


class PlanReport(ReportModel):
    """What a compression would do. Sizes are exact; nothing was fused, refitted or measured."""

    source: str
    spec: CompressionSpec = Field(description="What was asked for.")
    decided: CompressionSpec = Field(description="The same with what stands behind every `auto`.")
    before: Measurement
    after: Measurement
    groups: list[GroupReport]
    expected_error: float | None = Field(
        default=None, description="The sum of the groups' expected errors."
    )
    search: SearchReport | None = Field(
        default=None, description="Where the budget had to be searched for."
    )
    warnings: list[str] = Field(default_factory=list)


class CompressionReport(ReportModel):
    """What a compression did and what it cost."""

    intrafusion_version: str
    torch_version: str
    source: str
    spec: CompressionSpec = Field(description="What was asked for.")
    decided: CompressionSpec = Field(
        description="What was done: the same with nothing left to decide, so without any `auto`."
    )
    before: Measurement
    after: Measurement
    fidelity: Fidelity | None
    groups: list[GroupReport]
    compensation: CompensationReport
    search: SearchReport | None = Field(
        default=None, description="Where the budget had to be searched for."
    )
    warnings: list[str] = Field(default_factory=list)
    seconds: dict[str, float] = Field(description="Wall seconds by step.")

    def with_file_bytes(self, before: int, after: int) -> CompressionReport:
        """The same report with the bytes of the file that was read and of the one written."""
        return self.model_copy(
            update={
                "before": self.before.model_copy(update={"file_bytes": before}),
                "after": self.after.model_copy(update={"file_bytes": after}),
            }
        )
