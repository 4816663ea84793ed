from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from hypha_common.errors import NotFound
from hypha_workspace.manager.service_info import visibility_of

from .applications import ListedService

if TYPE_CHECKING:
    from hypha_workspace.manager.service_info import ServiceInfo
    from hypha_workspace.manager.service_query import ServiceQuery

    from .applications import Applications

__all__ = ["IdleServices", "NotRunning"]

SOURCE = "app_manifest"  # what the infos of services have as `_source` that only a manifest tells of


class NotRunning(NotFound):
    """Nobody serves what the manifest of an application lists; the caller may use it."""

    def __init__(self, message: str, *, workspace: str, app: str, service: str, startable: bool, member: bool) -> None:
        super().__init__(message)
        self.workspace = workspace
        self.app = app
        self.service = service
        self.startable = startable  # by the apps service
        self.member = member  # the caller holds a permission on the workspace


class IdleServices:
    """Services as the manifests of their applications describe them, whether or not somebody serves them."""

    def __init__(self, applications: Applications) -> None:
        self._applications = applications

    async def info(self, missing: NotRunning) -> ServiceInfo:
        """Return the info of a service that was looked up in vain. Raises what was raised then, or Unavailable."""
        async for app, listed in self._applications.listed(missing.workspace, missing.app):
            if listed["id"] == missing.service:
                return _info(missing.workspace, app, listed, member=missing.member)
        raise missing

    async def select(
        self, query: ServiceQuery, *, workspace: str, own_workspace: str, readable: bool
    ) -> AsyncIterator[ServiceInfo]:
        """
        Yield the infos of what ``query`` selects in ``workspace`` and the caller may see, as :meth:`Services.select`.

        Raises Unavailable where nobody can say what applications there are.

        """
        if query.client_id != "*":
            return  # nobody's client serves them
        async for app, listed in self._applications.listed(workspace):
            info = _info(workspace, app, listed, member=readable)
            if _selects(query, info, listed["id"]) and (readable or _is_shown_to(own_workspace, listed)):
                yield info


def _info(workspace: str, app: str, listed: Mapping[str, Any], *, member: bool) -> ServiceInfo:
    config = dict(listed["config"] or {})
    config |= {"visibility": visibility_of(config.get("visibility")), "workspace": workspace}
    if not member:
        config["authorized_workspaces"] = None
    return {
        "config": config,
        "id": f"{workspace}/*:{listed['id']}@{app}",
        "name": listed["name"] or listed["id"],
        "type": listed["type"] or "generic",
        "description": listed["description"],
        "docs": listed["docs"],
        "app_id": app,
        "service_schema": listed["service_schema"],
        "_source": SOURCE,
    }


def _selects(query: ServiceQuery, info: ServiceInfo, name: str) -> bool:
    visibility = info["config"]["visibility"]
    parts = (
        (query.service_id, name),
        (query.type, info["type"]),
        (query.app_id, info["app_id"]),
        (query.visibility, visibility),
    )
    if visibility == "unlisted" and not query.include_unlisted:
        return False
    return all(pattern == "*" or fnmatchcase(value, pattern) for pattern, value in parts)


def _is_shown_to(own_workspace: str, listed: Mapping[str, Any]) -> bool:
    config = listed["config"] or {}
    use = ListedService(None, config.get("visibility"), config.get("authorized_workspaces"))
    return use.is_open_to(own_workspace)
