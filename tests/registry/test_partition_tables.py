"""Every table of every service is either moved with its partition or stays for a reason."""

from __future__ import annotations

import asyncio

import asyncpg

import hypha_apps.migrate
import hypha_artifacts.migrate
import hypha_auth.migrate
import hypha_workspace.migrate
from hypha_common.settings import Settings
from hypha_workspace.partitions.tables import STAYING, TABLES
from tests.fixtures.postgres import PostgresServer


async def test_every_table_is_known(postgres: PostgresServer) -> None:
    url = postgres.create()
    settings = Settings.load({"database_url": url}, environ={})
    for service in (hypha_apps, hypha_artifacts, hypha_auth, hypha_workspace):
        await asyncio.to_thread(service.migrate.migrate, settings)
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        there = {row["tablename"] for row in rows if not row["tablename"].endswith("_schema")}
        assert there == {table.name for table in TABLES} | set(STAYING)
        owned = await connection.fetch(
            "SELECT table_name FROM information_schema.columns"
            " WHERE column_name = 'workspace' AND table_schema = 'public'"
        )
        assert {row["table_name"] for row in owned} - set(STAYING) <= {table.name for table in TABLES}
    finally:
        await connection.close()
