from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import structlog

from hypha_common.errors import Conflict, DeadlineExceeded, HyphaError, NotFound, Unavailable
from hypha_common.subjects import gateway_verb
from hypha_common.wire import pack

from . import metrics
from .queues.repository import forget_empty
from .registry.gateways import role_gateway
from .registry.sweep import audit, count_rows, count_states, sweep_gateways, unload_idle
from .workspaces.event_log import forget_old

if TYPE_CHECKING:
    from hypha_common.bus import Bus
    from hypha_common.db import Shard

    from .events import Events
    from .registry.clients import ClientRow
    from .stores import Stores

__all__ = ["Lifetime", "end", "kick_of", "supersede"]

log = structlog.get_logger(__name__)

SWEEP_INTERVAL_S = 1.0
AUDIT_INTERVAL_S = 30.0
_SUPERSEDE_TIMEOUT_S = 0.5
# After a crash of PostgreSQL: clients are back within seconds, but people may come back to a workspace they made.
FORGOTTEN_GRACE_S = 600.0

_ROLE_PREFIX = role_gateway("")


async def supersede(bus: Bus, gateway: str, workspace: str, client_id: str, *, generation: int) -> bool:
    """
    Tell a gateway that ``generation`` has taken the place of an older connection of a client.

    Returns when it knows: until then its own clients' frames would go to the old connection, and nobody would read
    them. One that does not answer is gone or hangs, and is not waited for. True: it drains, and has kept what came for
    the client meanwhile.

    """
    message = {
        "workspace": workspace,
        "client_id": client_id,
        "before_generation": generation,
        "code": 1000,
        "reason": "Superseded by a newer connection",
    }
    with suppress(Unavailable, DeadlineExceeded):
        answer = await bus.request(gateway_verb(gateway, "kick"), message, timeout=_SUPERSEDE_TIMEOUT_S)
        return bool(answer.get("moving"))
    return False


def end(bus: Bus, client: ClientRow, *, code: int, reason: str) -> None:
    """Tell a gateway to close a connection, and no newer one of the same client."""
    _kick(bus, client.gateway, kick_of(client, code=code, reason=reason))


def kick_of(client: ClientRow, *, code: int, reason: str, tell: bool = False) -> dict[str, Any]:
    """Return the message that ends a connection; ``tell``: the client is told why before its socket is closed."""
    return {
        "workspace": client.workspace,
        "client_id": client.client_id,
        "generation": client.generation,
        "before_generation": None,
        "code": code,
        "reason": reason,
        "tell": tell,
    }


def _kick(bus: Bus, gateway: str, message: dict[str, Any]) -> None:
    """Nobody waits: should the message be lost, the connection is one that owns no rows any more."""
    if gateway.startswith(_ROLE_PREFIX):
        return
    try:
        bus.publish(gateway_verb(gateway, "kick"), pack(message))
    except Unavailable:
        log.warning("kick_lost", workspace=message["workspace"], client=message["client_id"])


