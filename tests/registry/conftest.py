from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from hypha_common.db import Database
from hypha_common.settings import Settings
from hypha_workspace.stores import Stores
from tests.fixtures.postgres import postgres, workspace_database_url, workspace_template

__all__ = ["postgres", "workspace_database_url", "workspace_template"]


@pytest.fixture
def settings(workspace_database_url: Callable[[], str]) -> Settings:
    return Settings.load(
        {
            "database_url": workspace_database_url(),
            "max_clients_per_workspace": 5,
            "max_connections_per_user": 7,
            "workspace_unload_grace_period": 0,
        },
        environ={},
    )


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    database = Database.from_settings(settings, "tests")
    await database.connect()
    yield database
    await database.close()


@pytest.fixture
async def stores(database: Database, settings: Settings) -> Stores:
    return Stores.of(database, settings)
