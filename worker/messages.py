"""What supervisor and job process say to each other. The job's side is not trusted.

The supervisor writes an `Order` to a file; the process answers in lines of JSON on a pipe.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from intrafusion.api import JobRequest

ORDER = "job.json"
MODEL_OUTPUTS = {
    "torchscript": "model.pt",
    "safetensors": "model.safetensors",
    "exported": "model.pt2",
    "onnx": "model.onnx",
}
REPORT_PAGE = "report.html"
INSPECTION = "inspection.json"

_Word = Annotated[str, Field(max_length=64)]
_Text = Annotated[str, Field(max_length=8000)]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Order(_Message):
    """What a job process is to do; file names are relative to its inputs folder."""

    request: JobRequest
    model: str
    calibration: str | None = None
    evaluation: str | None = None
    inspect: bool = False
    """Whether to write down what can be pruned in the model."""


class ProgressMessage(_Message):
    """The step the job is in."""

    kind: Literal["progress"] = "progress"
    step: _Word
    done: Annotated[int, Field(ge=0, lt=2**53)]
    total: Annotated[int, Field(ge=0, lt=2**53)]


class MetricMessage(_Message):
    """A number the job measured."""

    kind: Literal["metric"] = "metric"
    name: _Word
    value: Annotated[float, Field(allow_inf_nan=False)]


class LogMessage(_Message):
    """A line for people."""

    kind: Literal["log"] = "log"
    text: _Text


class ErrorMessage(_Message):
    """Why the job failed: an `IntraFusionError`, field by field."""

    kind: Literal["error"] = "error"
    code: _Word
    message: _Text
    hint: _Text = ""
    details: dict[str, Any] = Field(default_factory=dict)


class DoneMessage(_Message):
    """The results are written."""

    kind: Literal["done"] = "done"


Message = Annotated[
    ProgressMessage | MetricMessage | LogMessage | ErrorMessage | DoneMessage,
    Field(discriminator="kind"),
]

MESSAGE: TypeAdapter[Message] = TypeAdapter(Message)
