from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from hypha_artifacts.record import load_json

if TYPE_CHECKING:
    from hypha_common.db import Shard

__all__ = ["ExportedFile", "aliases", "draft_files", "removed_in_draft", "sealed_secrets", "version_files", "versions"]

_PAGE = 1000
_ALIASES = "SELECT alias FROM artifacts WHERE workspace = $1 AND alias > $2 ORDER BY alias LIMIT $3"
_VERSIONS = """
    SELECT seq, name, comment, created_at, type, manifest, config FROM artifact_versions
    WHERE artifact_id = $1 ORDER BY seq
"""
_FILES = """
    SELECT f.path, b.key, b.size, b.etag FROM artifact_files f JOIN blobs b ON b.id = f.blob_id
    WHERE f.artifact_id = $1 AND f.seq = $2 AND f.path > $3 ORDER BY f.path LIMIT $4
"""
_STAGED = """
    SELECT s.path, b.key, b.size, b.etag FROM artifact_staged_files s JOIN blobs b ON b.id = s.blob_id
    WHERE s.artifact_id = $1 AND s.path > $2 ORDER BY s.path LIMIT $3
"""
_REMOVED = "SELECT path FROM artifact_staged_files WHERE artifact_id = $1 AND blob_id IS NULL ORDER BY path"
_SECRETS = "SELECT secrets, staged_secrets FROM artifacts WHERE id = $1"


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """A file and the object that holds its bytes; ``size`` is None where nobody knows whether there are any."""

    path: str
    key: str
    size: int | None
    etag: str | None


async def aliases(shard: Shard, workspace: str) -> AsyncIterator[str]:
    """Yield the aliases of a workspace, sorted."""
    last = ""
    while rows := await shard.fetch(_ALIASES, workspace, last, _PAGE):
        for row in rows:
            yield row["alias"]
        last = rows[-1]["alias"]


async def versions(shard: Shard, artifact: UUID) -> list[dict[str, Any]]:
    rows = [dict(row) for row in await shard.fetch(_VERSIONS, artifact)]
    return [{**row, "manifest": load_json(row["manifest"]), "config": load_json(row["config"])} for row in rows]


async def version_files(shard: Shard, artifact: UUID, seq: int) -> AsyncIterator[ExportedFile]:
    last = ""
    while rows := await shard.fetch(_FILES, artifact, seq, last, _PAGE):
        for row in rows:
            yield ExportedFile(*row)
        last = rows[-1]["path"]


async def draft_files(shard: Shard, artifact: UUID) -> AsyncIterator[ExportedFile]:
    last = ""
    while rows := await shard.fetch(_STAGED, artifact, last, _PAGE):
        for row in rows:
            yield ExportedFile(*row)
        last = rows[-1]["path"]


async def removed_in_draft(shard: Shard, artifact: UUID) -> list[str]:
    return [row["path"] for row in await shard.fetch(_REMOVED, artifact)]


async def sealed_secrets(shard: Shard, artifact: UUID) -> tuple[bytes | None, bytes | None]:
    """Return the secrets as published and as staged."""
    row = await shard.fetchrow(_SECRETS, artifact)
    return (None, None) if row is None else (row["secrets"], row["staged_secrets"])
