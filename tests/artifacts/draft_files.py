"""Files of drafts and versions, below the methods that clients use for them."""

from __future__ import annotations

from hypha_artifacts.actor import Actor
from hypha_artifacts.core import Core
from hypha_artifacts.files import BlobRows
from hypha_artifacts.files.draft_rows import StagedFile, open_draft, stage, unstage
from hypha_artifacts.record import Artifact
from hypha_artifacts.reference import parse_reference
from hypha_common.principal import root_principal

__all__ = ["committed", "find", "put", "remove", "staged"]


async def find(core: Core, artifact_id: str) -> Artifact:
    return await core.access.find(str(parse_reference(artifact_id, "")), "read", Actor(root_principal(), ""))


async def put(
    core: Core, artifact_id: str, path: str, data: bytes | None, *, weight: float = 0.0, direct: bool = False
) -> None:
    """Stage a file; None: its bytes are yet to come."""
    artifact, blobs = await find(core, artifact_id), BlobRows(core)
    async with core.rows.shard(artifact.name).transaction() as connection:
        draft = await open_draft(connection, artifact.id)
        (blob,) = await blobs.announce(connection, artifact, [path], writable_s=600, direct=direct)
        await stage(connection, draft, [StagedFile(path, blob.id, weight)])
    if data is not None:
        await core.store.write(blob.key, data, content_type="text/plain")


async def remove(core: Core, artifact_id: str, path: str) -> None:
    artifact = await find(core, artifact_id)
    async with core.rows.shard(artifact.name).transaction() as connection:
        await unstage(connection, await open_draft(connection, artifact.id), path)


async def committed(core: Core, artifact_id: str, version: str) -> dict[str, bytes]:
    """Return the files of a version, by path."""
    artifact = await find(core, artifact_id)
    rows = await core.rows.shard(artifact.name).fetch(
        "SELECT f.path, b.key, b.sealed, b.size FROM artifact_files f JOIN blobs b ON b.id = f.blob_id "
        "JOIN artifact_versions v ON v.artifact_id = f.artifact_id AND v.seq = f.seq "
        "WHERE f.artifact_id = $1 AND v.name = $2 ORDER BY f.path",
        artifact.id,
        version,
    )
    assert all(row["sealed"] and row["size"] is not None for row in rows)
    return {row["path"]: await core.store.read(row["key"]) for row in rows}


async def staged(core: Core, artifact_id: str) -> list[str]:
    artifact = await find(core, artifact_id)
    rows = await core.rows.shard(artifact.name).fetch(
        "SELECT path FROM artifact_staged_files WHERE artifact_id = $1 ORDER BY path", artifact.id
    )
    return [row["path"] for row in rows]
