from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .blob_rows import BlobRows, path_in_key
from .bounded import gather_bounded
from .file_rows import FileRow, find_files
from .level_rows import Entry, count_entries, list_entries, list_folders, pending_keys
from .media_type import media_type
from .settling import missing_file

if TYPE_CHECKING:
    from hypha_artifacts.blobs import StoredBlob
    from hypha_artifacts.core import Core
    from hypha_artifacts.record import Artifact

    from .view import View

__all__ = ["FileReader", "weight_of"]

_MAX_ASKED = 1000  # objects that the store is asked about for one listing


class FileReader:
    """Finds files of artifacts, whoever asks; and asks the store where rows do not know, which is only in drafts."""

    def __init__(self, core: Core, blobs: BlobRows) -> None:
        self._core = core
        self._blobs = blobs

    async def find(self, artifact: Artifact, view: View, paths: Sequence[str], *, exact: bool = False) -> list[FileRow]:
        """
        Return files whose bytes are there, in the order of ``paths``.

        With ``exact`` also what is known of staged files is asked for again where somebody may have changed it
        unnoticed. Raises NotFound (FileNotFoundError) for the first file that is missing.

        """
        known = await find_files(self._core.rows.shard(artifact.name), view, paths)
        asked = [row for row in known.values() if row.size is None or (exact and row.changing)]
        for row, found in zip(asked, await self._ask(artifact, [row.key for row in asked]), strict=True):
            if found is None:
                del known[row.path]
            else:
                known[row.path] = _updated(row, found)
        for path in paths:
            if path not in known:
                raise missing_file(path)
        return [known[path] for path in paths]

    async def list(
        self, artifact: Artifact, view: View, folder: str, *, limit: int, offset: int = 0, pending: bool = False
    ) -> list[dict[str, Any]]:
        """
        Return one page of what is in a folder: files, then folders, each by name (contract 02 §2.3).

        ``folder`` is normalized, the root is "". With ``pending`` files are listed, too, that have no bytes yet.

        """
        shard, prefix = self._core.rows.shard(artifact.name), folder and f"{folder}/"
        if view.staged:
            await self._ask(artifact, await pending_keys(shard, view, prefix, limit=_MAX_ASKED))
        entries = await list_entries(shard, view, prefix, pending=pending, limit=limit, offset=offset)
        items = [_item(entry, len(prefix)) for entry in entries]
        if len(items) == limit:
            return items
        files = offset + len(items)
        if offset and not items:
            files = await count_entries(shard, view, prefix, pending=pending)
        names = await list_folders(
            shard, view, prefix, pending=pending, limit=limit - len(items), offset=max(0, offset - files)
        )
        return [*items, *({"type": "directory", "name": name} for name in names)]

    async def _ask(self, artifact: Artifact, keys: Sequence[str]) -> Sequence[StoredBlob | None]:
        """Ask the store about objects and record what there is."""
        if not keys:
            return ()
        found = await gather_bounded(self._core.store.head, keys)
        await self._blobs.record(self._core.rows.shard(artifact.name), [head for head in found if head is not None])
        return found


def weight_of(artifact: Artifact, paths: Iterable[str]) -> float:
    """Return what downloads of these files count for (contract 02 §1.8): nothing, where nobody said anything else."""
    weights = artifact.config.get("download_weights")
    if not isinstance(weights, dict):
        return 0.0
    found = [weights.get(path, 0) for path in paths]
    return float(sum(weight for weight in found if isinstance(weight, (int, float))))


def _updated(row: FileRow, found: StoredBlob) -> FileRow:
    return replace(
        row,
        size=found.size,
        etag=found.etag,
        modified_at=found.modified_at,
        content_type=media_type(found.content_type, path_in_key(found.key)),
    )


def _item(entry: Entry, prefix: int) -> dict[str, Any]:
    item: dict[str, Any] = {"type": "file", "name": entry.path[prefix:]}
    if entry.size is None:
        item.update(size=0, last_modified=None, etag=None, pending=True)
    else:
        item.update(size=entry.size, last_modified=entry.modified_at)
    if entry.weight > 0:
        item["download_weight"] = entry.weight
    return item
