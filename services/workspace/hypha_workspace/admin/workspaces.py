from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypha_common.errors import BadRequest, DeadlineExceeded
from hypha_common.principal import root_principal
from hypha_common.rpc.caller import Caller
from hypha_common.rpc.service import rpc_method
from hypha_workspace.kicking import all_closed
from hypha_workspace.manager.bounds import check_text

from .backend import check_admin

if TYPE_CHECKING:
    from .backend import AdminBackend

__all__ = ["WorkspaceMethods"]

MAX_LISTED = 10_000
MAX_WAIT_S = 60.0
_PAGE = 500
_LISTED = ("id", "name", "description", "persistent", "read_only", "owners")


class WorkspaceMethods:
    """Whole workspaces."""

    def __init__(self, backend: AdminBackend) -> None:
        self._backend = backend

    @rpc_method
    async def list_workspaces(self, *, context: Caller) -> list[dict[str, Any]]:
        """List the workspaces of the cluster, the first 10,000 by their ids; `loaded` tells whether one is in use."""
        check_admin(context)
        root = root_principal()
        found: list[dict[str, Any]] = []
        while len(found) < MAX_LISTED:
            page = await self._backend.stores.workspaces.list_visible(root, offset=len(found), limit=_PAGE)
            for record in page:
                dump = record.dump()
                found.append({**{name: dump[name] for name in _LISTED}, "loaded": record.loaded})
            if len(page) < _PAGE:
                break
        return found

    @rpc_method
    async def unload_workspace(
        self, workspace: str, wait: bool = False, timeout: float = 10, *, context: Caller
    ) -> str:
        """
        Close a workspace: its clients are told and disconnected; one that is not persistent is deleted.

        Args:
            workspace: The workspace.
            wait: Whether to wait until every connection is closed.
            timeout: How many seconds to wait at most.

        """
        check_admin(context)
        if not 0 < timeout <= MAX_WAIT_S:
            raise BadRequest(f"timeout must be greater than 0 and at most {MAX_WAIT_S:g} seconds")
        clients = await self._backend.lifetime.unload_workspace(check_text(workspace, "Workspace"))
        if wait and not await all_closed(self._backend.bus, clients, timeout_s=timeout):
            raise DeadlineExceeded(f"Connections of workspace {workspace} are still open after {timeout:g} s")
        return f"Workspace unloaded: {workspace}"
