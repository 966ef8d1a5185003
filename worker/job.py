"""The job process: `python -m worker.job FOLDER`. Reads the order, runs the engine, writes files.

The only module outside intrafusion that imports the engine, and with it torch. The network it
loads is a program written by whoever uploaded it: nothing here is trusted by the supervisor.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from intrafusion.api import PLAN_FILE, REPORT_FILE
from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.report import Progress
from worker.messages import (
    INSPECTION,
    MODEL_OUTPUTS,
    ORDER,
    DoneMessage,
    ErrorMessage,
    LogMessage,
    Message,
    MetricMessage,
    Order,
    ProgressMessage,
)

if TYPE_CHECKING:
    from intrafusion.calibration import Dataset

_TEXT = 8000
_CPU_ALLOCATOR = "DefaultCPUAllocator"
"""What torch's plain RuntimeError names when it gets no memory on the CPU."""


def main(folder: Path) -> int:
    """Do what the order in `folder` says; returns the exit code: 0, or 1 after an error event."""
    with os.fdopen(int(os.environ["INTRAFUSION_EVENTS"]), "wb", buffering=0) as pipe:
        try:
            _run(folder, pipe)
        except IntraFusionError as error:
            _say(pipe, _error(error))
            return 1
        except Exception as error:  # noqa: BLE001 - the last line: told to the supervisor
            _say(pipe, LogMessage(text=traceback.format_exc()[-_TEXT:]))
            _say(pipe, _error(_explain(error)))
            return 1
        _say(pipe, DoneMessage())
    return 0


def _run(folder: Path, pipe: BinaryIO) -> None:
    inputs, out = folder / "inputs", folder / "out"
    order = Order.model_validate_json((inputs / ORDER).read_bytes())
    request = order.request
    began = time.monotonic()
    import torch  # noqa: F401 - first and alone: nothing here can make it quicker

    imported = time.monotonic()
    import intrafusion
    from intrafusion.calibration.datasets import load_dataset

    _say(pipe, MetricMessage(name="torch_seconds", value=imported - began))
    _say(pipe, MetricMessage(name="import_seconds", value=time.monotonic() - imported))
    _say(pipe, ProgressMessage(step="load", done=0, total=1))

    def read(name: str | None) -> Dataset | None:
        return None if name is None else load_dataset(inputs / name)

    calibration, evaluation = read(order.calibration), read(order.evaluation)
    shapes, dtypes = request.input_shapes, request.input_dtypes
    samples = calibration or evaluation
    if shapes is None and samples is not None:
        shapes = [[1, *x.shape[1:]] for x in samples.inputs]
        dtypes = dtypes or [str(x.dtype).removeprefix("torch.") for x in samples.inputs]
    program = intrafusion.load(
        inputs / order.model,
        input_shapes=shapes,
        input_dtypes=dtypes,
        architecture=request.architecture,
    )
    _say(pipe, ProgressMessage(step="load", done=1, total=1))
    if order.inspect:
        (out / INSPECTION).write_text(intrafusion.inspect(program).model_dump_json())

    def tell(progress: Progress) -> None:
        message = ProgressMessage(step=progress.step, done=progress.done, total=progress.total)
        _say(pipe, message)

    if request.dry_run:
        plan = intrafusion.plan(program, request.spec, calibration, progress=tell, device="auto")
        (out / PLAN_FILE).write_text(plan.model_dump_json(indent=2))
        return
    result = intrafusion.compress(
        program,
        request.spec,
        calibration=calibration,
        evaluation=evaluation,
        progress=tell,
        device="auto",
    )
    written = [
        result.program.save(out / MODEL_OUTPUTS[output], format=output)
        for output in request.outputs
    ]
    report = result.report.with_file_bytes(
        (inputs / order.model).stat().st_size, written[0].stat().st_size
    )
    (out / REPORT_FILE).write_text(report.model_dump_json(indent=2))


def _explain(error: Exception) -> IntraFusionError:
    torch = sys.modules.get("torch")
    on_gpu = torch is not None and isinstance(error, torch.OutOfMemoryError)
    if on_gpu or isinstance(error, MemoryError) or _CPU_ALLOCATOR in str(error):
        return IntraFusionError(
            ErrorCode.OUT_OF_MEMORY,
            "Memory ran out while the job ran.",
            "Use fewer samples, or have the operator raise INTRAFUSION_JOB_MEMORY_BYTES.",
        )
    return IntraFusionError(
        ErrorCode.INTERNAL,
        f"The engine failed: {type(error).__name__}: {error}",
        "The job's events hold the traceback; please report it.",
    )


def _error(error: IntraFusionError) -> ErrorMessage:
    return ErrorMessage(
        code=error.code.code,
        message=error.message[:_TEXT],
        hint=error.hint[:_TEXT],
        details=error.details,
    )


def _say(pipe: BinaryIO, message: Message) -> None:
    pipe.write(message.model_dump_json().encode() + b"\n")


if __name__ == "__main__":
    _code = main(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(_code)  # all is written; taking torch down in good order takes a second
