"""Uploaded samples."""

from __future__ import annotations

import zipfile
from pathlib import Path

from intrafusion.api import Dataset
from intrafusion.calibration.sniff import check_dataset
from service.store.records import DatasetRecord
from service.uploads import Uploads


def _kind_of(path: Path) -> str:
    check_dataset(path)
    return "npz" if zipfile.is_zipfile(path) else "safetensors"


DATASETS = Uploads(DatasetRecord, "data", Dataset, _kind_of)
"""`keep` raises the `DATASET_…` codes too."""
