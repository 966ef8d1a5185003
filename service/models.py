"""Uploaded networks."""

from __future__ import annotations

from intrafusion.api import Model
from intrafusion.program.sniff import kind_of
from service.store.records import ModelRecord
from service.uploads import Uploads

MODELS = Uploads(ModelRecord, "model", Model, kind_of)
"""`keep` raises `NOT_A_MODEL`, `CORRUPT_MODEL` and `UNSAFE_PICKLE` too."""
