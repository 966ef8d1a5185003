"""What travels between client and server under /v1. Light: importing this costs no torch.

The server answers with these models and the client reads them. Requests refuse fields they
do not know; responses allow them, so that an older client can read a newer server.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from intrafusion.report import Fidelity, InspectionReport, Measurement
from intrafusion.spec import CompressionSpec, ModelDescription

JobStatus = Literal["queued", "running", "cancelling", "succeeded", "failed", "cancelled"]
ENDED: frozenset[JobStatus] = frozenset({"succeeded", "failed", "cancelled"})

Output = Literal["torchscript", "safetensors", "exported", "onnx"]
"""A file a job can make besides its report: `model.pt`, `model.safetensors`, `model.pt2`,
`model.onnx`.
"""

REPORT_FILE = "report.json"
"""The artifact that is a job's CompressionReport."""
PLAN_FILE = "plan.json"
"""The artifact that is a dry run's PlanReport, and the only one it has."""

T = TypeVar("T")


class Gates(BaseModel):
    """What the result must hold for the job to pass; checked when it has succeeded."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_accuracy_drop: float | None = Field(
        default=None,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description=(
            "Most that top-1 accuracy may fall, as a share of all samples: 0.01 is one point. "
            "Needs labelled evaluation data."
        ),
        examples=[0.01],
    )
    min_speedup: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Least ratio of the original's latency to the result's.",
        examples=[1.5],
    )
    max_bytes: int | None = Field(
        default=None, gt=0, description="Most bytes of the first output.", examples=[1_000_000]
    )


class Webhook(BaseModel):
    """Where the end of a job is told, signed as Standard Webhooks says (standardwebhooks.com)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(
        max_length=2000,
        pattern=r"^https?://",
        description="Gets a POST of `{type, timestamp, data: {id, status, url}}`, at least once.",
        examples=["https://ci.example.com/hooks/compression"],
    )
    secret: str | None = Field(
        default=None,
        max_length=255,
        pattern=r"^whsec_[A-Za-z0-9+/]{32,}={0,2}$",
        description="Signs the message; never given back. Needed where the server has none.",
        examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
    )


Label = Annotated[str, Field(max_length=500)]


class JobSettings(ModelDescription):
    """What a compression is asked for, apart from the files it works on."""

    spec: CompressionSpec = Field(default_factory=CompressionSpec)
    gates: Gates | None = Field(
        default=None, description="What the result must hold; see `gates` of the job."
    )
    webhook: Webhook | None = Field(default=None, description="Told when the job has ended.")
    outputs: list[Output] = Field(
        default=["torchscript", "safetensors"],
        min_length=1,
        description="The forms in which the compressed network is wanted.",
    )
    dry_run: bool = Field(
        default=False,
        description=(
            "Only plan: the job makes no network, and tells at `/plan` what every group would "
            "keep, exact sizes, and with calibration data the error to expect."
        ),
    )
    metadata: dict[Annotated[str, Field(max_length=100)], Label] = Field(
        default_factory=dict,
        max_length=50,
        description="The caller's own labels, given back unchanged; jobs are listed by them.",
        examples=[{"commit": "4f2a9c1"}],
    )


class JobRequest(JobSettings):
    """The body of `POST /v1/jobs`."""

    model: str = Field(description="Id of an uploaded model.", examples=["model_…"])
    calibration: str | None = Field(
        default=None, description="Id of the dataset on which consumers are refitted."
    )
    evaluation: str | None = Field(
        default=None, description="Id of the dataset on which both networks are measured."
    )


class ResponseModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class Page(ResponseModel, Generic[T]):
    """One page of a list, and the cursor of the next one."""

    data: list[T]
    next: str | None = None


class Upload(ResponseModel):
    """A stored file. The same bytes sent again are the same upload."""

    id: str
    sha256: str = Field(description="Hexadecimal SHA-256 of the bytes.")
    bytes: int
    kind: str = Field(description="What the first bytes say the file is.")
    name: str | None = Field(default=None, description="The file name it was uploaded under.")
    created_at: datetime


class PartialUpload(ResponseModel):
    """A file that arrives in parts, as the tus protocol says."""

    id: str
    kind: Literal["model", "dataset"]
    offset: int = Field(description="Bytes that have arrived.")
    length: int = Field(description="Bytes of the whole file.")
    result: str | None = Field(
        default=None, description="Id of the model or dataset, once all has arrived."
    )


class Model(Upload):
    """An uploaded network."""

    inspection: InspectionReport | None = Field(
        default=None,
        description=(
            "What can be pruned in it, and what is frozen and why: found by the first job that "
            "loads it, and told of one network, not in lists."
        ),
    )


class Dataset(Upload):
    """Uploaded samples."""


class JobProgress(ResponseModel):
    """The step a running job is in: `done` of `total` parts complete."""

    step: str = Field(description="The step's name; see intrafusion.report.Step.")
    done: int
    total: int


class Problem(ResponseModel):
    """An RFC 9457 problem: why a request was refused, or why a job failed."""

    type: str = "about:blank"
    title: str
    status: int
    code: str = Field(description="A stable code; see intrafusion.errors.ErrorCode.")
    detail: str = Field(description="What was wrong with the offending value.")
    hint: str = Field(default="", description="What to do.")
    details: dict[str, Any] = Field(default_factory=dict)
    request_id: str | None = None


class GateCheck(ResponseModel):
    """One gate: what was asked for, what came out."""

    name: Literal["max_accuracy_drop", "min_speedup", "max_bytes"]
    limit: float
    actual: float | None = Field(description="None where it could not be measured.")
    passed: bool


class GateOutcome(ResponseModel):
    """Whether the result holds what the job's gates ask for."""

    passed: bool
    checks: list[GateCheck]


class JobResult(ResponseModel):
    """Both networks as the report measured them; of a dry run their sizes."""

    before: Measurement
    after: Measurement
    fidelity: Fidelity | None = None


class Job(ResponseModel):
    """One compression."""

    id: str
    status: JobStatus
    model: str
    model_name: str | None = Field(
        default=None, description="The model's file name as the job was submitted."
    )
    spec: dict[str, Any] = Field(description="The CompressionSpec, defaults filled in.")
    calibration: str | None = None
    evaluation: str | None = None
    outputs: list[str] = Field(default_factory=list)
    dry_run: bool = False
    metadata: dict[str, str] = Field(default_factory=dict)
    attempt: Annotated[int, Field(ge=0)] = 0
    worker: str | None = None
    progress: JobProgress | None = None
    error: Problem | None = Field(default=None, description="Why it failed.")
    result: JobResult | None = Field(default=None, description="What came out, once succeeded.")
    gates: GateOutcome | None = Field(
        default=None, description="What became of the gates, once succeeded."
    )
    retry_of: str | None = Field(default=None, description="The job that this one repeats.")
    queued_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def ended(self) -> bool:
        return self.status in ENDED


class Event(ResponseModel):
    """One numbered line of a job's story."""

    id: int = Field(description="Counts up from 1 within the job.")
    kind: Literal["status", "progress", "metric", "log"]
    at: datetime
    data: dict[str, Any]


class Artifact(ResponseModel):
    """One file a job made."""

    name: str
    bytes: int
    sha256: str
    media_type: str = "application/octet-stream"
