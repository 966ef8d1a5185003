"""What travels between client and server under /v1. Light: importing this costs no torch.

The server answers with these models and the client reads them. Requests refuse fields they
do not know; responses allow them, so that an older client can read a newer server.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from intrafusion.spec import CompressionSpec, ModelDescription

JobStatus = Literal["queued", "running", "cancelling", "succeeded", "failed", "cancelled"]
ENDED: frozenset[JobStatus] = frozenset({"succeeded", "failed", "cancelled"})

Output = Literal["torchscript", "safetensors", "exported", "onnx"]
"""A file a job can make besides its report: `model.pt`, `model.safetensors`, `model.pt2`,
`model.onnx`.
"""

T = TypeVar("T")


class JobRequest(ModelDescription):
    """The body of `POST /v1/jobs`."""

    model: str = Field(description="Id of an uploaded model.", examples=["model_…"])
    spec: CompressionSpec = Field(default_factory=CompressionSpec)
    calibration: str | None = Field(
        default=None, description="Id of the dataset on which consumers are refitted."
    )
    evaluation: str | None = Field(
        default=None, description="Id of the dataset on which both networks are measured."
    )
    outputs: list[Output] = Field(
        default=["torchscript", "safetensors"],
        min_length=1,
        description="The forms in which the compressed network is wanted.",
    )
    metadata: dict[str, str] = Field(
        default_factory=dict, description="The caller's own labels, given back unchanged."
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


class Model(Upload):
    """An uploaded network."""


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


class Job(ResponseModel):
    """One compression."""

    id: str
    status: JobStatus
    model: str
    spec: dict[str, Any] = Field(description="The CompressionSpec, defaults filled in.")
    calibration: str | None = None
    evaluation: str | None = None
    outputs: list[str] = Field(default_factory=list)
    metadata: dict[str, str] = Field(default_factory=dict)
    attempt: Annotated[int, Field(ge=0)] = 0
    worker: str | None = None
    progress: JobProgress | None = None
    error: Problem | None = Field(default=None, description="Why it failed.")
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
