"""The original and the compressed program, measured side by side."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from intrafusion.calibration.datasets import Dataset
from intrafusion.evaluation.accuracy import Accuracy
from intrafusion.evaluation.cost import macs
from intrafusion.evaluation.fidelity import Distance, Source, is_class_scores
from intrafusion.evaluation.latency import latencies
from intrafusion.evaluation.memory import peak_activation_bytes
from intrafusion.evaluation.regression import TargetErrors
from intrafusion.program.inputs import Samples, Shapes
from intrafusion.program.program import Program
from intrafusion.report import Fidelity, Latency, Measurement

_RANDOM_SAMPLES = 64


@dataclass(frozen=True)
class Evaluation:
    """The measurements of the original (`before`) and the compressed program (`after`)."""

    before: Measurement
    after: Measurement
    fidelity: Fidelity


def evaluate(
    original: Program,
    compressed: Program,
    evaluation: Dataset | None,
    calibration: Dataset | None,
    latency: bool = True,
    batch: int = 64,
) -> Evaluation:
    """Measure both programs.

    Accuracy needs labels in `evaluation`, the errors of a regression `targets`. The outputs are
    compared on `evaluation`, without it on `calibration`, and without either on standard normal
    noise. `latency` adds some seconds; `batch` samples are run at a time.

    Raises `IntraFusionError` with `COMPRESSION_FAILED` where the compressed program's outputs
    are not finite and the original's are.
    """
    source, dataset = _samples(original, evaluation, calibration)
    distance, accuracies = Distance(), (Accuracy(), Accuracy())
    errors = TargetErrors(), TargetErrors()
    labelled = source == "evaluation"
    targets = iter(() if dataset.targets is None else torch.split(dataset.targets, batch))
    for inputs, labels in dataset.batches(batch):
        wanted = next(targets, None)
        inputs = tuple(x.to(original.device) for x in inputs)
        outputs = original.outputs(*inputs), compressed.outputs(*inputs)
        distance.add(*outputs)
        if labelled and labels is not None and is_class_scores(outputs[0]):
            for accuracy, scores in zip(accuracies, outputs, strict=True):
                accuracy.add(scores[0], labels)
        if labelled and wanted is not None:
            for error, found in zip(errors, outputs, strict=True):
                error.add(found[0], wanted)
    times: list[Latency] | list[None] = (
        latencies([original, compressed]) if latency else [None, None]
    )
    before, after = (
        Measurement(
            parameters=program.parameter_count,
            macs=macs(program),
            accuracy=accuracy.top1,
            top5_accuracy=accuracy.top5,
            regression=error.result(),
            peak_activation_bytes=peak_activation_bytes(program),
            latency=time,
        )
        for program, accuracy, error, time in zip(
            (original, compressed), accuracies, errors, times, strict=True
        )
    )
    return Evaluation(before, after, distance.result(source))


def _samples(
    program: Program, evaluation: Dataset | None, calibration: Dataset | None
) -> tuple[Source, Dataset]:
    if evaluation is not None:
        return "evaluation", evaluation
    if calibration is not None:
        return "calibration", calibration
    examples = program.example_inputs
    if all(x.is_floating_point() for x in examples):
        shapes = tuple(tuple(x.shape[1:]) for x in examples)
        noise = Shapes(shapes, tuple(x.dtype for x in examples)).batch(_RANDOM_SAMPLES)
    else:
        # Random indices could be ones the network has no entry for.
        noise = Samples(examples).batch(examples[0].shape[0])
    return "random", Dataset(tuple(torch.as_tensor(x) for x in noise), name="noise")
