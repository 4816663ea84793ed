"""
Alembic, run from code: each service brings its revisions, and keeps its own version table in the shared databases.

SQLAlchemy and alembic are imported only while migrating: a serving process should not pay for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

from .db import driver_url
from .errors import Unavailable

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["current_revision", "upgrade"]

_LOCK_KEY = 0x6879_7068_61  # any constant, the same at every migrating process


def upgrade(urls: Iterable[str], *, scripts: Path, version_table: str) -> None:
    """
    Bring each database to the newest revision under ``scripts``.

    Safe to run twice and by several processes at once: they take turns.

    """
    for url in dict.fromkeys(map(driver_url, urls)):
        asyncio.run(_upgrade(url, scripts, version_table))


async def current_revision(url: str, *, version_table: str) -> str | None:
    """Return the revision that a database is at, None where it was never migrated. Raises Unavailable."""
    try:
        connection = await asyncpg.connect(driver_url(url), timeout=5, command_timeout=5)
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        raise Unavailable(f"Cannot reach the database: {error or type(error).__name__}") from None
    try:
        if await connection.fetchval("SELECT to_regclass($1)", version_table) is None:
            return None
        revision: str | None = await connection.fetchval(f"SELECT version_num FROM {version_table}")  # noqa: S608
        return revision
    finally:
        await connection.close()


async def _upgrade(url: str, scripts: Path, version_table: str) -> None:
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import NullPool

    address = url.replace("postgres://", "postgresql://", 1).replace("postgresql://", "postgresql+asyncpg://", 1)
    engine = create_async_engine(address, poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(_run_revisions, scripts, version_table)
    finally:
        await engine.dispose()


def _run_revisions(connection: Connection, scripts: Path, version_table: str) -> None:
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory
    from sqlalchemy import text

    # Held until the transaction ends; a second process then finds nothing left to do.
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    directory = ScriptDirectory.from_config(config)

    def to_head(revision: Any, context: Any) -> Any:
        return directory._upgrade_revs("head", revision)  # what alembic's own `upgrade` command does

    with EnvironmentContext(config, directory, fn=to_head, destination_rev="head") as environment:
        environment.configure(connection=connection, version_table=version_table)
        environment.run_migrations()
