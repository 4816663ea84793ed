from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from hypha_artifacts.record import Artifact

from .values import unix_now

if TYPE_CHECKING:
    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

__all__ = ["is_above", "keep_tree", "set_parent"]

_KEEP_TREE = "SELECT pg_advisory_xact_lock(hashtextextended('hypha: parents of artifacts in ' || $1, 0))"
_IS_ABOVE = """
    WITH RECURSIVE above AS (
        SELECT id, parent_id FROM artifacts WHERE id = $2
        UNION
        SELECT a.id, a.parent_id FROM artifacts a JOIN above b ON a.id = b.parent_id
    )
    SELECT EXISTS (SELECT FROM above WHERE id = $1)
"""
_SET_PARENT = "UPDATE artifacts SET parent_id = $2, last_modified = $3 WHERE id = $1"
_IS_COLLECTION = """
    UPDATE artifacts SET config = config || '{"is_collection": true}'
    WHERE id = $1 AND NOT config @> '{"is_collection": true}'
"""


async def keep_tree(connection: PoolConnectionProxy[Record], workspace: str) -> None:
    """Let nobody else move artifacts of a workspace until the transaction ends: two moves could make a circle."""
    await connection.execute(_KEEP_TREE, workspace)


async def is_above(connection: PoolConnectionProxy[Record], artifact: UUID, below: UUID) -> bool:
    """Tell whether an artifact is another one, or a collection that holds it on some level."""
    found: bool = await connection.fetchval(_IS_ABOVE, artifact, below)
    return found


async def set_parent(connection: PoolConnectionProxy[Record], artifact: Artifact, parent: UUID | None) -> None:
    await connection.execute(_SET_PARENT, artifact.id, parent, unix_now())
    if parent is not None:
        await connection.execute(_IS_COLLECTION, parent)
