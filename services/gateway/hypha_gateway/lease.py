from __future__ import annotations

import asyncio
import time

import structlog

from hypha_common.bus import Bus
from hypha_common.errors import HyphaError
from hypha_common.subjects import partition_of

from .connection import Connection
from .departures import Departures
from .places import Places
from .table import ConnectionTable

__all__ = ["Lease"]

log = structlog.get_logger(__name__)

_INTERVAL_S = 5.0
_RETRY_S = 1.0
_BATCH = 500
_RECONNECT_SPREAD_S = 5.0  # for a crowd
_RECONNECT_PAUSE_S = 0.01  # for a few


class Lease:
    """
    Keeps this gateway's connections alive in the registry.

    A registry that does not know the gateway has lost its unlogged tables (a database crash) or swept us after a long
    silence. The clients are then announced again; services are known only to those who registered them, so the sockets
    of clients whose services are gone are closed, one after another, and each comes back and registers anew.

    """

    def __init__(self, *, bus: Bus, table: ConnectionTable, departures: Departures, places: Places) -> None:
        self._bus = bus
        self._departures = departures
        self._table = table
        self._places = places
        self._known: set[str] = set()  # databases that had heard of this gateway
        self.renewed_at = 0.0  # time.monotonic()
        self.load = 0.0  # frames a minute, of all clients that share load
        self._began = time.monotonic()

    @property
    def age_s(self) -> float:
        return time.monotonic() - (self.renewed_at or self._began)

    async def renew(self) -> bool:
        """Renew in each database; True when all of them have heard."""
        if not self._places.databases:
            try:
                await self._places.look()
            except HyphaError as error:
                log.warning("lease_not_renewed", error=str(error))
                return False
        load = self._load()  # once: whoever asks begins to count anew
        self.load = sum(load.values())
        results = await asyncio.gather(*(self._renew_in(database, load) for database in self._places.databases))
        if all(results):
            self.renewed_at = time.monotonic()
            return True
        return False

    async def run(self) -> None:
        """Renew for the life of the gateway."""
        while True:
            renewed = await self.renew() if self._bus.is_connected else False
            await asyncio.sleep(_INTERVAL_S if renewed else _RETRY_S)

    async def _renew_in(self, database: str, load: dict[str, float]) -> bool:
        message = {"gateway": self._bus.instance, "connections": len(self._table), "load": load}
        try:
            answer = await self._places.ask(database, "lease", message)
            if not answer["known"] and database in self._known:
                await self._announce_again(database)
        except HyphaError as error:
            log.warning("lease_not_renewed", error=str(error))
            return False
        self._known.add(database)
        return True

    def _load(self) -> dict[str, float]:
        """Frames a minute delivered to each load-balanced client (contract 01 §3.8 ``min_load``)."""
        return {
            str(connection.address): connection.take_load()
            for connection in self._table
            if connection.address.client.endswith("__rlb")
        }

    async def _announce_again(self, database: str) -> None:
        there = frozenset(self._places.databases[database])
        connections = [c for c in self._table if partition_of(c.address.workspace) in there]
        log.warning("registry_lost_us", connections=len(connections))
        homeless: list[Connection] = []
        for start in range(0, len(connections), _BATCH):
            homeless += await self._announce(database, connections[start : start + _BATCH])
        self._departures.tell_again()
        pause_s = min(_RECONNECT_PAUSE_S, _RECONNECT_SPREAD_S / max(1, len(homeless)))
        for connection in homeless:
            connection.end(1001, "The registry was lost, please reconnect")
            await asyncio.sleep(pause_s)

    async def _announce(self, database: str, connections: list[Connection]) -> list[Connection]:
        """Announce connections; return those whose services are gone or whose place is taken."""
        clients = [
            {
                "workspace": connection.address.workspace,
                "client_id": connection.address.client,
                "generation": connection.generation,
                "user": connection.principal.dump(),
            }
            for connection in connections
        ]
        message = {"gateway": self._bus.instance, "clients": clients}
        answer = await self._places.ask(database, "reannounce", message, timeout=10.0)
        lost = {tuple(row) for row in (*answer["restored"], *answer["superseded"])}
        return [c for c in connections if (c.address.workspace, c.address.client, c.generation) in lost]
