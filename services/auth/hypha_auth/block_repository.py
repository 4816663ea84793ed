from __future__ import annotations

from hypha_common.blocks import Block, BlockKind
from hypha_common.db import Shard

__all__ = ["BlockRows"]


class BlockRows:
    """Who is kept out of the cluster: rows of the home database."""

    def __init__(self, home: Shard) -> None:
        self._home = home

    async def put(self, block: Block, *, blocked_by: str) -> None:
        """Block somebody, in place of a block that is there already."""
        await self._home.execute(
            """
            INSERT INTO blocks (kind, id, reason, until, blocked_by) VALUES ($1, $2, $3, to_timestamp($4), $5)
            ON CONFLICT (kind, id) DO UPDATE SET
                reason = excluded.reason, until = excluded.until, blocked_by = excluded.blocked_by, created_at = now()
            """,
            str(block.kind),
            block.id,
            block.reason,
            block.until,
            blocked_by,
        )

    async def delete(self, kind: BlockKind, name: str) -> bool:
        """Take a block back; False: there was none that still held."""
        until = await self._home.fetchval(
            "DELETE FROM blocks WHERE kind = $1 AND id = $2 RETURNING until > now()", str(kind), name
        )
        return bool(until)

    async def current(self) -> list[Block]:
        """Return every block that still holds, those that end first first."""
        rows = await self._home.fetch(
            """
            SELECT kind, id, reason, extract(epoch FROM until)::float8 AS until
            FROM blocks WHERE until > now() ORDER BY until
            """
        )
        return [Block(BlockKind(row["kind"]), row["id"], row["reason"], row["until"]) for row in rows]

    async def delete_expired(self) -> int:
        return await self._home.execute("DELETE FROM blocks WHERE until <= now()")
