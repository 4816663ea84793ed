from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from .values import dump_json

if TYPE_CHECKING:
    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

__all__ = ["write_configs"]

_WRITE = "UPDATE artifacts SET config = $2, staged_config = $3 WHERE id = $1"


async def write_configs(
    connection: PoolConnectionProxy[Record], artifact: UUID, config: dict[str, Any], staged: dict[str, Any] | None
) -> None:
    """Write the config of a locked artifact and that of its draft, None where it has none of its own."""
    await connection.execute(_WRITE, artifact, dump_json(config), dump_json(staged))
