from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any
from uuid import UUID

from hypha_artifacts.data_port import Body
from hypha_artifacts.files.bounded import gather_bounded
from hypha_artifacts.files.file_rows import FileRow, find_files
from hypha_artifacts.files.view import View
from hypha_common.errors import NotFound

from .all_files import all_files
from .read_ahead import read_ahead
from .spool import Spool, StoredFile
from .zip_format import Member
from .zip_writer import ZipLength, ZipWriter

if TYPE_CHECKING:
    from hypha_artifacts.blobs import BlobStore
    from hypha_artifacts.core import Core

__all__ = ["ZIP_WEIGHT", "ZipOut"]

ZIP_WEIGHT = "create-zip-file"  # among download weights: what a whole archive counts
_SMALL_CHUNK_BYTES = 32 * 1024


class ZipOut:
    """Makes archives of files of an artifact while they are sent. Their length is known before the first byte."""

    KIND = "zip"

    def __init__(self, core: Core) -> None:
        self._core = core

    @staticmethod
    def order(view: View, paths: Sequence[str] | None, *, silent: bool) -> dict[str, Any]:
        """Return the order for :meth:`make`; ``paths``, sorted; None: all files."""
        return {
            "view": [view.artifact.bytes, view.seq, view.staged],
            "paths": None if paths is None else list(paths),
            "silent": silent,
        }

    async def make(self, order: Mapping[str, Any]) -> Body:
        """Return an archive. Raises NotFound where the artifact is gone, or nothing is there of what is asked for."""
        identifier, seq, staged = order["view"]
        view = View(UUID(bytes=identifier), seq, staged)
        weights = await self._weights(view.artifact)
        spool, length, weight = Spool(), ZipLength(), 0.0
        async with aclosing(self._pages(view, order["paths"])) as pages:
            async for rows in pages:
                page = await _stored(self._core.store, rows)
                spool.add(page)
                for file in page:
                    length.add(file.path, file.size)
                    weight += weights.get(file.path, 0.0)
        weight = weights.get(ZIP_WEIGHT, weight)

        def sent() -> None:
            if not order["silent"]:
                self._core.counters.downloaded(view.artifact, weight)

        return Body(length.total, _write(self._core.store, spool), "application/zip", sent)

    async def _pages(self, view: View, paths: Sequence[str] | None) -> AsyncGenerator[list[FileRow], None]:
        shard = self._core.rows.shard(view.artifact)
        if paths is not None:
            found = await find_files(shard, view, paths)
            yield [found[path] for path in paths if path in found]
            return
        async with aclosing(all_files(shard, view)) as pages:
            # The sizes of staged files may be asked for: not while a transaction waits.
            kept = [page async for page in pages] if view.staged else None
            async for page in pages:
                yield page
        for page in kept or ():
            yield page

    async def _weights(self, identifier: UUID) -> dict[str, float]:
        artifact = await self._core.rows.find(identifier)
        if artifact is None:
            raise NotFound("Artifact not found")
        weights = artifact.config.get("download_weights") or {}
        return {name: float(weight) for name, weight in weights.items() if isinstance(weight, (int, float))}


async def _write(store: BlobStore, spool: Spool) -> AsyncGenerator[bytes, None]:
    writer, pieces = ZipWriter(), bytearray()  # small pieces leave together
    async with aclosing(read_ahead(store, spool)) as files:
        async for file, chunks in files:
            pieces += writer.begin(_member(file))
            async with aclosing(chunks):
                async for chunk in chunks:
                    writer.data(chunk)
                    if pieces and len(pieces) + len(chunk) > _SMALL_CHUNK_BYTES:
                        yield bytes(pieces)
                        pieces.clear()
                    if len(chunk) < _SMALL_CHUNK_BYTES:
                        pieces += chunk
                    else:
                        yield chunk
            pieces += writer.end()
    yield bytes(pieces)
    for piece in writer.directory(map(_member, spool)):
        yield piece


def _member(file: StoredFile) -> Member:
    return Member(file.path, file.size, file.modified_at)


async def _stored(store: BlobStore, rows: Sequence[FileRow]) -> list[StoredFile]:
    """Return the files whose bytes are there; of some that are staged only the store knows."""
    unknown = [row.key for row in rows if row.size is None or row.changing]
    asked = dict(zip(unknown, await gather_bounded(store.head, unknown), strict=True))
    files = []
    for row in rows:
        if row.key not in asked:
            files.append(StoredFile(row.path, row.key, row.size or 0, row.modified_at or 0.0))
        elif (blob := asked[row.key]) is not None:
            files.append(StoredFile(row.path, row.key, blob.size, blob.modified_at))
    return files
