from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hypha_common.errors import BadRequest, QuotaExceeded
from hypha_common.principal import Permission
from hypha_common.rpc.caller import Caller
from hypha_common.rpc.service import rpc_method

from .bounds import MAX_BOOKMARKS, MAX_RECORD_BYTES, check_size, check_text
from .workspaces import workspace_bookmark

if TYPE_CHECKING:
    from .backend import Backend

__all__ = ["BookmarkMethods"]


class BookmarkMethods:
    """The bookmarks of a user, kept in his personal workspace and read with ``get_workspace_info``."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._bookmarks = backend.stores.bookmarks

    @rpc_method
    async def bookmark(self, item: dict[str, Any], *, context: Caller) -> None:
        """
        Add a bookmark to your personal workspace.

        Args:
            item: A map with `bookmark_type` (`workspace` or `service`) and the `id` of what is marked.

        """
        kind, item_id = _read_item(item)
        entry = await (self._workspace(item_id, context) if kind == "workspace" else self._service(item_id, context))
        check_size(entry, "Bookmark", MAX_RECORD_BYTES)
        home = await self._backend.access.ensure_home(context.principal)
        if len(await self._bookmarks.of_workspace(home)) >= MAX_BOOKMARKS:
            raise QuotaExceeded(f"There are {MAX_BOOKMARKS} bookmarks already")
        await self._bookmarks.put(home, entry)
        await self._backend.workspace_changed(home)

    @rpc_method
    async def unbookmark(self, item: dict[str, Any], *, context: Caller) -> None:
        """
        Remove a bookmark from your personal workspace.

        Args:
            item: A map with `bookmark_type` (`workspace` or `service`) and `id`.

        """
        kind, item_id = _read_item(item)
        home = await self._backend.access.ensure_home(context.principal)
        if await self._bookmarks.remove(home, kind, item_id):
            await self._backend.workspace_changed(home)

    async def _workspace(self, workspace: str, context: Caller) -> dict[str, Any]:
        await self._backend.access.require(context.principal, Permission.READ, workspace)
        return workspace_bookmark(await self._backend.access.record(workspace))

    async def _service(self, service_id: str, context: Caller) -> dict[str, Any]:
        info = await self._backend.resolver.resolve(
            service_id, principal=context.principal, workspace=context.workspace, gateway=context.gateway
        )
        return {
            "bookmark_type": "service",
            "id": service_id if "/" in service_id else info["id"],
            "name": info["name"],
            "description": info["description"],
            "config": info["config"],
        }


def _read_item(item: Mapping[str, Any]) -> tuple[str, str]:
    kind = item.get("bookmark_type")
    if not kind:
        raise BadRequest("Bookmark type must be provided.", rpc_type="AssertionError")
    if kind not in ("workspace", "service"):
        raise BadRequest(f"Invalid bookmark type: {kind}")
    return kind, check_text(item.get("id"), "Bookmark id", max_bytes=2048)
