from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypha_common.errors import NotFound, QuotaExceeded
from hypha_common.principal import Permission
from hypha_common.rpc.caller import Caller
from hypha_common.rpc.service import rpc_method

from .access import authorize
from .bounds import MAX_SERVICE_TYPES, check_text
from .service_type_info import read_service_type

if TYPE_CHECKING:
    from .backend import Backend

__all__ = ["ServiceTypeMethods"]


class ServiceTypeMethods:
    """Descriptions of kinds of services, against which clients check what they register."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._types = backend.stores.service_types

    @rpc_method
    async def register_service_type(self, type_info: dict[str, Any], *, context: Caller) -> dict[str, Any]:
        """
        Register a service type in the workspace.

        Args:
            type_info: A map with `id`, `definition` (a map), and optionally `name`, `description`, `config`, `docs`.

        """
        workspace = context.workspace
        authorize(context.principal, Permission.READ_WRITE, workspace)
        info = read_service_type(type_info, workspace)
        if len(await self._types.of_workspace(workspace)) >= MAX_SERVICE_TYPES:
            raise QuotaExceeded(f"Workspace {workspace} has {MAX_SERVICE_TYPES} service types already")
        await self._types.add(workspace, info)
        await self._backend.workspace_changed(workspace)
        return {**info, "id": f"{workspace}/{info['id']}"}

    @rpc_method
    async def get_service_type(self, type_id: str, *, context: Caller) -> dict[str, Any]:
        """
        Return a service type.

        Args:
            type_id: The id, of this workspace, or `workspace/id`.

        """
        workspace, _, short = check_text(type_id, "Service type id").rpartition("/")
        workspace = workspace or context.workspace
        info = await self._types.get(workspace, short)
        # A type that is not public is not told apart from one that does not exist, before the permission is known.
        if info is None or info["config"].get("visibility") != "public":
            await self._backend.access.require(context.principal, Permission.READ, workspace)
        if info is None:
            raise NotFound(f"Service type not found: {type_id}")
        return {**info, "id": f"{workspace}/{short}"}

    @rpc_method
    async def list_service_types(self, workspace: str | None = None, *, context: Caller) -> list[dict[str, Any]]:
        """
        Return the service types of a workspace.

        Args:
            workspace: The workspace; the current one by default.

        """
        workspace = context.workspace if workspace is None else check_text(workspace, "Workspace")
        await self._backend.access.require(context.principal, Permission.READ, workspace)
        return [{**info, "id": f"{workspace}/{info['id']}"} for info in await self._types.of_workspace(workspace)]
