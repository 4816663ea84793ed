from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import unquote

from hypha_artifacts.actor import Actor
from hypha_artifacts.reference import parse_reference
from hypha_common.errors import NotFound, PermissionDenied
from hypha_common.principal import Principal

if TYPE_CHECKING:
    from hypha_artifacts.access import Access
    from hypha_artifacts.record import Artifact
    from hypha_common.plans import HttpCall

__all__ = ["artifact_for"]

_OF_FILES = ("get_file:", "put_file:")


async def artifact_for(call: HttpCall, access: Access, operation: str, path: str | None) -> Artifact:
    """
    Return the artifact of a route, for somebody who may ``get_file`` or ``put_file`` a path there, or ``list_files``.

    A token for single files (contract 02 §1.9) counts for what it names, whatever else its holder may do, and for
    nothing else. ``path`` is normalized, None for what is no file. Raises NotFound, PermissionDenied.

    """
    principal = Principal.load(call.user)
    artifact_id = f"{call.params['workspace']}/{call.params['alias']}"
    scopes = [scope for scope in principal.scope.extra_scopes or () if scope.startswith(_OF_FILES)]
    with _told():
        if not scopes:
            return await access.find(artifact_id, operation, Actor(principal, call.workspace))
        artifact = await access.known(parse_reference(artifact_id, call.workspace))
    if path is None or not any(_opens(scope, operation, artifact, path) for scope in scopes):
        raise PermissionDenied("Permission denied")
    return artifact


def _opens(scope: str, operation: str, artifact: Artifact, path: str) -> bool:
    """Tell whether a scope ``<operation>:<uuid or workspace/alias>:<percent-encoded path or *>`` is meant."""
    name, _, rest = scope.partition(":")
    target, _, text = rest.rpartition(":")
    if name != operation or target not in (str(artifact.id), str(artifact.name)):
        return False
    try:
        return text == "*" or unquote(text, errors="strict") == path
    except UnicodeDecodeError:
        return False


@contextmanager
def _told() -> Iterator[None]:
    """Say what pages and scripts look for (contract 02 §3)."""
    try:
        yield
    except NotFound:
        raise NotFound("Artifact not found") from None
    except PermissionDenied:
        raise PermissionDenied("Permission denied") from None
