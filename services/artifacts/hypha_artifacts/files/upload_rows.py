from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

    from hypha_artifacts.record import Artifact
    from hypha_common.db import Shard

    from .blob_rows import Blob

__all__ = ["Upload", "add_upload", "drop_upload", "find_upload"]

_ADD = """
    INSERT INTO artifact_uploads
        (id, artifact_id, path, blob_id, store_upload_id, part_count, download_weight, expires_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, now() + make_interval(secs => $8))
"""
_FIND = """
    SELECT u.id, u.path, u.blob_id, b.key, u.store_upload_id, u.part_count, u.download_weight
    FROM artifact_uploads u JOIN blobs b ON b.id = u.blob_id
    WHERE u.id = $1 AND u.artifact_id = $2 AND u.expires_at > now()
"""
_DROP = "DELETE FROM artifact_uploads WHERE id = $1"


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that is uploaded in parts."""

    id: str  # ours, not to be guessed
    path: str
    blob: UUID
    key: str
    store_id: str
    part_count: int
    weight: float


async def add_upload(
    shard: Shard, artifact: Artifact, blob: Blob, store_id: str, part_count: int, weight: float, *, expires_s: float
) -> Upload:
    """Remember an upload that has begun at the store."""
    upload = Upload(secrets.token_urlsafe(24), blob.path, blob.id, blob.key, store_id, part_count, weight)
    await shard.execute(_ADD, upload.id, artifact.id, blob.path, blob.id, store_id, part_count, weight, expires_s)
    return upload


async def find_upload(shard: Shard, artifact: Artifact, identifier: str) -> Upload | None:
    """Return an upload of this artifact that has not expired."""
    row: Any = await shard.fetchrow(_FIND, identifier, artifact.id)
    return None if row is None else Upload(*row)


async def drop_upload(connection: PoolConnectionProxy[Record], identifier: str) -> None:
    await connection.execute(_DROP, identifier)
