"""One row of the table: one architecture in one form, through every step."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

import intrafusion
from benchmarks.architectures import Architecture, named, randomise
from benchmarks.published import PUBLISHED
from benchmarks.zoo.forms import NoSuchFormError, as_form
from benchmarks.zoo.memory import peak_bytes, resident_bytes
from benchmarks.zoo.reference import error, masked_outputs, random_half
from intrafusion.channels import analyse, remove
from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.program import Program, torch_private
from intrafusion.program.messages import reason_line

T = TypeVar("T")

BATCHES = (1, 2, 5)
EXAMPLE_BATCH = 2
_REPEATS, _LONG_ENOUGH = 3, 1.0
"""At least so many calls are timed, and so many seconds."""


@dataclass(frozen=True)
class Row:
    """One architecture in one form. What was not reached is None or empty.

    Attributes:
        architecture: its name in the zoo.
        form: one of `benchmarks.zoo.forms.FORMS`.
        unmade: why torch itself cannot make this form; such a row counts for nothing.
        failure: what went wrong, and at which step.
        groups: number of prunable groups.
        coverage: share of parameter elements that lie in one.
        left: share of parameter elements after half of every group's units went.
        errors: zero-then-remove error by batch size.
        self_check: whether walking the shrunk graph again found the channels that stayed.
        formats: by output format, what went wrong; "" where nothing did.
        forward_seconds: one pass of the network as an nn.Module at a batch of 2 of the size it
            was published for; processor time, as all seconds here.
        capture_seconds: `intrafusion.load`.
        analysis_seconds: `analyse`, on the network in that size.
        model_bytes: parameters and buffers.
        peak_bytes: most memory held during load, analysis and removal, beyond what was held
            before.
    """

    architecture: str
    form: str
    unmade: str = ""
    failure: str = ""
    groups: int | None = None
    coverage: float | None = None
    left: float | None = None
    errors: dict[int, float] = field(default_factory=dict)
    self_check: bool | None = None
    formats: dict[str, str] = field(default_factory=dict)
    forward_seconds: float | None = None
    capture_seconds: float | None = None
    analysis_seconds: float | None = None
    model_bytes: int | None = None
    peak_bytes: int | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Row:
        """What `as_json` gave, written and read: JSON knows no numbers as keys."""
        errors = {int(batch): error for batch, error in record["errors"].items()}
        return cls(**{**record, "errors": errors})


def median_seconds(call: Callable[[], object]) -> float:
    """The median processor time of some calls, after one that is not counted; see `_REPEATS`.

    On one thread this is the time it takes on a machine that does nothing else.
    """
    call()
    taken: list[float] = []
    while len(taken) < _REPEATS or sum(taken) < _LONG_ENOUGH:
        taken.append(seconds(call)[1])
    return statistics.median(taken)


def seconds(call: Callable[[], T]) -> tuple[T, float]:
    """What `call` returns, and the processor time it took."""
    began = time.process_time()
    result = call()
    return result, time.process_time() - began


def measure(name: str, form: str, formats: Sequence[str], folder: Path) -> Row:
    """Measure one row, writing `formats` to `folder`. Failures end up in the row."""
    measuring = _Measuring(named(name), form, formats, folder)
    try:
        measuring.run()
    except NoSuchFormError as failure:
        measuring.note(unmade=line_of(failure))
    except Exception as failure:  # noqa: BLE001 - a table of what fails needs all that fails
        measuring.note(failure=f"{measuring.step}: {line_of(failure)}")
    return measuring.row


def line_of(failure: BaseException) -> str:
    """What an exception says, in one line."""
    if isinstance(failure, IntraFusionError | NoSuchFormError):
        return " ".join(str(failure).split())
    return f"{type(failure).__name__}: {reason_line(failure)}"


class _Measuring:
    """A row that fills up step by step."""

    def __init__(
        self, architecture: Architecture, form: str, formats: Sequence[str], folder: Path
    ) -> None:
        self._architecture, self._formats, self._folder = architecture, formats, folder
        self.row = Row(architecture.name, form)
        self.step = "build"

    def note(self, **values: Any) -> None:
        self.row = replace(self.row, **values)

    def run(self) -> None:
        torch.manual_seed(0)
        network = randomise(self._architecture.build())
        tensors = [*network.parameters(), *network.buffers()]
        self.note(model_bytes=sum(t.numel() * t.element_size() for t in tensors))
        inputs = self._architecture.inputs(EXAMPLE_BATCH)
        source = as_form(network, self.row.form, inputs, self._folder)

        before = resident_bytes()
        self.step = "load"
        program, taken = seconds(lambda: intrafusion.load(source, example_inputs=inputs))
        self.note(capture_seconds=taken)
        shrunk = self._prune(program)
        self.note(peak_bytes=max(0, peak_bytes() - before))
        self.step = "time"
        self._time(network, program)
        for name in self._formats:
            self.step = name
            self.note(formats={**self.row.formats, name: self._write(shrunk, name)})

    def _prune(self, program: Program) -> Program:
        self.step = "analyse"
        analysis = analyse(program)
        self.note(groups=len(analysis.groups), coverage=analysis.coverage)
        self.step = "remove"
        kept = random_half(analysis)
        try:
            shrunk = remove(analysis, kept).program
        except IntraFusionError as failure:
            if failure.code is ErrorCode.COMPRESSION_FAILED:
                self.note(self_check=False)
            raise
        self.note(self_check=True, left=shrunk.parameter_count / max(1, program.parameter_count))
        self.step = "compare"
        for batch in BATCHES:
            inputs = self._architecture.inputs(batch)
            found = error(shrunk.outputs(*inputs), masked_outputs(analysis, kept, inputs))
            self.note(errors={**self.row.errors, batch: found})
        return shrunk

    def _time(self, network: nn.Module, program: Program) -> None:
        """Time a forward pass and the analysis, of the network in its published size."""
        inputs = self._architecture.native_inputs(EXAMPLE_BATCH)
        if (published := PUBLISHED.get(self._architecture.name)) is not None:
            network, inputs = published.build(), published.inputs(EXAMPLE_BATCH)
            program = intrafusion.load(network, example_inputs=published.shortest(EXAMPLE_BATCH))
        with torch.no_grad():
            self.note(forward_seconds=median_seconds(lambda: network(*inputs)))
        self.note(analysis_seconds=median_seconds(lambda: analyse(program)))

    def _write(self, shrunk: Program, name: str) -> str:
        """Write in one format; returns what went wrong. `save` reads the file back itself."""
        path = self._folder / f"shrunk.{name}"
        try:
            shrunk.save(path, name)
            if name == "torchscript":
                inputs = self._architecture.inputs(max(BATCHES))
                with torch.no_grad():
                    returned = torch_private.load_script(path)(*inputs)
                found = error(tensors_of(returned), shrunk.outputs(*inputs))
                if not found <= 1e-5:
                    return f"read back, outputs differ by {found:.1e}"
        except Exception as failure:  # noqa: BLE001 - as in `measure`
            return line_of(failure)
        return ""


def tensors_of(returned: Any) -> list[Tensor]:
    """The tensors of whatever a network returns, flat."""
    leaves, _ = torch_private.flatten(returned)
    return leaves
