from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hypha_artifacts.blobs.layout import content_type_of
from hypha_artifacts.files.media_type import media_type
from hypha_common.errors import Conflict

from .repository import ObjectRow, ObjectRows

if TYPE_CHECKING:
    from hypha_artifacts.blobs import BlobStore, StoredBlob
    from hypha_artifacts.core import Core

__all__ = ["WorkspaceObject", "WorkspaceObjects"]

_DELETED_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class WorkspaceObject:
    """A file of a workspace."""

    key: str
    size: int
    etag: str  # without quotes
    modified_at: float  # Unix time, seconds
    content_type: str
    metadata: Mapping[str, str] = field(default_factory=dict)  # kept headers, by name
    store_etag: str = ""


class WorkspaceObjects:
    """
    The files of workspaces, by key of the bucket: ``<workspace>/<path>``.

    Who may touch them is for the callers to decide. Content types and metadata are kept beside the store: one that is
    a folder forgets them.

    """

    def __init__(self, core: Core) -> None:
        self.store: BlobStore = core.store
        self.rows = ObjectRows(core.database)

    async def find(self, key: str) -> WorkspaceObject | None:
        """Return the file at a key, or None."""
        stored, row = await asyncio.gather(self.store.head(key), self.rows.get(key))
        return None if stored is None else _described(stored, row)

    async def is_folder(self, prefix: str) -> bool:
        """Tell whether there is anything below a prefix."""
        page = await self.store.page(prefix, limit=1)
        return bool(page.objects)

    async def check_free(self, key: str) -> None:
        """
        Raise Conflict where a file at ``key`` would be a folder, or be in a file.

        Stores that are folders cannot hold both, and some break on it.

        """
        folder, *parts = key.split("/")
        ancestors = []
        for part in parts[:-1]:
            folder = f"{folder}/{part}"
            ancestors.append(folder)
        is_folder, files = await asyncio.gather(
            self.is_folder(f"{key}/"), asyncio.gather(*(self.store.head(ancestor) for ancestor in ancestors))
        )
        path = key.partition("/")[2]
        if is_folder:
            raise Conflict(f"`{path}` is a folder: it has files in it, and cannot be a file itself")
        if taken := next((found for found in files if found is not None), None):
            raise Conflict(f"`{path}` cannot be written: `{taken.key.partition('/')[2]}` is a file, not a folder")

    async def written(
        self,
        key: str,
        store_etag: str,
        content_type: str,
        metadata: Mapping[str, str],
        *,
        etag: str = "",
        stays: bool = False,
    ) -> None:
        """
        Keep what was told of an object that has been written.

        ``etag``: as clients were told, where it is another. ``stays``: whatever was there before was to end some time,
        this is not.

        """
        if stays:
            await self.rows.expire({key: 0})
        if content_type == content_type_of(key) and not metadata and etag in ("", store_etag):
            await self.rows.drop_description(key)
        else:
            await self.rows.put(key, ObjectRow(store_etag, etag or store_etag, content_type, metadata))

    async def copy(
        self, source: WorkspaceObject, target: str, content_type: str, metadata: Mapping[str, str]
    ) -> WorkspaceObject | None:
        """Copy a file inside the store, or describe it anew where it is its own target; None: it has gone."""
        if source.key == target:
            await self.written(target, source.store_etag, content_type, metadata, etag=source.etag)
        else:
            await self.check_free(target)
            await self.store.copy(source.key, target)
            stored = await self.store.head(target)
            if stored is None:
                return None
            await self.written(target, stored.etag, content_type, metadata)
        return await self.find(target)

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete files of one workspace; those that are not there are no error."""
        await self.store.delete(keys)
        await self.rows.drop(keys)

    async def delete_below(self, prefix: str, *, before: float | None = None) -> int:
        """Delete all files below a prefix that ends with a slash (``before`` a Unix time); return how many."""
        deleted = 0
        async for keys in self._pages(prefix, before):
            await self.store.delete(keys)
            deleted += len(keys)
        if before is None:
            await self.rows.drop_below(prefix)
        return deleted

    async def _pages(self, prefix: str, before: float | None) -> AsyncIterator[list[str]]:
        keys: list[str] = []
        async for found in self.store.list(prefix):
            if before is None or found.modified_at < before:
                keys.append(found.key)
            if len(keys) == _DELETED_AT_ONCE:
                yield keys
                keys = []
        if keys:
            yield keys


def _described(stored: StoredBlob, row: ObjectRow | None) -> WorkspaceObject:
    key, etag = stored.key, stored.etag
    if row is not None and row.store_etag == etag:
        return WorkspaceObject(
            key, stored.size, row.etag, stored.modified_at, row.content_type, row.metadata, store_etag=etag
        )
    content_type = media_type(stored.content_type, key)
    return WorkspaceObject(key, stored.size, etag, stored.modified_at, content_type, store_etag=etag)
