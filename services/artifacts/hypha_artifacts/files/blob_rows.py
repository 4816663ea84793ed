from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from hypha_artifacts.blobs.layout import blob_key
from hypha_artifacts.record import Artifact
from hypha_artifacts.reference import new_uuid, partition_in
from hypha_artifacts.repository import LONG_S, LONGER
from hypha_common.errors import Conflict, NotFound, PermissionDenied

from .media_type import media_type
from .settling import copy_files, settle

if TYPE_CHECKING:
    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

    from hypha_artifacts.blobs import StoredBlob
    from hypha_artifacts.core import Core
    from hypha_common.db import Shard

__all__ = ["Blob", "BlobRows", "path_in_key"]

# A request that began when its address was about to expire may take a while.
_SLACK_S = 60

_ANNOUNCE = """
    INSERT INTO blobs (id, key, workspace, writable_until, direct)
    SELECT n.id, n.key, $3, now() + make_interval(secs => $4), $5 FROM unnest($1::uuid[], $2::text[]) AS n (id, key)
"""
_RECORD = """
    UPDATE blobs b SET size = n.size, etag = n.etag, content_type = n.content_type, modified_at = n.modified_at
    FROM unnest($1::text[], $2::int8[], $3::text[], $4::text[], $5::float8[])
        AS n (key, size, etag, content_type, modified_at)
    WHERE b.key = n.key AND NOT b.sealed
"""
# Two writers at once, or one whose end nobody heard of: what is there in the end is for the store to say.
_BEGIN_WRITING = """
    UPDATE blobs SET direct = direct OR writing, writing = true
    WHERE key = $1 AND NOT sealed AND writable_until > now()
"""
_WRITTEN = """
    UPDATE blobs SET size = $2, etag = $3, content_type = $4, modified_at = extract(epoch FROM now()), writing = false
    WHERE key = $1 AND NOT sealed
"""
_IS_RECORDED = "SELECT true FROM blobs WHERE key = $1 AND size = $2 AND etag = $3"
_IS_SEALED = "SELECT sealed FROM blobs WHERE id = $1"
# Its row was swept while it was being written: its key is never used again, so the object may go at any time.
_BURY = """
    INSERT INTO dead_objects (key) SELECT $1 WHERE NOT EXISTS (SELECT FROM blobs WHERE key = $1)
    ON CONFLICT DO NOTHING
"""
_STATE = "SELECT sealed, writable_until > now() AS writable FROM blobs WHERE key = $1"
# Locked: nobody begins to write them meanwhile.
_ARE_SETTLED = """
    SELECT coalesce(bool_and(h.size IS NOT NULL AND NOT h.direct AND NOT h.writing), true) FROM (
        SELECT b.size, b.direct, b.writing FROM artifact_staged_files s JOIN blobs b ON b.id = s.blob_id
        WHERE s.artifact_id = $1 FOR NO KEY UPDATE OF b
    ) h
"""
_SEAL = """
    UPDATE blobs b SET sealed = true FROM artifact_staged_files s
    WHERE s.artifact_id = $1 AND b.id = s.blob_id AND NOT b.sealed
"""


@dataclass(frozen=True, slots=True)
class Blob:
    """An object and the file it is going to be."""

    id: UUID
    key: str
    path: str


