"""What the form of the page asks for, as a job's settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from intrafusion.errors import ErrorCode, IntraFusionError

FIELDS = (
    "method",
    "budget",
    "amount",
    "input_shape",
    "architecture",
    "arguments",
    "outputs",
    "max_accuracy_drop",
    "label",
    "dry_run",
)

BUDGETS = {
    "sparsity": "channels to remove",
    "parameters": "parameters left",
    "macs": "multiply-accumulates left",
    "max_accuracy_drop": "accuracy lost at most, and as small as that allows",
}


def settings_of(fields: Mapping[str, str]) -> dict[str, Any]:
    """The job's settings, not yet validated. Raises `BAD_REQUEST` for what is no number."""
    spec: dict[str, Any] = {"method": fields.get("method") or "intra-fusion"}
    budget = fields.get("budget") or "sparsity"
    if budget in BUDGETS and fields.get("amount"):
        spec[budget] = _number("amount", fields["amount"]) / 100
    settings: dict[str, Any] = {"spec": spec, "metadata": {"from": "the page"}}
    if fields.get("input_shape"):
        sizes = fields["input_shape"].replace("×", ",").replace("x", ",").split(",")
        settings["input_shapes"] = [[round(_number("input shape", size)) for size in sizes]]
    if fields.get("architecture"):
        settings["architecture"] = {
            "name": fields["architecture"],
            "arguments": _object(fields.get("arguments") or "{}"),
        }
    if fields.get("outputs"):
        settings["outputs"] = [fields["outputs"]]
    if fields.get("max_accuracy_drop"):
        drop = _number("accuracy gate", fields["max_accuracy_drop"]) / 100
        settings["gates"] = {"max_accuracy_drop": drop}
    if fields.get("dry_run"):
        settings["dry_run"] = True
    if fields.get("label"):
        settings["metadata"]["label"] = fields["label"]
    return settings


def _number(what: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise IntraFusionError(
            ErrorCode.BAD_REQUEST, f"The {what} is {text!r}, which is no number.", "Write one."
        ) from error


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise IntraFusionError(
            ErrorCode.BAD_REQUEST,
            f"The architecture's arguments are {text!r}, which is no JSON object.",
            'Write them as {"num_classes": 10}.',
        )
    return found
