from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from hypha_common.db import Database, Shard
from hypha_common.wire import pack, unpack

__all__ = ["LEASE_S", "Gateways", "role_gateway"]

# Gateways renew every 5 s. With the sweeper's pass a second, what a killed one leaves is gone 15 s after its last sign
# of life at the latest.
LEASE_S = 13.5

_LEASE = """
    INSERT INTO gateways AS g (id, expires_at, connections, load, announced)
    VALUES ($1, now() + $2::interval, $3, $4, $3 = 0)
    ON CONFLICT (id) DO UPDATE
        SET expires_at = excluded.expires_at, connections = excluded.connections, load = excluded.load,
            announced = g.announced OR excluded.announced
    RETURNING announced
"""


def role_gateway(role: str) -> str:
    """The gateway id of clients that stand for a role; ids of real gateways have no colon."""
    return f"role:{role}"


class Gateways:
    """Leases of gateways, in every database that holds rows of theirs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def renew(
        self, gateway: str, *, connections: int = 0, load: Mapping[str, float] | None = None, shards: Iterable[Shard]
    ) -> bool:
        """
        Renew a lease. False where it is new although there are connections: their rows may be lost.

        It stays False until the gateway has announced them.

        """
        values = (gateway, timedelta(seconds=LEASE_S), connections, pack(dict(load)) if load else None)
        return all([await shard.fetchval(_LEASE, *values) for shard in shards])

    async def announced(self, gateway: str, *, shards: Iterable[Shard]) -> None:
        """Note that all connections of a gateway are in these databases."""
        for shard in shards:
            await shard.execute("UPDATE gateways SET announced = true WHERE id = $1", gateway)

    async def load(self, workspace: str, gateways: Iterable[str]) -> dict[str, float]:
        """Return requests a minute by ``WS/CID``, as these gateways counted them for load-balanced clients."""
        rows = await self._database.for_workspace(workspace).fetch(
            "SELECT load FROM gateways WHERE id = ANY($1::text[]) AND load IS NOT NULL", list(set(gateways))
        )
        loads: dict[str, Any] = {}
        for row in rows:
            loads.update(unpack(row["load"]))
        return loads
