from __future__ import annotations

from hypha_common.errors import NotFound, PermissionDenied

from .actor import Actor
from .permissions import READ_OPERATIONS, grants, holds, workspace_level
from .record import Artifact
from .reference import Reference, parse_reference
from .repository import ArtifactRows

__all__ = ["Access", "check", "check_parent", "may"]

# What a parent must let happen to its children, besides reading them.
_ON_PARENT = READ_OPERATIONS | {"draft", "attach", "detach", "create"}


class Access:
    """Finds artifacts for somebody who may do something with them."""

    def __init__(self, rows: ArtifactRows) -> None:
        self._rows = rows

    async def find(self, artifact_id: object, operation: str, actor: Actor) -> Artifact:
        """Return an artifact. Raises NotFound, or PermissionDenied where ``operation`` is not for this actor."""
        artifact = await self.known(parse_reference(artifact_id, actor.workspace), artifact_id)
        check(artifact, operation, actor)
        return artifact

    async def known(self, reference: Reference, shown: object = None) -> Artifact:
        """Return an artifact, whoever asks. Raises NotFound."""
        artifact = await self._rows.find(reference)
        if artifact is None:
            raise NotFound(f"Artifact with ID '{shown or reference}' does not exist.")
        return artifact


def check(artifact: Artifact, operation: str, actor: Actor) -> None:
    """
    Raise PermissionDenied unless somebody may do ``operation`` with an artifact (contract 02 §1.6).

    The artifact's map, for reading also the parent's, else the permission in the workspace; and what reads must pass
    the parent, too.

    """
    if not may(artifact, operation, actor):
        raise PermissionDenied(f"User does not have permission '{operation}' on the artifact.")
    check_parent(artifact, operation, actor)


def may(artifact: Artifact, operation: str, actor: Actor) -> bool:
    """Tell whether the artifact itself lets somebody do ``operation``, whatever its parent says."""
    parent = artifact.parent
    return (
        grants(artifact.permissions, operation, actor)
        or (operation in READ_OPERATIONS and parent is not None and grants(parent.permissions, operation, actor))
        or holds(actor, workspace_level(operation), artifact.workspace)
    )


def check_parent(artifact: Artifact, operation: str, actor: Actor) -> None:
    """Raise PermissionDenied where the parent of an artifact keeps somebody from ``operation``."""
    parent = artifact.parent
    if parent is None or operation not in _ON_PARENT:
        return
    if grants(parent.permissions, operation, actor):
        return
    if not holds(actor, workspace_level(operation), parent.name.workspace):
        raise PermissionDenied(f"User does not have permission '{operation}' on the parent collection.")
