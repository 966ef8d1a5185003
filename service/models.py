"""Uploaded networks."""

from __future__ import annotations

from intrafusion.api import Model
from intrafusion.program.sniff import kind_of
from intrafusion.report import InspectionReport
from service.store.database import Database
from service.store.records import ModelRecord
from service.store.uploads import find_inspection
from service.uploads import Uploads

MODELS = Uploads(ModelRecord, "model", Model, kind_of)
"""`keep` raises `NOT_A_MODEL`, `CORRUPT_MODEL` and `UNSAFE_PICKLE` too."""


def get_model(*, database: Database, tenant: str, id: str) -> Model:  # noqa: A002
    """The network with this id and what a worker found in it. Raises `NOT_FOUND`."""
    model = MODELS.get(database=database, tenant=tenant, id=id)
    with database.read() as session:
        found = find_inspection(session, id)
    inspection = None if found is None else InspectionReport.model_validate(found)
    return model.model_copy(update={"inspection": inspection})
