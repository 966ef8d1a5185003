"""What flags mean, as parts of a request; what is wrong is told of the flag."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from intrafusion.errors import ErrorCode, IntraFusionError
from intrafusion.spec import Architecture, CompressionSpec, ModelDescription


def pairs(given: list[str] | None) -> dict[str, str]:
    """`GLOB=SHARE` as a mapping; raises `INVALID_SPEC` where there is no `=`."""
    # A glob may hold an equals sign, a share does not.
    return _mapping(given, str.rpartition, "--group-sparsity {} has no share.", "layer4.*=0.7")


def labels(given: list[str] | None) -> dict[str, str]:
    """The labels that `--metadata NAME=VALUE` gives; raises `INVALID_SPEC` for one without."""
    return _mapping(given, str.partition, "--metadata {} has no value.", "commit=4f2a9c1")


def _mapping(
    given: list[str] | None,
    cut: Callable[[str, str], tuple[str, str, str]],
    fault: str,
    example: str,
) -> dict[str, str]:
    found = {}
    for text in given or ():
        name, equals, value = cut(text, "=")
        if not equals:
            raise IntraFusionError(
                ErrorCode.INVALID_SPEC, fault.format(repr(text)), f"Write it as {example!r}."
            )
        found[name] = value
    return found


def build_spec(**fields: Any) -> CompressionSpec:
    """The spec the flags ask for; raises `INVALID_SPEC` naming the flag that is wrong."""
    try:
        return CompressionSpec(**fields)
    except ValidationError as invalid:
        raise flag_error(invalid) from invalid


def build_description(
    shapes: list[str] | None,
    dtypes: list[str] | None,
    architecture: str | None,
    arguments: str | None,
) -> ModelDescription:
    """What the flags say about the model file; raises `INVALID_SPEC` naming the wrong flag."""
    if arguments is not None and architecture is None:
        raise IntraFusionError(
            ErrorCode.INVALID_SPEC,
            "--architecture-arguments is given without --architecture.",
            "Name the architecture they belong to.",
        )
    try:
        return ModelDescription(
            input_shapes=[_shape(text) for text in shapes] if shapes else None,
            input_dtypes=dtypes or None,
            architecture=(
                Architecture(name=architecture, arguments=_arguments(arguments))
                if architecture
                else None
            ),
        )
    except ValidationError as invalid:
        raise flag_error(invalid) from invalid


def _shape(text: str) -> list[int]:
    try:
        return [int(size) for size in text.strip("()[] ").split(",")]
    except ValueError as wrong:
        raise IntraFusionError(
            ErrorCode.INVALID_SPEC,
            f"--input-shape {text!r} is no shape.",
            "Write whole numbers with commas, batch first, such as 1,3,224,224.",
            given=text,
        ) from wrong


def _arguments(text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except json.JSONDecodeError as wrong:
        raise _no_object(text) from wrong
    if not isinstance(value, dict):
        raise _no_object(text)
    return value


def _no_object(text: str | None) -> IntraFusionError:
    return IntraFusionError(
        ErrorCode.INVALID_SPEC,
        f"--architecture-arguments {text!r} is no JSON object.",
        """Write one such as '{"num_classes": 10}'.""",
        given=text,
    )


_FLAGS = {"input_shapes": "--input-shape", "input_dtypes": "--input-dtype"}
"""Where a flag is not its field's name."""


def flag_error(invalid: ValidationError, flags: Mapping[str, str] = _FLAGS) -> IntraFusionError:
    """What is wrong with a flag, found when its field was validated.

    Args:
        invalid: what pydantic says.
        flags: by field, those that are not the field's name.
    """
    first = invalid.errors(include_url=False)[0]
    field = str(first["loc"][0])
    flag = flags.get(field, "--" + field.replace("_", "-"))
    return IntraFusionError(
        ErrorCode.INVALID_SPEC,
        f"{flag} {first['input']!r}: {first['msg'].removeprefix('Value error, ')}.",
        "intrafusion compress --help describes each flag.",
        flag=flag,
    )
