from __future__ import annotations

from typing import TYPE_CHECKING

from hypha_common import principal as principal_rules
from hypha_common.errors import NotFound, PermissionDenied
from hypha_common.ids import personal_workspace
from hypha_common.principal import Permission, Principal
from hypha_workspace.workspaces.record import owner_names

if TYPE_CHECKING:
    from hypha_workspace.workspaces.record import Workspace
    from hypha_workspace.workspaces.repository import Workspaces

__all__ = ["Access", "authorize", "home_of", "is_owner"]


def authorize(principal: Principal, needed: Permission, workspace: str) -> None:
    """Raise PermissionDenied unless the caller holds ``needed`` by its token, in the words of contract 01 §3."""
    try:
        principal_rules.authorize(principal, needed, workspace)
    except PermissionDenied:
        raise PermissionDenied(f"Permission denied for workspace {workspace}") from None


def is_owner(principal: Principal, workspace: str, owners: tuple[str, ...] = ()) -> bool:
    """
    Tell whether a caller may act as an owner.

    A child token never does by itself, although it names its parent: it holds what its scope grants, or a token made
    for reading could delete the workspace.

    """
    names = owner_names(principal)
    return any(name in owners for name in names) or (bool(names) and workspace == personal_workspace(principal.id))


def home_of(principal: Principal) -> str:
    """
    Return the personal workspace that a caller keeps bookmarks in.

    A child token acts in its parent's where its scope lets it write there.

    """
    if principal.parent is not None:
        parents = personal_workspace(principal.parent)
        if principal.permission(parents) >= Permission.READ_WRITE:
            return parents
    return personal_workspace(principal.id)


class Access:
    """Permissions on workspaces other than the one a connection is in: what a token grants, or owning."""

    def __init__(self, workspaces: Workspaces) -> None:
        self._workspaces = workspaces

    async def permission(self, principal: Principal, workspace: str) -> Permission:
        """Return what a caller may do in ``workspace``; an unknown one gives what the token says."""
        granted = principal.permission(workspace)
        if granted is Permission.ADMIN or principal.parent is not None:
            return granted
        if is_owner(principal, workspace):
            return Permission.ADMIN
        record = await self._workspaces.get(workspace)
        if record is not None and is_owner(principal, workspace, record.owners):
            return Permission.ADMIN
        return granted

    async def require(self, principal: Principal, needed: Permission, workspace: str) -> None:
        """Raise PermissionDenied unless the caller holds ``needed``, by token or as an owner."""
        if await self.permission(principal, workspace) < needed:
            authorize(principal, needed, workspace)

    async def record(self, workspace: str) -> Workspace:
        """Return a workspace record. Raises NotFound."""
        record = await self._workspaces.get(workspace)
        if record is None:
            raise NotFound(f"Workspace not found: {workspace}")
        return record

    async def ensure_home(self, principal: Principal) -> str:
        """Return the caller's personal workspace, created where there was none yet."""
        home = home_of(principal)
        await self._workspaces.ensure(home, principal)
        return home
