"""What schemathesis cannot know from a schema: which bytes are a network, and of which kind.

Where `SEQUENCES` is not set, requests are left as they were drawn.
"""

from __future__ import annotations

import os
from typing import Any

import schemathesis

from tests.service.conftest import DATASET, MODEL

BODIES = {
    "POST /v1/models": MODEL,
    "POST /v1/datasets": DATASET,
    "POST /v1/compress": {
        "file": MODEL,
        "input_shapes": "[[1, 3]]",
        "architecture": '{"name": "a/b"}',
    },
}


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Files in the place of noise."""
    return BODIES.get(context.operation.label, body) if "SEQUENCES" in os.environ else body


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """A job that can be, wherever a link led to it with the id of a network."""
    del context, kwargs
    if "SEQUENCES" not in os.environ or case.operation.label != "POST /v1/jobs":
        return
    model = case.body.get("model") if isinstance(case.body, dict) else None
    if str(model).startswith("model_"):
        case.body = {"model": model, "input_shapes": [[1, 3]], "architecture": {"name": "a/b"}}


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    """Leave out headers of others: HTTP wants a server to pass over those it does not know."""
    return "x-schemathesis-unknown-property" not in {name.lower() for name in case.headers or {}}
