from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog

from hypha_common.errors import BadRequest, Conflict, HyphaError, NotFound, PermissionDenied, QuotaExceeded
from hypha_common.ids import personal_workspace
from hypha_common.principal import Permission, Principal
from hypha_common.rpc.caller import Caller
from hypha_common.rpc.service import rpc_method
from hypha_workspace.workspaces.record import Workspace

from .access import authorize, home_of, is_owner
from .bounds import check_text
from .service_query import ServiceQuery
from .workspace_config import WorkspaceConfig, read_workspace_config

if TYPE_CHECKING:
    from .backend import Backend

__all__ = ["WorkspaceMethods"]

log = structlog.get_logger(__name__)

MAX_LIST_LIMIT = 256
_LISTED = ("id", "name", "description", "read_only", "persistent", "owners")


class WorkspaceMethods:
    """Workspaces: making, deleting and describing them."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._access = backend.access
        self._workspaces = backend.stores.workspaces
        self._quota = backend.settings.max_workspaces_per_user

    @rpc_method
    async def create_workspace(
        self, config: dict[str, Any], overwrite: bool = False, *, context: Caller
    ) -> dict[str, Any]:
        """
        Create a workspace.

        Args:
            config: A map with `id` or `name`, and any of `description`, `persistent`, `owners` (user ids or e-mail
                addresses), `read_only`, `icon`, `covers`, `docs` and `config`.
            overwrite: Whether to replace a workspace of the same name that you own.

        """
        principal = context.principal
        if principal.is_anonymous:
            raise PermissionDenied("Only registered user can create workspace.", rpc_type="Exception")
        owner = principal.parent or principal.id
        wanted = read_workspace_config(config, owner=owner, is_root=principal.is_admin)
        existing = await self._workspaces.get(wanted.id)
        if existing is not None:
            self._check_overwrite(existing, principal, overwrite)
        elif not principal.is_admin:
            await self._check_quota(owner)
        # Only what was checked is replaced: one made in between is a conflict.
        created = await self._workspaces.create(_record(wanted, owner), overwrite=existing is not None)
        await self._bookmark(created, principal)
        self._backend.events.emit(home_of(principal), "workspace_loaded", created.dump())
        log.info("workspace_created", workspace=created.id, user=principal.id, overwrite=existing is not None)
        return created.dump()

    @rpc_method
    async def delete_workspace(self, workspace: str, *, context: Caller) -> None:
        """
        Delete a workspace with everything in it; its clients are disconnected.

        Args:
            workspace: The workspace.

        """
        check_text(workspace, "Workspace")
        record = await self._access.record(workspace)
        await self._access.require(context.principal, Permission.ADMIN, workspace)
        if record.system:
            raise PermissionDenied(f"Permission denied: workspace {workspace} cannot be deleted")
        home = home_of(context.principal)
        await self._backend.lifetime.delete_workspace(workspace, notify=home)
        if await self._backend.stores.bookmarks.remove(home, "workspace", workspace):
            await self._backend.workspace_changed(home)
        log.info("workspace_deleted", workspace=workspace, user=context.principal.id)

    @rpc_method
    async def list_workspaces(
        self,
        match: dict[str, Any] | None = None,
        offset: int = 0,
        limit: int = MAX_LIST_LIMIT,
        *,
        context: Caller,
    ) -> list[dict[str, Any]]:
        """
        List the workspaces that you may read or own.

        Args:
            match: Only workspaces whose fields have exactly these values.
            offset: How many to skip.
            limit: How many to return, at most 256.

        """
        authorize(context.principal, Permission.READ, context.workspace)
        if not 1 <= limit <= MAX_LIST_LIMIT:
            raise BadRequest(f"Limit must be between 1 and {MAX_LIST_LIMIT}")
        if not 0 <= offset < 2**31:
            raise BadRequest("Offset must not be negative")
        for key, value in (match or {}).items():
            if isinstance(value, str):
                check_text(value, f"Match value of {key}")
        found = await self._workspaces.list_visible(context.principal, match=match, offset=offset, limit=limit)
        return [{key: value for key, value in record.dump().items() if key in _LISTED} for record in found]

    @rpc_method
    async def get_workspace_info(self, workspace: str | None = None, *, context: Caller) -> dict[str, Any]:
        """
        Return what is known about a workspace; environment variables only to those who may write there.

        Args:
            workspace: The workspace; the current one by default.

        """
        workspace = context.workspace if workspace is None else check_text(workspace, "Workspace")
        permission = await self._access.permission(context.principal, workspace)
        if permission < Permission.READ:
            raise PermissionDenied(f"Permission denied for workspace {workspace}")
        record = await self._workspaces.get_full(workspace)
        if record is None:
            raise NotFound(f"Workspace not found: {workspace}")
        info = record.dump()
        if permission < Permission.READ_WRITE:
            info["config"] = {key: value for key, value in info["config"].items() if key != "environs"}
        return info

    @rpc_method
    async def get_summary(self, *, context: Caller) -> dict[str, Any]:
        """Return the clients and services of the current workspace in short."""
        workspace = context.workspace
        record = await self._access.record(workspace)
        readable = context.principal.permission(workspace) >= Permission.READ
        services = await self._backend.stores.services.select(
            ServiceQuery(workspace), own_workspace=workspace, readable=readable
        )
        clients = await self._backend.stores.clients.in_workspace(workspace)
        names = [f"{workspace}/{row.client_id}" for row in clients if row.registered]
        return {
            "name": record.name,
            "description": record.description,
            "client_count": len(names),
            "clients": names,
            "service_count": len(services),
            "services": [
                {key: info.get(key) for key in ("id", "name", "type", "description", "config")} for info in services
            ],
        }

    @rpc_method
    async def check_status(self, *, context: Caller) -> dict[str, Any]:
        """Return whether the current workspace is ready, and what you may do in it."""
        workspace = context.workspace
        authorize(context.principal, Permission.READ, workspace)
        record = await self._workspaces.get(workspace)
        loaded = record is not None and record.loaded
        status = "ready" if loaded else "not_found" if record is None else "loading"
        permission = context.principal.permission(workspace)
        return {"status": status, "errors": None, "user_permission": permission.wire}

    def _check_overwrite(self, existing: Workspace, principal: Principal, overwrite: bool) -> None:
        if not overwrite:
            raise Conflict(f"Workspace already exists: {existing.id}")
        granted = principal.permission(existing.id) >= Permission.ADMIN
        if not granted and not is_owner(principal, existing.id, existing.owners):
            raise PermissionDenied(f"Permission denied: user {principal.id} cannot overwrite workspace {existing.id}")

    async def _check_quota(self, owner: str) -> None:
        owned = await self._workspaces.count_owned(owner)
        if owned >= self._quota:
            raise QuotaExceeded(f"Workspace quota exceeded: user {owner} owns {owned}/{self._quota} workspaces")

    async def _bookmark(self, created: Workspace, principal: Principal) -> None:
        """Note a new workspace among the caller's bookmarks; that it exists does not depend on it."""
        home = home_of(principal)
        if principal.parent is not None and home == personal_workspace(principal.id):
            return  # nobody will ever be in the personal workspace of a token
        try:
            await self._access.ensure_home(principal)
            await self._backend.stores.bookmarks.put(home, workspace_bookmark(created))
            await self._backend.workspace_changed(home)
        except HyphaError as error:
            log.warning("bookmark_not_stored", workspace=home, error=str(error))


def workspace_bookmark(record: Workspace) -> dict[str, Any]:
    """Return the bookmark of a workspace."""
    return {
        "bookmark_type": "workspace",
        "id": record.id,
        "name": record.name,
        "description": record.description,
    }


def _record(wanted: WorkspaceConfig, owner: str) -> Workspace:
    return Workspace(
        id=wanted.id,
        name=wanted.name,
        description=wanted.description,
        persistent=wanted.persistent,
        owners=wanted.owners,
        read_only=wanted.read_only,
        icon=wanted.icon,
        covers=wanted.covers,
        docs=wanted.docs,
        config=wanted.config,
        created_by=owner,
        environs=wanted.environs,
        service_types=wanted.service_types,
    )
