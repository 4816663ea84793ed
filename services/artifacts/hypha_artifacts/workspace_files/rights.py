from __future__ import annotations

from typing import TYPE_CHECKING

from hypha_artifacts.blobs.layout import ARTIFACTS_PREFIX, check_path
from hypha_common.errors import BadRequest, NotFound, PermissionDenied
from hypha_common.ids import personal_workspace
from hypha_common.principal import Permission, Principal

if TYPE_CHECKING:
    from hypha_artifacts.workspaces import Workspace, Workspaces
    from hypha_common.settings import Settings

__all__ = ["Rights", "UnsafePath", "check_writable_key", "workspace_key"]

_ANONYMOUS_PREFIX = "ws-user-anonymouz-"


class UnsafePath(BadRequest):
    """A path that leads out of the workspace."""

    rpc_type = "UnsafePathError"

    def __init__(self, path: str) -> None:
        super().__init__(f"Illegal file path: `{path}`, you can only operate within the work directory.")


class Rights:
    """Who may read and write the files of a workspace: whoever has the permission in it."""

    def __init__(self, settings: Settings, workspaces: Workspaces) -> None:
        self._settings = settings
        self._workspaces = workspaces

    async def check(self, principal: Principal, workspace: str, needed: Permission, *, http: bool = False) -> None:
        """
        Raise PermissionDenied, or NotFound where there is no such workspace (contract 02 §4.4, §4.5).

        ``http``: in the words of the HTTP routes, else in those of the RPC service.

        """
        rpc_type = None if http else "AssertionError"
        if principal.permission(workspace) < needed:
            raise PermissionDenied(f"Permission denied: {workspace}", rpc_type=rpc_type)
        try:
            # Whoever has only used HTTP until now has a workspace, too.
            own = principal if workspace == personal_workspace(principal.id) else None
            found = await self._workspaces.find(workspace, own)
        except NotFound:
            raise NotFound(f"Workspace does not exists: {workspace}") from None
        if needed >= Permission.READ_WRITE and not self.is_writable(found):
            which = f"workspace ({workspace})" if http else "workspace"
            raise PermissionDenied(f"Permission denied: {which} is read-only", rpc_type=rpc_type)

    def is_writable(self, workspace: Workspace) -> bool:
        """Tell whether files of a workspace can be written: those of anonymous users are where the server says so."""
        anonymous = workspace.id.startswith(_ANONYMOUS_PREFIX)
        return not workspace.read_only or (anonymous and self._settings.enable_s3_for_anonymous_users)


def workspace_key(principal: Principal, workspace: str, path: object, *, folder: bool = False) -> str:
    """
    Return the key of the file at a path in a workspace; of a folder it ends with a slash.

    A path that begins with a slash is one in the bucket, for whoever administers the whole server. Raises BadRequest,
    UnsafePath, PermissionDenied.

    """
    if not isinstance(path, str):
        raise BadRequest(f"Invalid file path: {path!r}")
    if path.startswith("/") and principal.permission("*") < Permission.ADMIN:
        raise PermissionDenied("Permission denied: only admin can access the root folder.", rpc_type="AssertionError")
    depth = 0
    for part in path.split("/"):
        depth += -1 if part == ".." else part not in ("", ".")
        if depth < 0:
            raise UnsafePath(path)
    below = "" if path.startswith("/") else f"{workspace}/"
    inside = check_path(path, folder=folder)
    return f"{below}{inside}/" if folder and inside else f"{below}{inside}"


def check_writable_key(key: str) -> str:
    """Return a key that may be written as a file of a workspace. Raises PermissionDenied for files of artifacts."""
    if key.startswith(ARTIFACTS_PREFIX) or "/" not in key:
        raise PermissionDenied("Files of artifacts, and what is in no folder, are not written this way")
    return key
