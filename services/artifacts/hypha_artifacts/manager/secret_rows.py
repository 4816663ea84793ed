from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

    from hypha_artifacts.repository import ArtifactRows

__all__ = ["SecretRows"]

_READ = "SELECT secrets FROM artifacts WHERE id = $1"
_LOCK = "SELECT secrets, staged_secrets FROM artifacts WHERE id = $1 FOR UPDATE"
_WRITE = "UPDATE artifacts SET secrets = $2, staged_secrets = $3 WHERE id = $1"


class SecretRows:
    """The sealed secrets of artifacts."""

    def __init__(self, rows: ArtifactRows) -> None:
        self._rows = rows

    async def read(self, artifact: UUID) -> bytes | None:
        sealed: bytes | None = await self._rows.shard(artifact).fetchval(_READ, artifact)
        return sealed

    async def lock(
        self, connection: PoolConnectionProxy[Record], artifact: UUID
    ) -> tuple[bytes | None, bytes | None] | None:
        """Return published and staged secrets of an artifact, locked; None where it is gone."""
        row = await connection.fetchrow(_LOCK, artifact)
        return None if row is None else (row["secrets"], row["staged_secrets"])

    async def write(
        self, connection: PoolConnectionProxy[Record], artifact: UUID, published: bytes | None, staged: bytes | None
    ) -> None:
        await connection.execute(_WRITE, artifact, published, staged)
