from __future__ import annotations

from typing import TYPE_CHECKING

from hypha_common.rpc.caller import Caller
from hypha_common.rpc.service import rpc_method
from hypha_workspace.kicking import kick
from hypha_workspace.manager.bounds import check_text

from .backend import check_admin

if TYPE_CHECKING:
    from .backend import AdminBackend

__all__ = ["ClientMethods"]


class ClientMethods:
    """Single clients."""

    def __init__(self, backend: AdminBackend) -> None:
        self._backend = backend

    @rpc_method
    async def kickout_client(
        self,
        workspace: str,
        client_id: str,
        code: int = 1000,
        reason: str = "Admin requested disconnect",
        *,
        context: Caller,
    ) -> str:
        """
        Disconnect a client; it may come back.

        Args:
            workspace: The client's workspace.
            client_id: The client, with or without its workspace.
            code: The code of the close frame: 1000 to 1003, 1007 to 1014, or 3000 to 4999.
            reason: The reason in the close frame.

        """
        check_admin(context)
        check_text(workspace, "Workspace")
        client_id = check_text(client_id, "Client id").removeprefix(f"{workspace}/")
        backend = self._backend
        await kick(backend.stores.clients, backend.lifetime, backend.bus, workspace, client_id, code, reason)
        backend.audit.record("kicked", user=context.principal.id, workspace=workspace, client=client_id, code=code)
        return f"Kicked out client {workspace}/{client_id}"
