"""Makes trained networks smaller without retraining them.

    import intrafusion
    program = intrafusion.load("model.pt", input_shapes=[(1, 3, 224, 224)])
    print(intrafusion.inspect(program))
    result = intrafusion.compress(program, intrafusion.CompressionSpec(sparsity=0.5))
    result.program.save("small.pt")

The engine (and with it torch) is imported on first use, so that `intrafusion.spec`,
`intrafusion.report` and `intrafusion.errors` cost no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from intrafusion.errors import ErrorCode, IntraFusionError, how_to_install
from intrafusion.report import CompressionReport, InspectionReport
from intrafusion.spec import Architecture, CompressionSpec

if TYPE_CHECKING:
    from intrafusion.calibration.datasets import Dataset, load_dataset
    from intrafusion.inspection import inspect
    from intrafusion.pipeline import Compression, compress, plan
    from intrafusion.program import Program, load
    from intrafusion.resize import resize_

__version__ = "0.1.0"

_ENGINE = {
    "Compression": "intrafusion.pipeline",
    "Dataset": "intrafusion.calibration",
    "Program": "intrafusion.program",
    "compress": "intrafusion.pipeline",
    "inspect": "intrafusion.inspection",
    "load": "intrafusion.program",
    "plan": "intrafusion.pipeline",
    "load_dataset": "intrafusion.calibration.datasets",
    "resize_": "intrafusion.resize",
}

__all__ = [
    "Architecture",
    "Compression",
    "CompressionReport",
    "CompressionSpec",
    "Dataset",
    "ErrorCode",
    "InspectionReport",
    "IntraFusionError",
    "Program",
    "compress",
    "inspect",
    "load",
    "load_dataset",
    "plan",
    "resize_",
]


def __getattr__(name: str) -> Any:
    module = _ENGINE.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(module), name)
    except ModuleNotFoundError as missing:
        if missing.name is not None and missing.name.startswith("intrafusion"):
            raise
        raise IntraFusionError(
            ErrorCode.ENGINE_MISSING,
            f"intrafusion.{name} needs {missing.name}, which is not installed.",
            f"Install the engine: {how_to_install('engine')}.",
        ) from missing
