"""What several test packages share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import ModuleType

import hypothesis
import pytest

from benchmarks.architectures import import_torchvision
from service.settings import Settings
from service.store.blobs import Blobs
from service.store.database import Database
from tests.servers import postgresql, s3

# The same examples in every run of the same suite, so that a commit that passed passes again. New
# ones are looked for on purpose: HYPOTHESIS_PROFILE=explore, and RANDOM_GRAPHS says how many
# networks to draw. Examples depend on what was imported before a test; see test_random_graphs.py.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.register_profile("explore", derandomize=False, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


@pytest.fixture(scope="session", name="torchvision")
def importable_torchvision() -> ModuleType:
    """torchvision, whose compiled operators the CPU build of torch cannot load."""
    return import_torchvision()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A PostgreSQL server; the folder of its socket."""
    with postgresql() as folder:
        yield folder


@pytest.fixture(scope="session")
def object_store() -> Iterator[dict[str, str]]:
    """A server that speaks S3; the environment that leads to its bucket `bucket`."""
    with s3() as environment:
        yield environment


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """The records of the installation that a package's `settings` describe, up to date."""
    database = Database(settings.database)
    database.migrate()
    yield database
    database.close()


@pytest.fixture
def blobs(settings: Settings) -> Blobs:
    """The installation's bytes."""
    return Blobs(settings.blobs, spool=settings.home / "incoming")
