"""Artifacts by hand: rows and objects as the service makes them, for tests of what keeps them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from uuid import UUID

from hypha_artifacts.blobs.layout import blob_key
from hypha_artifacts.core import Core
from hypha_artifacts.reference import new_uuid

__all__ = ["WORKSPACE", "commit_files", "key_of", "loose_blob", "make_artifact", "stage_file"]

WORKSPACE = "ws-user-keeper"  # is there

_ARTIFACT = """
    INSERT INTO artifacts (id, workspace, alias, type, manifest, config, created_at, last_modified, created_by)
    VALUES ($1, $2, $3, 'generic', $4, '{}', $5, $5, 'somebody')
"""
_VERSION = """
    INSERT INTO artifact_versions (artifact_id, seq, name, created_at, manifest, config)
    SELECT id, next_seq, 'v' || next_seq, created_at, manifest, config FROM artifacts WHERE id = $1 RETURNING seq
"""
_COUNT = """
    UPDATE artifacts SET next_seq = next_seq + 1, version_count = version_count + 1, file_count = $2 WHERE id = $1
"""
_BLOB = """
    INSERT INTO blobs (id, key, workspace, size, etag, content_type, modified_at, sealed, writable_until)
    VALUES ($1, $2, $3, $4, $5, 'text/plain', $6, $7, now())
"""
_FILE = "INSERT INTO artifact_files (artifact_id, seq, path, blob_id) VALUES ($1, $2, $3, $4)"
_STAGED = "INSERT INTO artifact_staged_files (artifact_id, path, blob_id) VALUES ($1, $2, $3)"


async def make_artifact(core: Core, workspace: str, alias: str) -> UUID:
    identifier = new_uuid(workspace)
    shard = core.database.for_workspace(workspace)
    await shard.execute(_ARTIFACT, identifier, workspace, alias, json.dumps({"name": alias}), int(time.time()))
    return identifier


async def loose_blob(
    core: Core, workspace: str, alias: str, path: str, data: bytes | None, *, sealed: bool = False
) -> UUID:
    """Make a blob that nothing refers to; without ``data`` it has no object."""
    identifier = new_uuid(workspace)
    key = blob_key(workspace, alias, identifier, path)
    size = etag = None
    if data is not None:
        stored = await core.store.write(key, data, content_type="text/plain")
        size, etag = stored.size, stored.etag
    shard = core.database.for_workspace(workspace)
    await shard.execute(_BLOB, identifier, key, workspace, size, etag, time.time(), sealed)
    return identifier


async def commit_files(core: Core, workspace: str, alias: str, artifact: UUID, files: Mapping[str, bytes]) -> int:
    """Add a version with these files and return its number."""
    shard = core.database.for_workspace(workspace)
    seq = int(await shard.fetchval(_VERSION, artifact))
    for path, data in files.items():
        blob = await loose_blob(core, workspace, alias, path, data, sealed=True)
        await shard.execute(_FILE, artifact, seq, path, blob)
    await shard.execute(_COUNT, artifact, len(files))
    return seq


async def stage_file(core: Core, workspace: str, alias: str, artifact: UUID, path: str, data: bytes | None) -> UUID:
    shard = core.database.for_workspace(workspace)
    blob = await loose_blob(core, workspace, alias, path, data)
    await shard.execute("UPDATE artifacts SET intent = 'edit_version' WHERE id = $1", artifact)
    await shard.execute(_STAGED, artifact, path, blob)
    return blob


async def key_of(core: Core, workspace: str, blob: UUID) -> str | None:
    shard = core.database.for_workspace(workspace)
    key: str | None = await shard.fetchval("SELECT key FROM blobs WHERE id = $1", blob)
    return key
