"""Artifacts made by SQL, for tests of what is below their life cycle."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from hypha_artifacts.blobs import blob_key
from hypha_artifacts.core import Core
from hypha_artifacts.record import Artifact
from hypha_artifacts.reference import ArtifactName, new_uuid

__all__ = ["add_artifact", "add_version", "set_draft"]


async def add_artifact(
    core: Core,
    workspace: str = "ws-a",
    *,
    staged: bool | str = False,
    files: Mapping[str, bytes] | None = None,
    config: Mapping[str, Any] = {},
) -> Artifact:
    """
    Return a new artifact, with version v0 of ``files``, and a draft where ``staged`` (by default of its version).

    Where there are no ``files`` and it is staged, there is no version.

    """
    name = ArtifactName(workspace, f"test-{uuid4().hex[:12]}")
    identifier = new_uuid(workspace)
    await core.rows.shard(name).execute(
        "INSERT INTO artifacts (id, workspace, alias, type, manifest, config, created_at, last_modified, created_by) "
        "VALUES ($1, $2, $3, 'generic', '{}', $4, $5, $5, 'somebody')",
        identifier,
        workspace,
        name.alias,
        json.dumps(config),
        int(time.time()),
    )
    if files is not None or not staged:
        await add_version(core, await core.access.known(name), files or {})
    if staged:
        default = "new_version" if files is None else "edit_version"
        await set_draft(core, await core.access.known(name), staged if isinstance(staged, str) else default)
    return await core.access.known(name)


async def add_version(core: Core, artifact: Artifact, files: Mapping[str, bytes]) -> int:
    """Commit files as the next version; return its number."""
    shard = core.rows.shard(artifact.name)
    seq: int = await shard.fetchval(
        "UPDATE artifacts SET next_seq = next_seq + 1, version_count = version_count + 1 WHERE id = $1 "
        "RETURNING next_seq - 1",
        artifact.id,
    )
    await shard.execute(
        "INSERT INTO artifact_versions (artifact_id, seq, name, created_at, manifest, config) "
        "VALUES ($1, $2, 'v' || $2::int, 0, '{}', '{}')",
        artifact.id,
        seq,
    )
    for path, data in files.items():
        blob = new_uuid(artifact.workspace)
        key = blob_key(artifact.workspace, artifact.alias, blob, path)
        written = await core.store.write(key, data, content_type="text/plain")
        await shard.execute(
            "INSERT INTO blobs (id, key, workspace, size, etag, modified_at, sealed, writable_until) "
            "VALUES ($1, $2, $3, $4, $5, $6, true, now())",
            blob,
            key,
            artifact.workspace,
            written.size,
            written.etag,
            written.modified_at,
        )
        await shard.execute("INSERT INTO artifact_files VALUES ($1, $2, $3, $4)", artifact.id, seq, path, blob)
    return seq


async def set_draft(core: Core, artifact: Artifact, intent: str | None) -> None:
    """Begin a draft, or drop it with what was staged."""
    shard = core.rows.shard(artifact.name)
    await shard.execute("UPDATE artifacts SET intent = $2 WHERE id = $1", artifact.id, intent)
    if intent is None:
        await shard.execute("DELETE FROM artifact_staged_files WHERE artifact_id = $1", artifact.id)
