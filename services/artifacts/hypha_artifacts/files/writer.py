from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from uuid import UUID

from hypha_artifacts.blobs import StoredBlob
from hypha_artifacts.reference import partition_in
from hypha_artifacts.versions import base_of_draft
from hypha_common.errors import Conflict, PayloadTooLarge

from .blob_rows import Blob, BlobRows
from .draft_rows import Draft, NotStaged, StagedFile, check_folders, open_draft, stage, unstage
from .media_type import media_type

if TYPE_CHECKING:
    from hypha_artifacts.core import Core
    from hypha_artifacts.record import Artifact

__all__ = ["FileWriter"]

_BODY_S = 24 * 3600  # how long the body of one request may take


class FileWriter:
    """Changes the files of drafts, whoever asks. Raises NotStaged where there is no draft."""

    def __init__(self, core: Core, blobs: BlobRows) -> None:
        self._core = core
        self._blobs = blobs

    async def announce(
        self, artifact: Artifact, weights: Mapping[str, float], *, writable_s: float, direct: bool
    ) -> dict[str, Blob]:
        """
        Stage files, with their download weights, that clients are going to write; return the objects by path.

        Raises Conflict where a path would be a file and a folder at once.

        """
        async with self._core.rows.shard(artifact.name).transaction() as connection:
            # Before the draft is locked, for which others wait.
            blobs = await self._blobs.announce(
                connection, artifact, list(weights), writable_s=writable_s, direct=direct
            )
            draft = await open_draft(connection, artifact.id)
            await stage(connection, draft, [StagedFile(blob.path, blob.id, weights[blob.path]) for blob in blobs])
        return {blob.path: blob for blob in blobs}

    async def begin(self, artifact: Artifact, path: str, *, writable_s: float = _BODY_S, direct: bool = False) -> Blob:
        """
        Announce the object of a file that is staged when it has been written: by :meth:`finish`.

        Raises Conflict where it could not be staged.

        """
        if artifact.draft is None:
            raise NotStaged
        base = base_of_draft(artifact)
        draft = Draft(artifact.id, None if base is None else base.seq)
        async with self._core.rows.shard(artifact.name).transaction() as connection:
            await check_folders(connection, draft, [path])
            (blob,) = await self._blobs.announce(connection, artifact, [path], writable_s=writable_s, direct=direct)
        return blob

    async def finish(self, artifact: UUID, file: StagedFile, written: StoredBlob) -> None:
        """
        Record what the store has of a file that was begun, and stage it. Raises Conflict.

        Who does not hear of the success may say so again, also after a commit.

        """
        try:
            async with self._core.database.for_partition(partition_in(artifact)).transaction() as connection:
                if await self._blobs.is_sealed(connection, file.blob):
                    return
                draft = await open_draft(connection, artifact)
                await self._blobs.record(connection, [written])
                await stage(connection, draft, [file])
        except Conflict:
            await self._blobs.bury(written.key)
            raise

    async def write(self, artifact: Artifact, path: str, data: bytes) -> None:
        """Write and stage a small file. Raises Conflict, PayloadTooLarge."""
        largest = self._core.settings.max_file_bytes
        if len(data) > largest:
            raise PayloadTooLarge(f"A file may have {largest} bytes at most, not {len(data)}")
        blob = await self.begin(artifact, path)
        written = await self._core.store.write(blob.key, data, content_type=media_type(None, path))
        await self.finish(artifact.id, StagedFile(path, blob.id), written)

    async def remove(self, artifact: Artifact, path: str) -> None:
        """Remove a file from the draft; what is not there is no error."""
        async with self._core.rows.shard(artifact.name).transaction() as connection:
            await unstage(connection, await open_draft(connection, artifact.id), path)
