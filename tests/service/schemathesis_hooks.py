"""What schemathesis cannot know from a schema: which bytes and ids are a network.

`STORED_MODEL` is the id of one. Where it is not set, requests are left as they were drawn.
"""

from __future__ import annotations

import os
from typing import Any

import schemathesis

from tests.service.conftest import DATASET, MODEL

STORED = os.environ.get("STORED_MODEL")


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Files in the place of noise, and a network that a job can be made of."""
    if STORED is None:
        return body
    match context.operation.label:
        case "POST /v1/models":
            return MODEL
        case "POST /v1/datasets":
            return DATASET
        case "POST /v1/jobs":
            architecture = {"name": "a/b"}
            return {"model": STORED, "input_shapes": [[1, 3]], "architecture": architecture}
    return body


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    """Leave out headers of others: HTTP wants a server to pass over those it does not know."""
    return "x-schemathesis-unknown-property" not in {name.lower() for name in case.headers or {}}
