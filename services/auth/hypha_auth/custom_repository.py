from __future__ import annotations

from hypha_common.custom_auth import CustomAuth
from hypha_common.db import Shard

__all__ = ["CustomAuthRow"]


class CustomAuthRow:
    """Which startup functions judge tokens: a row of the home database."""

    def __init__(self, home: Shard) -> None:
        self._home = home

    async def get(self) -> CustomAuth | None:
        row = await self._home.fetchrow("SELECT client_id, parts FROM custom_auth")
        return None if row is None else CustomAuth(row["client_id"], frozenset(row["parts"]))

    async def put(self, custom: CustomAuth) -> None:
        await self._home.execute(
            """
            INSERT INTO custom_auth (client_id, parts) VALUES ($1, $2)
            ON CONFLICT (single) DO UPDATE
                SET client_id = excluded.client_id, parts = excluded.parts, registered_at = now()
            """,
            custom.client_id,
            sorted(custom.parts),
        )

    async def delete(self) -> bool:
        """Forget it; False: there was none."""
        return await self._home.execute("DELETE FROM custom_auth") > 0
