from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from hypha_common.errors import BadRequest, DeadlineExceeded, HyphaError, PeerNotFound
from hypha_common.ids import Address, role_of
from hypha_common.principal import Permission
from hypha_common.rpc.caller import Caller
from hypha_common.rpc.remote import RemoteError
from hypha_common.rpc.service import rpc_method

from .bounds import check_text

if TYPE_CHECKING:
    from hypha_workspace.registry.clients import ClientRow

    from .backend import Backend

__all__ = ["ClientMethods"]

MAX_PING_TIMEOUT_S = 60.0
_PINGS_AT_ONCE = 50


class ClientMethods:
    """The clients connected to a workspace."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._clients = backend.stores.clients

    @rpc_method
    async def list_clients(self, workspace: str | None = None, *, context: Caller) -> list[dict[str, Any]]:
        """
        List the clients of a workspace.

        Args:
            workspace: The workspace; the current one by default.

        """
        workspace = context.workspace if workspace is None else check_text(workspace, "Workspace")
        await self._backend.access.require(context.principal, Permission.READ, workspace)
        rows = await self._clients.in_workspace(workspace)
        return [{"id": f"{workspace}/{row.client_id}", "user": row.user} for row in rows if row.registered]

    @rpc_method
    async def ping(self, client_id: str, timeout: float = 5, *, context: Caller) -> str:
        """
        Ask whether a client is there; returns `pong`, or a text that says what failed.

        Args:
            client_id: The client, of this workspace, or `workspace/client`.
            timeout: How many seconds to wait.

        """
        try:
            client = Address.parse(check_text(client_id, "Client id"), default_workspace=context.workspace)
        except BadRequest as error:
            return f"Failed to ping client {client_id}: {error}"
        if client.workspace != context.workspace:
            await self._backend.access.require(context.principal, Permission.READ, client.workspace)
        try:
            return await self._backend.providers.ping(client, timeout=_timeout(timeout))
        except HyphaError as error:
            return f"Failed to ping client {client}: {error}"

    @rpc_method
    async def cleanup(self, workspace: str | None = None, timeout: float = 5, *, context: Caller) -> dict[str, Any]:
        """
        Remove clients that do not answer, and the workspace if it is then empty and not persistent.

        Args:
            workspace: The workspace; the current one by default.
            timeout: How many seconds to wait for a client.

        """
        workspace = context.workspace if workspace is None else check_text(workspace, "Workspace")
        await self._backend.access.require(context.principal, Permission.ADMIN, workspace)
        record = await self._backend.access.record(workspace)
        rows = [row for row in await self._clients.in_workspace(workspace) if role_of(workspace, row.client_id) is None]
        dead = await self._find_dead(rows, _timeout(timeout))
        # Fenced by the generation that was pinged: a client that came back meanwhile stays.
        removed = [f"{workspace}/{row.client_id}" for row in dead if await self._remove(row)]
        if not record.persistent and len(removed) == len(rows) and not await self._clients.in_workspace(workspace):
            await self._backend.lifetime.delete_workspace(workspace, notify=None)
            return {"removed_workspace": workspace, "removed_clients": removed}
        return {"removed_clients": removed} if removed else {}

    async def _remove(self, row: ClientRow) -> bool:
        return await self._backend.lifetime.remove_client(
            row.workspace, row.client_id, row.generation, code=1001, reason="Client does not answer"
        )

    async def _find_dead(self, rows: list[ClientRow], timeout_s: float) -> list[ClientRow]:
        limit = asyncio.Semaphore(_PINGS_AT_ONCE)

        async def is_dead(row: ClientRow) -> bool:
            async with limit:
                try:
                    await self._backend.providers.ping(Address(row.workspace, row.client_id), timeout=timeout_s)
                except (PeerNotFound, DeadlineExceeded):
                    return True
                except RemoteError:
                    pass  # it answered
                return False

        answers = await asyncio.gather(*(is_dead(row) for row in rows))
        return [row for row, dead in zip(rows, answers, strict=True) if dead]


def _timeout(given: float) -> float:
    if not given > 0:
        raise BadRequest("timeout must be greater than 0")
    return min(float(given), MAX_PING_TIMEOUT_S)
