from __future__ import annotations

from typing import TYPE_CHECKING

from hypha_artifacts.actor import Actor
from hypha_common.errors import PermissionDenied
from hypha_common.principal import Principal

if TYPE_CHECKING:
    from hypha_artifacts.access import Access
    from hypha_artifacts.record import Artifact
    from hypha_common.plans import HttpCall

__all__ = ["find_for", "visitor"]

_OF_FILES = ("get_file:", "put_file:")


def visitor(call: HttpCall) -> Actor:
    """
    Return who asks. Raises PermissionDenied where it comes with a token for single files.

    Such a token opens those files at the routes of files and nothing else, whoever it was made for (FIX-23).

    """
    principal = Principal.load(call.user)
    if any(scope.startswith(_OF_FILES) for scope in principal.scope.extra_scopes or ()):
        raise PermissionDenied("This token is for single files only")
    return Actor(principal, call.workspace)


async def find_for(call: HttpCall, access: Access) -> Artifact:
    """Return the artifact of a path whose files the caller may get. Raises NotFound and PermissionDenied."""
    return await access.find(f"{call.params['workspace']}/{call.params['alias']}", "get_file", visitor(call))
