from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypha_artifacts.record import load_json
from hypha_common.errors import NotFound
from hypha_common.ids import new_id

from .repository import workspace_of

if TYPE_CHECKING:
    from asyncpg import Record

    from hypha_artifacts.blobs import BlobStore
    from hypha_common.db import Database, Shard

    from .objects import WorkspaceObject, WorkspaceObjects

__all__ = ["Upload", "Uploads"]

_COLUMNS = "id, key, store_upload_id, content_type, metadata, ttl, extract(epoch FROM created_at)::float8 AS created_at"
_ADD = """
    INSERT INTO workspace_uploads (id, workspace, key, store_upload_id, content_type, metadata, ttl, expires_at)
    VALUES ($1, $2, $3, $4, $5, $6::jsonb, $7, now() + make_interval(secs => $8))
"""
_FIND = f"SELECT {_COLUMNS} FROM workspace_uploads WHERE id = $1 AND workspace = $2 AND expires_at > now()"  # noqa: S608
_DROP = "DELETE FROM workspace_uploads WHERE id = $1"
_LIST = f"""
    SELECT {_COLUMNS} FROM workspace_uploads WHERE workspace = $1 AND key >= $2 AND key < $3 AND expires_at > now()
    ORDER BY key, id LIMIT 1000
"""  # noqa: S608  # columns, no values
_EXPIRED = f"""
    UPDATE workspace_uploads SET expires_at = now() + interval '60 seconds' WHERE id IN (
        SELECT id FROM workspace_uploads WHERE expires_at <= now() - interval '60 seconds'
        ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED
    ) RETURNING {_COLUMNS}
"""  # noqa: S608  # columns, no values


@dataclass(frozen=True, slots=True)
class Upload:
    """A multipart upload of a file of a workspace. ``store_id`` is the store's name for it; ours cannot be guessed."""

    id: str
    key: str
    store_id: str
    content_type: str
    metadata: Mapping[str, str]
    ttl: float | None  # s, of the file that comes out
    created_at: float = 0.0  # Unix time, seconds


class Uploads:
    """Multipart uploads, each bound to the workspace and the file for which it was begun."""

    def __init__(self, database: Database, objects: WorkspaceObjects) -> None:
        self._database = database
        self._objects = objects
        self._store: BlobStore = objects.store

    async def begin(
        self,
        key: str,
        *,
        content_type: str,
        life_s: float,
        metadata: Mapping[str, str] | None = None,
        ttl: float | None = None,
    ) -> Upload:
        """Begin an upload that is to be completed within ``life_s`` seconds. Raises Conflict."""
        await self._objects.check_free(key)
        store_id = await self._store.begin_upload(key, content_type=content_type)
        upload = Upload(new_id(), key, store_id, content_type, metadata or {}, ttl)
        await self._shard(key).execute(
            _ADD, upload.id, workspace_of(key), key, store_id, content_type, json.dumps(upload.metadata), ttl, life_s
        )
        return upload

    async def find(self, workspace: str, upload_id: object, key: str | None = None) -> Upload:
        """Return an upload of a workspace, and of a file where one is named. Raises NotFound."""
        row = None
        if isinstance(upload_id, str):
            row = await self._database.for_workspace(workspace).fetchrow(_FIND, upload_id, workspace)
        if row is None or key not in (None, row["key"]):
            raise NotFound(f"Upload ID {upload_id} not found or expired", rpc_type="ValueError")
        return _upload(row)

    async def complete(self, upload: Upload, parts: Sequence[tuple[int, str]]) -> WorkspaceObject | None:
        """
        Join parts, (number, etag) each; None where the file has gone already.

        Raises BadRequest where they do not fit, NotFound where the store does not know the upload.

        """
        await self._objects.check_free(upload.key)
        etag = await self._store.complete_upload(upload.key, upload.store_id, parts)
        # Some stores forget the etag they give here, and tell that of the whole from now on; clients remember it.
        stored = await self._store.head(upload.key)
        if stored is not None:
            await self._objects.written(
                upload.key, stored.etag, upload.content_type, upload.metadata, etag=etag or stored.etag
            )
        await self._objects.rows.expire({upload.key: upload.ttl or 0})
        await self._shard(upload.key).execute(_DROP, upload.id)
        return await self._objects.find(upload.key)

    async def abort(self, upload: Upload) -> None:
        await self._store.abort_upload(upload.key, upload.store_id)
        await self._shard(upload.key).execute(_DROP, upload.id)

    async def below(self, prefix: str) -> list[Upload]:
        """Return uploads of files below a prefix that begins with the workspace and a slash; 1000 at most."""
        rows = await self._shard(prefix).fetch(_LIST, workspace_of(prefix), prefix, f"{prefix}\U0010ffff")
        return [_upload(row) for row in rows]

    async def expired(self, shard: Shard, limit: int) -> list[Upload]:
        """Return uploads that nobody completed in time, for this process alone, for a minute."""
        return [_upload(row) for row in await shard.fetch(_EXPIRED, limit)]

    def _shard(self, key: str) -> Shard:
        return self._database.for_workspace(workspace_of(key))


def _upload(row: Record) -> Upload:
    return Upload(
        row["id"],
        row["key"],
        row["store_upload_id"],
        row["content_type"],
        load_json(row["metadata"]),
        row["ttl"],
        row["created_at"],
    )
