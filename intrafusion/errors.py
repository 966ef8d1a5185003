"""What can go wrong, by name.

Every error a user can meet has a stable `ErrorCode`. The engine raises `IntraFusionError`
with one of them; the server answers with the same code as RFC 9457 problem+json; the client
raises it again on the user's side. Codes are part of the public interface: none is renamed.
"""

from __future__ import annotations

from enum import Enum
from http import HTTPStatus
from typing import Any


class ErrorCode(Enum):
    """A stable code, the HTTP status the server answers with, and a title for people."""

    # The request itself
    BAD_REQUEST = ("bad_request", 400, "The request is malformed")
    UNKNOWN_FIELD = ("unknown_field", 400, "The request has a field that does not exist")
    INVALID_SPEC = ("invalid_spec", 422, "The spec asks for something impossible")
    UNAUTHENTICATED = ("unauthenticated", 401, "No valid API key")
    FORBIDDEN = ("forbidden", 403, "Not allowed")
    NOT_FOUND = ("not_found", 404, "There is no such thing")
    METHOD_NOT_ALLOWED = ("method_not_allowed", 405, "This address does not take this method")
    CONFLICT = ("conflict", 409, "The request conflicts with the present state")
    IDEMPOTENCY_MISMATCH = (
        "idempotency_mismatch",
        409,
        "The idempotency key was used with another body",
    )
    UPLOAD_TOO_LARGE = ("upload_too_large", 413, "The upload is over the limit")
    CHECKSUM_MISMATCH = ("checksum_mismatch", 400, "The bytes are not the ones announced")
    TUS_VERSION = ("tus_version", 412, "The version of the tus protocol is not supported")
    NOT_A_PART = ("not_a_part", 415, "The body is not a part of a resumable upload")
    RANGE_NOT_SATISFIABLE = ("range_not_satisfiable", 416, "The file has no such range")
    TOO_MANY_REQUESTS = ("too_many_requests", 429, "Too many requests")
    JOB_QUOTA = ("job_quota", 429, "Too many jobs are queued")
    STORAGE_QUOTA = ("storage_quota", 413, "The storage is used up")

    # The model file
    NOT_A_MODEL = ("not_a_model", 415, "The file is not a model")
    CORRUPT_MODEL = ("corrupt_model", 415, "The model file is damaged")
    UNSAFE_PICKLE = ("unsafe_pickle", 415, "The file is a bare pickle")
    MODEL_DOES_NOT_RUN = ("model_does_not_run", 422, "The network's forward pass raises an error")
    MODEL_NOT_DETERMINISTIC = (
        "model_not_deterministic",
        422,
        "The network gives different outputs for the same input",
    )
    BATCH_DEPENDENT = (
        "batch_dependent",
        422,
        "What the network computes depends on the batch size",
    )
    CAPTURE_FAILED = ("capture_failed", 422, "The network could not be read as a graph")

    # How the model is described
    INPUT_SHAPE_MISSING = ("input_shape_missing", 422, "The shape of the inputs is not known")
    INPUT_SHAPE_MISMATCH = (
        "input_shape_mismatch",
        422,
        "The network does not accept inputs of this shape",
    )
    INPUT_COUNT_MISMATCH = (
        "input_count_mismatch",
        422,
        "The network takes another number of inputs",
    )
    ARCHITECTURE_MISSING = ("architecture_missing", 422, "A state dict needs its architecture")
    UNKNOWN_ARCHITECTURE = ("unknown_architecture", 422, "There is no such architecture")
    ARCHITECTURE_ARGUMENTS = (
        "architecture_arguments",
        422,
        "The architecture does not accept these arguments",
    )
    STATE_DICT_MISMATCH = (
        "state_dict_mismatch",
        422,
        "The state dict does not fit the architecture",
    )

    # The data
    NOT_A_DATASET = ("not_a_dataset", 415, "The file is not a dataset")
    DATASET_WITHOUT_INPUTS = ("dataset_without_inputs", 422, "The dataset has no inputs")
    DATASET_SHAPE_MISMATCH = ("dataset_shape_mismatch", 422, "The samples do not fit the network")
    DATASET_DTYPE_MISMATCH = ("dataset_dtype_mismatch", 422, "The samples have the wrong dtype")
    DATASET_NOT_FINITE = ("dataset_not_finite", 422, "The samples contain NaN or infinity")
    DATASET_LABELS_INVALID = ("dataset_labels_invalid", 422, "The labels do not fit")
    DATASET_TOO_SMALL = ("dataset_too_small", 422, "There are too few samples")

    # The work
    BUDGET_UNREACHABLE = ("budget_unreachable", 422, "No network within the budget can be made")
    NOTHING_TO_PRUNE = ("nothing_to_prune", 422, "The request would remove nothing")
    WEIGHTS_NOT_FINITE = (
        "weights_not_finite",
        422,
        "The network's weights contain NaN or infinity",
    )
    COMPRESSION_FAILED = ("compression_failed", 500, "The compressed network failed its self-check")
    PLAN_MISSING = ("plan_missing", 422, "The file does not say what was removed")
    MODULE_NOT_RESIZABLE = (
        "module_not_resizable",
        422,
        "The module cannot take the sizes of the file",
    )
    FORMAT_NOT_POSSIBLE = ("format_not_possible", 422, "The network cannot be saved in this format")
    OUT_OF_MEMORY = ("out_of_memory", 500, "The job needed more memory than it may use")
    TIME_LIMIT = ("time_limit", 500, "The job ran longer than it may")
    JOB_CRASHED = ("job_crashed", 500, "The job process died")
    WORKER_LOST = ("worker_lost", 500, "The worker was lost too many times")
    CANCELLED = ("cancelled", 409, "The job was cancelled")
    NOT_FINISHED = ("not_finished", 409, "The job has not finished")
    ENGINE_MISSING = ("engine_missing", 500, "The engine is not installed")
    INTERNAL = ("internal", 500, "Something went wrong on our side")
    UNAVAILABLE = ("unavailable", 503, "The service is not ready")

    def __init__(self, code: str, status: int, title: str) -> None:
        self.code = code
        self.status = HTTPStatus(status)
        self.title = title

    @classmethod
    def from_code(cls, code: str) -> ErrorCode:
        """The member whose stable code is `code`; `INTERNAL` for one this version does not know."""
        return next((member for member in cls if member.code == code), cls.INTERNAL)


class IntraFusionError(Exception):
    """An error with a stable code, what was wrong (`message`), and what to do (`hint`).

    `details` holds the offending values, JSON-serialisable, for programs to read.
    """

    def __init__(self, code: ErrorCode, message: str, hint: str = "", **details: Any) -> None:
        super().__init__(f"{message} {hint}".strip())
        self.code = code
        self.message = message
        self.hint = hint
        self.details = details

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.code, self.message, self.hint, self.details)


def _rebuild(code: ErrorCode, message: str, hint: str, details: dict[str, Any]) -> IntraFusionError:
    return IntraFusionError(code, message, hint, **details)


def how_to_install(extra: str) -> str:
    """The command that installs one of this package's extras, from an index or from a checkout."""
    return f"pip install 'intrafusion[{extra}]' (in a checkout: pip install '.[{extra}]')"
