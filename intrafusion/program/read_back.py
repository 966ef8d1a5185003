"""Whether a file that was written does what the program does."""

from __future__ import annotations

import torch

from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.program import torch_private
from intrafusion.program.inputs import Samples
from intrafusion.program.program import Program
from intrafusion.program.verify import Forward, all_close

_BATCHES = (2, 5)


def check_outputs(program: Program, forward: Forward, *, kind: str, output: str) -> None:
    """Check at two batch sizes that `forward`, read from a file, gives the program's outputs.

    `kind` is what people call the file, `output` its format in a request. Raises
    `COMPRESSION_FAILED` where they differ.
    """
    for size in _BATCHES:
        inputs = Samples(program.example_inputs).batch(size)
        with torch.no_grad():
            outputs, _ = torch_private.flatten(forward(*inputs))
        if not all_close(outputs, program.outputs(*inputs)):
            raise differs(f"gives other outputs at a batch of {size}", kind=kind, output=output)


def differs(what: str, *, kind: str, output: str) -> IntraFusionError:
    """The error of a file that, read back, is not what was written."""
    return IntraFusionError(
        ErrorCode.COMPRESSION_FAILED,
        f"The {kind} file, read back, {what}.",
        "This is a defect of intrafusion; please report it with the network.",
        format=output,
    )
