from __future__ import annotations

from collections.abc import Iterator
from shutil import rmtree

import pytest

from tests.deploy.container import new_folder, why_not
from tests.deploy.images import ImageBuilder
from tests.fixtures.nats import nats_url
from tests.fixtures.object_store import object_store
from tests.fixtures.postgres import postgres

__all__ = ["image_builder", "nats_url", "object_store", "postgres"]


@pytest.fixture(scope="session")
def image_builder() -> Iterator[ImageBuilder]:
    """Builds what deploy/Dockerfile describes, in memory."""
    if reason := why_not():
        pytest.skip(reason)
    folder = new_folder()
    yield ImageBuilder(folder)
    rmtree(folder, ignore_errors=True)
