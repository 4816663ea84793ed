"""
Alembic, run from code: each service brings its revisions, and keeps its own version table in the shared databases.

SQLAlchemy and alembic are imported only while migrating: a serving process should not pay for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

from .db import driver_url
from .errors import Unavailable

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["Schema", "current_revision", "upgrade"]

_LOCK_KEY = 0x6879_7068_61  # any constant, the same at every migrating process


@dataclass(frozen=True, slots=True)
class Schema:
    """The tables of one service: its revisions, the newest of them, and where a database says which it has."""

    service: str
    head: str  # newest revision under ``scripts``; revisions sort by name
    scripts: Path

    @property
    def _version_table(self) -> str:
        return f"{self.service}_schema"

    def upgrade(self, urls: Iterable[str]) -> None:
        """Bring each database to the newest schema. Safe to run twice and concurrently."""
        upgrade(urls, scripts=self.scripts, version_table=self._version_table)

    async def is_current(self, url: str) -> bool:
        """
        Tell whether a database has this schema, or a newer one. Raises Unavailable.

        Migrations only add until all replicas are replaced.

        """
        revision = await current_revision(url, version_table=self._version_table)
        return revision is not None and revision >= self.head

    async def require(self, urls: Iterable[str]) -> None:
        """
        Raise Unavailable unless each database has this schema.

        Of several those that are away do not matter, as long as one is there: its workspaces can be served.

        """
        away: list[Unavailable] = []
        wanted = list(urls)
        for url in wanted:
            try:
                current = await self.is_current(url)
            except Unavailable as error:
                away.append(error)
                continue
            if not current:
                command = f"hypha-{self.service} migrate"
                raise Unavailable(f"The database has not the current schema; run `{command}`")
        if away and len(away) == len(wanted):
            raise away[0]


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
