"""The flags that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from intrafusion.budget import ALLOCATIONS
from intrafusion.importance import IMPORTANCE
from intrafusion.spec import METHODS, CompressionSpec
from intrafusion.transport import TARGETS

_MODEL = "The network"
_SPEC = "How to compress"
_DATA = "Samples"
_SERVER = "Server"

ModelFile = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL",
        help="TorchScript or a state dict (.pt), .pt2, or .safetensors.",
        exists=True,
        dir_okay=False,
        readable=True,
        show_default=False,
    ),
]
InputShape = Annotated[
    list[str] | None,
    typer.Option(
        "--input-shape",
        metavar="N,C,H,W",
        help="Shape of an input, batch first; once per input. May be left out with samples.",
        rich_help_panel=_MODEL,
    ),
]
InputDtype = Annotated[
    list[str] | None,
    typer.Option(
        "--input-dtype",
        metavar="DTYPE",
        help="Dtype of an input; once per input. `float32` unless given.",
        rich_help_panel=_MODEL,
    ),
]
ArchitectureName = Annotated[
    str | None,
    typer.Option(
        "--architecture",
        metavar="NAME",
        help="The registered architecture a state dict belongs to, such as torchvision/resnet18.",
        rich_help_panel=_MODEL,
    ),
]
ArchitectureArguments = Annotated[
    str | None,
    typer.Option(
        "--architecture-arguments",
        metavar="JSON",
        help="""Its keyword arguments, such as '{"num_classes": 10}'.""",
        rich_help_panel=_MODEL,
    ),
]
Calibration = Annotated[
    Path | None,
    typer.Option(
        "--calibration",
        metavar="FILE",
        help="Unlabelled samples (.npz, .safetensors; 256 are enough) to refit the layers on.",
        exists=True,
        dir_okay=False,
        rich_help_panel=_DATA,
    ),
]
Evaluation = Annotated[
    Path | None,
    typer.Option(
        "--evaluation",
        metavar="FILE",
        help="Samples, best with labels, to measure both networks on.",
        exists=True,
        dir_okay=False,
        rich_help_panel=_DATA,
    ),
]
Method = Annotated[
    str,
    typer.Option(
        "--method",
        help=f"How units become fewer: {', '.join(METHODS)}.",
        rich_help_panel=_SPEC,
    ),
]
Sparsity = Annotated[
    float | None,
    typer.Option(
        "--sparsity",
        metavar="SHARE",
        help="Budget: share of the units to remove; 0.5 if no budget is given. Of --sparsity, "
        "--parameters and --macs several may be given, and all are kept.",
        show_default=False,
        rich_help_panel=_SPEC,
    ),
]
Parameters = Annotated[
    float | None,
    typer.Option(
        "--parameters",
        metavar="SHARE",
        help="Budget: share of the parameters that may be left.",
        rich_help_panel=_SPEC,
    ),
]
Macs = Annotated[
    float | None,
    typer.Option(
        "--macs",
        metavar="SHARE",
        help="Budget: share of the multiply-accumulates that may be left.",
        rich_help_panel=_SPEC,
    ),
]
Latency = Annotated[
    float | None,
    typer.Option(
        "--latency",
        metavar="SHARE",
        help="Budget: share of the measured latency that may be left.",
        rich_help_panel=_SPEC,
    ),
]
MaxAccuracyDrop = Annotated[
    float | None,
    typer.Option(
        "--max-accuracy-drop",
        metavar="SHARE",
        help="Budget: the smallest network that loses no more accuracy; 0.01 is one point. Needs "
        "labelled samples.",
        rich_help_panel=_SPEC,
    ),
]
MaxOutputDistance = Annotated[
    float | None,
    typer.Option(
        "--max-output-distance",
        metavar="SHARE",
        help="Budget: the smallest network whose outputs are no farther, relative to their length, "
        "from the original's. Needs samples, no labels.",
        rich_help_panel=_SPEC,
    ),
]
Minimise = Annotated[
    str,
    typer.Option(
        "--minimise",
        help="What makes a network the smallest in these searches: parameters or macs.",
        rich_help_panel=_SPEC,
    ),
]
Allocation = Annotated[
    str,
    typer.Option(
        "--allocation",
        help=f"How groups share the budget: auto, uniform, {', '.join(ALLOCATIONS)}.",
        rich_help_panel=_SPEC,
    ),
]
Importance = Annotated[
    str,
    typer.Option(
        "--importance",
        help=f"Criterion that scores units: auto, {', '.join(IMPORTANCE)}.",
        rich_help_panel=_SPEC,
    ),
]
Target = Annotated[
    str,
    typer.Option(
        "--target",
        help=f"What the units are transported to: {', '.join(TARGETS)}.",
        rich_help_panel=_SPEC,
    ),
]
SourceMass = Annotated[
    str,
    typer.Option(
        "--source-mass",
        help="How much each unit weighs in the transport: uniform, importance or softmax.",
        rich_help_panel=_SPEC,
    ),
]
TargetMass = Annotated[
    str,
    typer.Option(
        "--target-mass",
        help="How much each target takes up: uniform, importance or softmax.",
        rich_help_panel=_SPEC,
    ),
]
Distance = Annotated[
    int,
    typer.Option(
        "--distance", help="p of the ground cost between units: 1 or 2.", rich_help_panel=_SPEC
    ),
]
Producers = Annotated[
    str,
    typer.Option(
        "--producers",
        help="What makes a fused unit: the mean of its units, or keep the surviving one; or auto.",
        rich_help_panel=_SPEC,
    ),
]
Compensation = Annotated[
    str,
    typer.Option(
        "--compensation",
        help="What layers are refitted on after fusion: auto, calibration (samples), inversion "
        "(samples made from the network itself), both or none.",
        rich_help_panel=_SPEC,
    ),
]
Include = Annotated[
    list[str] | None,
    typer.Option(
        "--include",
        metavar="GLOB|N",
        help="Only groups with a parameter of such a name, or the N-th group counted from the "
        "output (0 is the last); repeatable.",
        rich_help_panel=_SPEC,
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        metavar="GLOB|N",
        help="No group with a parameter of such a name or of this number; repeatable.",
        rich_help_panel=_SPEC,
    ),
]
GroupSparsity = Annotated[
    list[str] | None,
    typer.Option(
        "--group-sparsity",
        metavar="GLOB|N=SHARE",
        help="A sparsity of its own for groups with a parameter of such a name or of this number; "
        "repeatable.",
        rich_help_panel=_SPEC,
    ),
]
Attention = Annotated[
    str,
    typer.Option(
        "--attention",
        help="What attention loses: width (channels of every head) or heads.",
        rich_help_panel=_SPEC,
    ),
]
JointSteps = Annotated[
    int | None,
    typer.Option(
        "--joint-steps",
        metavar="N",
        help="Steps of the joint refit; 0 for none. Unless given, as many as take minutes, at most "
        "1000.",
        show_default=False,
        rich_help_panel=_SPEC,
    ),
]
Steps = Annotated[
    int,
    typer.Option(
        "--steps",
        help="In how many rounds the units are removed, each on the result of the one before.",
        rich_help_panel=_SPEC,
    ),
]
RoundTo = Annotated[
    int | None,
    typer.Option(
        "--round-to",
        metavar="N",
        help="Round kept units up to a multiple of this. 16 for wide depthwise convolutions, else "
        "1, unless given.",
        show_default=False,
        rich_help_panel=_SPEC,
    ),
]
Seed = Annotated[int, typer.Option("--seed", help="Same seed, same result.", rich_help_panel=_SPEC)]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Where the smaller network goes; .pt is TorchScript, .safetensors a state dict, "
        ".pt2 what torch.export loads, .onnx ONNX.",
        dir_okay=False,
        show_default=False,
        rich_help_panel="Results",
    ),
]
ReportFile = Annotated[
    Path | None,
    typer.Option(
        "--report",
        metavar="FILE",
        help="Where the full report goes, with --dry-run the plan, as JSON.",
        dir_okay=False,
        rich_help_panel="Results",
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Only show what would go and how large the result would be; makes no network.",
        rich_help_panel="Results",
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout instead of a table.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
Server = Annotated[
    str,
    typer.Option(
        "--server",
        metavar="URL",
        envvar="INTRAFUSION_SERVER",
        help="Address of the server.",
        rich_help_panel=_SERVER,
    ),
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        metavar="KEY",
        envvar="INTRAFUSION_API_KEY",
        help="API key; better set in the environment than typed.",
        show_default=False,
        rich_help_panel=_SERVER,
    ),
]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job.", show_default=False)]
Timeout = Annotated[
    float | None,
    typer.Option("--timeout", metavar="SECONDS", help="Stop waiting after so long; exits 6."),
]

DEFAULT_SERVER = "http://127.0.0.1:8000"
SPEC_DEFAULTS = CompressionSpec()