class Lifetime:
    """
    Ends clients and workspaces, with events and kicks; :meth:`run` sweeps up what nobody ended.

    Every replica sweeps: row locks give each piece of work to one of them.

    """

    def __init__(
        self, stores: Stores, events: Events, bus: Bus, *, grace_s: float, event_log_s: float = math.inf
    ) -> None:
        self._stores = stores
        self._events = events
        self._bus = bus
        self._grace_s = grace_s
        self._event_log_s = event_log_s  # how long what users logged is kept

    async def disconnect(self, workspace: str, client_id: str, generation: int) -> bool:
        """Remove what a connection that ended left. False where that was done, or a newer one has taken over."""
        removed = await self._stores.clients.remove(workspace, client_id, generation, grace_s=self._grace_s)
        if removed:
            self._events.client_disconnected(workspace, client_id)
        return removed

    async def remove_client(
        self, workspace: str, client_id: str, generation: int, *, code: int = 1001, reason: str = ""
    ) -> bool:
        """End a connection: kick, remove its rows, tell the others. False where that generation is gone already."""
        client = await self._stores.clients.get(workspace, client_id)
        if client is None or client.generation != generation:
            return False
        removed = await self.disconnect(workspace, client_id, generation)
        end(self._bus, client, code=code, reason=reason)
        if removed:
            metrics.DISCONNECTS.labels("removed").inc()
        return removed

    async def delete_workspace(self, workspace: str, *, notify: str | None) -> None:
        """
        Delete a workspace with all in it, and close its connections; ``workspace_deleted`` goes to ``notify``.

        Raises NotFound, or Conflict for the workspaces that the cluster needs.

        """
        record = await self._stores.workspaces.get(workspace)
        if record is None:
            raise NotFound(f"Workspace not found: {workspace}")
        if record.system:
            raise Conflict(f"Workspace {workspace} cannot be deleted")
        clients = await self._stores.workspaces.delete(workspace)
        for client in clients or ():
            self._events.client_disconnected(workspace, client.client_id)
            end(self._bus, client, code=1001, reason=f"Workspace unloaded: {workspace}")
        self._events.workspace_gone(workspace)
        if notify is not None:
            self._events.emit(notify, "workspace_deleted", record.dump())

    async def unload_workspace(self, workspace: str) -> list[ClientRow]:
        """
        Close a workspace although clients are in it; they are told. One that is not persistent is deleted.

        Returns the clients that were in it. Raises NotFound, or Conflict for the workspaces that the cluster needs.

        """
        record = await self._stores.workspaces.get(workspace)
        if record is None:
            raise NotFound(f"Workspace not found: {workspace}")
        if record.system:
            raise Conflict(f"Workspace {workspace} cannot be unloaded")
        clients = await self._stores.workspaces.unload(workspace) or []
        self._events.emit(workspace, "workspace_unloaded", record.dump())
        for client in clients:
            self._events.client_disconnected(workspace, client.client_id)
            message = kick_of(client, code=1001, reason=f"Workspace unloaded: {workspace}", tell=True)
            _kick(self._bus, client.gateway, message)
        if not record.persistent:
            self._events.workspace_gone(workspace)
        log.info("workspace_unloaded", workspace=workspace, deleted=not record.persistent, clients=len(clients))
        return clients

    async def run(self) -> None:
        """Sweep until cancelled. A database that is away is tried again at the next pass."""
        loop = asyncio.get_running_loop()
        next_audit = loop.time() + random.uniform(0.1, 1) * AUDIT_INTERVAL_S
        while True:
            await asyncio.sleep(SWEEP_INTERVAL_S * random.uniform(0.8, 1.0))
            full = loop.time() >= next_audit
            if full:
                next_audit = loop.time() + AUDIT_INTERVAL_S
            with metrics.SWEEP_SECONDS.time():
                for shard in self._stores.database.mine():
                    await self._sweep_safely(shard, full=full)

    async def _sweep_safely(self, shard: Shard, *, full: bool) -> None:
        try:
            await self.sweep(shard, full=full)
            metrics.SWEEPS.labels("done").inc()
        except HyphaError as error:
            metrics.SWEEPS.labels("failed").inc()
            log.warning("sweep_failed", error=str(error))
        except Exception:  # the edge of this task: a pass that fails must not be the last one
            metrics.SWEEPS.labels("failed").inc()
            log.exception("sweep_failed")

    async def sweep(self, shard: Shard, *, full: bool = False) -> None:
        """Do one pass over a database; a full one also looks for rows that should not be there."""
        removed = await sweep_gateways(shard, grace_s=self._grace_s)
        if removed.gateways:
            # One that drained has nothing left but its lease.
            tell = log.warning if removed.clients else log.info
            tell("gateways_swept", gateways=removed.gateways, clients=len(removed.clients))
        self._tell(removed.clients)
        for unloaded in await unload_idle(shard):
            metrics.SWEPT.labels("workspace").inc()
            log.info("workspace_unloaded", workspace=unloaded.workspace.id, deleted=unloaded.deleted)
            self._events.emit(unloaded.workspace.id, "workspace_unloaded", unloaded.workspace.dump())
            if unloaded.deleted:
                self._events.workspace_gone(unloaded.workspace.id)
        if full:
            await self._audit(shard)

    async def _audit(self, shard: Shard) -> None:
        await forget_empty(shard)
        if self._event_log_s < math.inf:
            metrics.SWEPT.labels("event").inc(await forget_old(shard, retention_s=self._event_log_s))
        strays = await audit(shard, grace_s=self._grace_s, forgotten_grace_s=FORGOTTEN_GRACE_S)
        if strays is not None:
            self._tell(strays.clients)
            metrics.SWEPT.labels("service").inc(strays.services)
            metrics.REPAIRED.labels("client").inc(len(strays.clients))
            metrics.REPAIRED.labels("service").inc(strays.services)
            if strays.clients or strays.services:
                log.warning("registry_repaired", clients=len(strays.clients), services=strays.services)

    def _tell(self, clients: list[tuple[str, str]]) -> None:
        metrics.SWEPT.labels("client").inc(len(clients))
        for workspace, client_id in clients:
            self._events.client_disconnected(workspace, client_id)

    async def count(self) -> None:
        """Refresh the gauges of registry rows."""
        kinds: Counter[str] = Counter()
        states: Counter[str] = Counter()
        for shard in self._stores.database.mine():
            kinds.update(await count_rows(shard))
            states.update(await count_states(shard))
        for kind, rows in kinds.items():
            metrics.ROWS.labels(kind).set(rows)
        for state, rows in states.items():
            metrics.REGISTRY_ROWS.labels(state).set(rows)
