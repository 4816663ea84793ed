"""The indexes of listings, in databases as they come."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

import hypha_artifacts.migrate
from hypha_common.db import Database
from hypha_common.settings import Settings
from tests.artifacts.finding import Row, add_rows, find_aliases, make_core, owner_of
from tests.fixtures.postgres import PostgresServer


@pytest.mark.parametrize("may_install", [True, False])
async def test_keywords_with_and_without_the_extension(
    stack: Settings, postgres: PostgresServer, may_install: bool
) -> None:
    """Whoever may not install `pg_trgm` has a slower search, and a server."""
    url = postgres.create()
    role, database_name = f"plain_{may_install}".lower(), url.rpartition("/")[2]
    connection = await asyncpg.connect(url)
    await connection.execute(f"CREATE ROLE {role} LOGIN; GRANT CREATE ON SCHEMA public TO {role}")
    if may_install:
        await connection.execute(f"GRANT CREATE ON DATABASE {database_name} TO {role}")
    settings = stack.replace(database_url=url.replace("//hypha@", f"//{role}@"))
    await asyncio.to_thread(hypha_artifacts.migrate.migrate, settings)
    indexes = {row["indexname"] for row in await connection.fetch("SELECT indexname FROM pg_indexes")}
    await connection.close()
    assert ("artifacts_words" in indexes) is may_install
    assert "artifacts_manifest" in indexes
    database = Database.from_settings(settings, "test")
    await database.connect()
    try:
        core = make_core(settings, database)
        await add_rows(core, "ws-a", [Row("a", manifest={"name": "Ünet"}), Row("b", manifest={"name": "other"})])
        assert await find_aliases(core, owner_of("ws-a"), keywords=["ÜNET"]) == ["a"]
    finally:
        await database.close()


async def test_views_are_ordered_by_their_rank_and_then_exactly(stack: Settings, postgres: PostgresServer) -> None:
    """Whatever a counter is, its rank has the same order."""
    counts = [0.0, -1.0, 0.5, 1.0, 1.0000001, 7.0, 8.0, 1e6, 1e6 + 1, 1e15, 1e308, float("inf"), float("nan")]
    database = Database.from_settings(stack, "test")
    await database.connect()
    try:
        core = make_core(stack, database)
        workspace = "ws-views"
        rows = [Row(f"row-{number}", views=count) for number, count in enumerate(counts)]
        await add_rows(core, workspace, rows)
        ranks = await database.for_workspace(workspace).fetch(
            "SELECT view_rank, download_rank FROM artifacts WHERE workspace = $1 ORDER BY view_count", workspace
        )
        for column in ("view_rank", "download_rank"):
            assert [row[column] for row in ranks] == sorted(row[column] for row in ranks)
        found = await find_aliases(core, owner_of(workspace), order_by="view_count>")
        assert found == [f"row-{number}" for number in (12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 0, 1)]
    finally:
        await database.close()
