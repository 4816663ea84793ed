from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory

import hypha_workspace.migrations
from hypha_common.errors import Unavailable
from hypha_common.settings import Settings
from hypha_workspace.migrate import HEAD, is_current, migrate
from tests.fixtures.postgres import PostgresServer


def test_head_is_the_newest_revision() -> None:
    assert hypha_workspace.migrations.__file__ is not None
    directory = ScriptDirectory(Path(hypha_workspace.migrations.__file__).parent)
    assert directory.get_current_head() == HEAD


def test_migrations_may_run_at_the_same_time(postgres: PostgresServer) -> None:
    settings = Settings.load({"database_url": postgres.create()}, environ={})
    with ThreadPoolExecutor() as pool:
        for outcome in [pool.submit(migrate, settings) for _ in range(4)]:
            outcome.result()
    migrate(settings)


async def test_is_current(postgres: PostgresServer, workspace_template: str) -> None:
    assert await is_current(postgres.url(workspace_template))
    assert not await is_current(postgres.url())
    with pytest.raises(Unavailable):
        await is_current("postgresql://nobody@127.0.0.1:1/x")
