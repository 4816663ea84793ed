from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from hypha_artifacts.blobs.layout import ARTIFACTS_PREFIX
from hypha_common.lease import Lease

from .sweep import LEASES

if TYPE_CHECKING:
    from hypha_artifacts.blobs import StoredBlob
    from hypha_artifacts.core import Core
    from hypha_common.db import Shard

__all__ = ["remove_orphans", "without_rows"]

_LEASE = "orphans"
_PAGE = 1000
_KNOWN = """
    SELECT key FROM blobs WHERE key = ANY($1::text[]) UNION ALL SELECT key FROM dead_objects WHERE key = ANY($1::text[])
"""
_KNOWN_UPLOAD = """
    SELECT EXISTS (SELECT FROM artifact_uploads WHERE store_upload_id = $1)
        OR EXISTS (SELECT FROM dead_objects WHERE store_upload_id = $1)
"""


async def remove_orphans(core: Core, *, grace_s: float, holder: str, dry_run: bool = False) -> Counter[str]:
    """
    Remove objects under ``artifacts/`` that no row stands for and that are older than ``grace_s``.

    Rows come before objects, so only a restored backup or a late upload to a dropped blob leaves such. Goes on where a
    killed pass was. Uploads in parts that no row stands for are aborted. Returns ``orphan`` (removed, or found where
    ``dry_run``), ``orphan_bytes``, ``orphan_upload`` and ``listed``.
    Another process that does the same stops.

    """
    shards = core.database.all()
    lease = await Lease.take(shards[0], LEASES, _LEASE, holder, seize=True)
    assert lease is not None
    found: Counter[str] = Counter(orphan=0, orphan_bytes=0, listed=0)
    try:
        page: list[StoredBlob] = []
        after = "" if dry_run else lease.progress
        async for stored in core.store.list(ARTIFACTS_PREFIX, after=after, page=_PAGE):
            page.append(stored)
            if len(page) == _PAGE:
                await _page(core, lease, shards, page, found, grace_s=grace_s, dry_run=dry_run)
                page = []
        await _page(core, lease, shards, page, found, grace_s=grace_s, dry_run=dry_run)
        await _uploads(core, shards, found, grace_s=grace_s, dry_run=dry_run)
        if not dry_run:
            await lease.save("")
    finally:
        await lease.release()
    return found


async def without_rows(shards: Iterable[Shard], objects: list[StoredBlob]) -> list[StoredBlob]:
    """Return those objects that no database knows."""
    keys = [stored.key for stored in objects]
    known = {row["key"] for shard in shards for row in await shard.fetch(_KNOWN, keys)}
    return [stored for stored in objects if stored.key not in known]


async def _uploads(core: Core, shards: list[Shard], found: Counter[str], *, grace_s: float, dry_run: bool) -> None:
    """Abort multipart uploads that no row stands for: somebody was killed before it could be written."""
    oldest_kept = time.time() - grace_s
    async for key, upload_id, begun_at in core.store.uploads(ARTIFACTS_PREFIX):
        known = [await shard.fetchval(_KNOWN_UPLOAD, upload_id) for shard in shards]
        if any(known) or begun_at > oldest_kept:
            continue
        found["orphan_upload"] += 1
        if not dry_run:
            await core.store.abort_upload(key, upload_id)


async def _page(
    core: Core,
    lease: Lease,
    shards: list[Shard],
    page: list[StoredBlob],
    found: Counter[str],
    *,
    grace_s: float,
    dry_run: bool,
) -> None:
    if not page:
        return
    oldest_kept = time.time() - grace_s
    orphans = [stored for stored in await without_rows(shards, page) if stored.modified_at <= oldest_kept]
    found["listed"] += len(page)
    found["orphan"] += len(orphans)
    found["orphan_bytes"] += sum(stored.size for stored in orphans)
    if dry_run:
        return
    await lease.save(page[-1].key)  # renews it, too, or tells that somebody else is at it
    await core.store.delete([stored.key for stored in orphans])
