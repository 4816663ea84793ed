from __future__ import annotations

import time
from pathlib import Path
from uuid import UUID

import asyncpg

from hypha_artifacts.reference import new_uuid
from hypha_common import cluster_file
from hypha_common.db import driver_url

__all__ = ["seed_collection", "seed_files"]

_BATCH = 10_000
_ARTIFACTS = """
    INSERT INTO artifacts (id, workspace, alias, parent_id, type, manifest, config, version_count, next_seq,
                           download_count, created_at, last_modified, created_by)
    SELECT n.id, $2, 'item-' || n.number, $3, 'dataset',
           jsonb_build_object('name', 'item ' || n.number, 'rank', n.number % 997,
                              'tags', jsonb_build_array('t' || n.number % 10)),
           '{}', 1, 1, n.number % 1000, $4, $4, 'root'
    FROM unnest($1::uuid[], $5::int[]) AS n (id, number)
"""
_VERSIONS = """
    INSERT INTO artifact_versions (artifact_id, seq, name, created_at, type, manifest, config)
    SELECT id, 0, 'v0', created_at, type, manifest, config FROM artifacts WHERE id = ANY($1::uuid[])
"""
_BLOBS = """
    INSERT INTO blobs (id, key, workspace, size, etag, content_type, modified_at, sealed, writable_until)
    SELECT n.id, 'artifacts/' || $2 || '/seeded/' || n.id || '/' || n.path, $2, 1, NULL, 'text/plain', $3, true, now()
    FROM unnest($1::uuid[], $4::text[]) AS n (id, path)
"""
_FILES = """
    INSERT INTO artifact_files (artifact_id, seq, path, blob_id)
    SELECT $1, 0, n.path, n.id FROM unnest($2::uuid[], $3::text[]) AS n (id, path)
"""


async def _connect(data_dir: Path) -> asyncpg.Connection:
    told = cluster_file.read(data_dir)
    if told is None:
        raise RuntimeError(f"no hub runs from {data_dir}")
    return await asyncpg.connect(driver_url(str(told["database_url"])), command_timeout=120)


async def seed_collection(data_dir: Path, workspace: str, collection: str, count: int) -> None:
    """Add committed artifacts to a collection (its UUID) of the hub that runs from a data directory."""
    connection = await _connect(data_dir)
    try:
        for first in range(0, count, _BATCH):
            numbers = list(range(first, min(first + _BATCH, count)))
            ids = [new_uuid(workspace) for _ in numbers]
            await connection.execute(_ARTIFACTS, ids, workspace, UUID(collection), int(time.time()), numbers)
            await connection.execute(_VERSIONS, ids)
        await connection.execute("ANALYZE artifacts")
        await connection.execute("ANALYZE artifact_versions")
    finally:
        await connection.close()


async def seed_files(data_dir: Path, workspace: str, artifact: str, count: int) -> None:
    """Add twice ``count`` files, in folders and in one, to the first version of an artifact: rows, without bytes."""
    connection = await _connect(data_dir)
    try:
        in_folders = [f"dir-{number // 1000:03}/file-{number:06}.txt" for number in range(count)]
        in_one = [f"flat/file-{number:06}.txt" for number in range(count)]
        paths = [*in_folders, *in_one]
        for first in range(0, len(paths), _BATCH):
            some = paths[first : first + _BATCH]
            ids = [new_uuid(workspace) for _ in some]
            await connection.execute(_BLOBS, ids, workspace, time.time(), some)
            await connection.execute(_FILES, UUID(artifact), ids, some)
        for table in ("blobs", "artifact_files"):
            await connection.execute(f"ANALYZE {table}")
    finally:
        await connection.close()