class BlobRows:
    """
    The objects that hold the bytes of artifacts' files, from their announcement to the commit that seals them.

    An object is settled when its bytes are known to be in the store and nobody can change them unnoticed. ``direct``
    ones never are: what happens at an address of the store itself is not heard of, so that a commit takes a copy.

    """

    def __init__(self, core: Core) -> None:
        self._core = core

    async def announce(
        self,
        connection: PoolConnectionProxy[Record],
        artifact: Artifact,
        paths: Sequence[str],
        *,
        writable_s: float,
        direct: bool,
    ) -> list[Blob]:
        """Add objects for files of an artifact, to be written within ``writable_s`` seconds."""
        blobs = []
        for path in paths:
            identifier = new_uuid(artifact.workspace)
            blobs.append(Blob(identifier, blob_key(artifact.workspace, artifact.alias, identifier, path), path))
        await connection.execute(
            _ANNOUNCE,
            [blob.id for blob in blobs],
            [blob.key for blob in blobs],
            artifact.workspace,
            float(writable_s) + _SLACK_S,
            direct,
        )
        return blobs

    async def writable(self, key: str) -> None:
        """
        Take note that somebody begins to PUT an object at ``/s3``; :meth:`stored` takes note of the end.

        Raises NotFound, Conflict where the object is committed, PermissionDenied where it is too late.

        """
        shard = self._shard(key)
        if await shard.execute(_BEGIN_WRITING, key):
            return
        state = await shard.fetchrow(_STATE, key)
        if state is None:
            raise NotFound("There is no such file to be written any more.")
        if state["sealed"]:
            raise Conflict("This file is committed and cannot be changed; ask for another address to write it again.")
        raise PermissionDenied("This address has expired.")

    async def stored(self, key: str, size: int, etag: str, content_type: str | None) -> None:
        """
        Record what was written at a key. Raises Conflict where that came too late: the file is committed or gone.

        Who does not hear of the success may say so again, also after a commit.

        """
        shard, kind = self._shard(key), media_type(content_type, path_in_key(key))
        if await shard.execute(_WRITTEN, key, size, etag, kind) or await shard.fetchval(_IS_RECORDED, key, size, etag):
            return
        await self.bury(key)
        raise Conflict("The file was committed or removed while it was being written.")

    async def bury(self, key: str) -> None:
        """Let the sweep remove what was written after the object's row was swept; does nothing where it was not."""
        await self._shard(key).execute(_BURY, key)

    async def is_sealed(self, connection: PoolConnectionProxy[Record], blob: UUID) -> bool:
        """Tell whether an object is committed."""
        return bool(await connection.fetchval(_IS_SEALED, blob))

    async def record(self, connection: PoolConnectionProxy[Record] | Shard, found: Iterable[StoredBlob]) -> None:
        """Record what the store says of objects."""
        blobs = list(found)
        await connection.execute(
            _RECORD,
            [blob.key for blob in blobs],
            [blob.size for blob in blobs],
            [blob.etag for blob in blobs],
            [media_type(blob.content_type, path_in_key(blob.key)) for blob in blobs],
            [blob.modified_at for blob in blobs],
        )

    async def settle(self, artifact: Artifact) -> None:
        """
        Make sure that the bytes of all staged files are in the store, for good. Idempotent.

        Raises NotFound (FileNotFoundError) for the first, by path, that was never written.

        """
        await settle(self._core, self, artifact)

    async def seal(self, connection: PoolConnectionProxy[Record], artifact: Artifact) -> bool:
        """
        Let nobody write the staged files any more; to be called in the transaction of a commit, which locked the draft.

        Does nothing and returns False where one is not settled: leave the transaction and :meth:`settle` again.

        """
        await connection.execute(LONGER)
        if not await connection.fetchval(_ARE_SETTLED, artifact.id, timeout=LONG_S):
            return False
        await connection.execute(_SEAL, artifact.id, timeout=LONG_S)
        return True

    async def copy(self, source: Artifact, seq: int, target: Artifact) -> int:
        """
        Stage copies of all files of a version in the draft of another artifact; return how many.

        The store copies the bytes. Nobody but the draft sees them until it is committed, and there they are settled.

        """
        return await copy_files(self._core, self, source, seq, target)

    def _shard(self, key: str) -> Shard:
        """Return the database that has the row of an object. Raises NotFound where the key is not one of an object."""
        try:
            identifier = UUID(key.split("/", 4)[3])
        except (IndexError, ValueError):
            raise NotFound("There is no such file.") from None
        return self._core.database.for_partition(partition_in(identifier))


def path_in_key(key: str) -> str:
    """Return the path of the file in the key of an object."""
    return key.split("/", 4)[4]
