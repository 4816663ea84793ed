from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asyncpg import ForeignKeyViolationError

from hypha_artifacts.access import check
from hypha_artifacts.actor import Actor
from hypha_artifacts.permissions import holds
from hypha_artifacts.record import Artifact, parent_of
from hypha_common.errors import BadRequest, NotFound, PermissionDenied
from hypha_common.principal import Permission
from hypha_common.rpc.caller import Caller
from hypha_common.rpc.service import rpc_method

from .answers import answer_draft
from .gates import check_attach, check_detach
from .parents import is_above, keep_tree, set_parent
from .readings import Readings
from .schemas import check_against

if TYPE_CHECKING:
    from uuid import UUID

    from hypha_artifacts.core import Core

__all__ = ["ParentMethods"]


class ParentMethods:
    """Moving artifacts between collections."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._readings = Readings(core.rows)

    @rpc_method(name="set_parent")
    async def move(self, artifact_id: str, new_parent_id: str | None = None, *, context: Caller) -> dict[str, Any]:
        """
        Put an artifact into a collection of its workspace, or take it out of the one it is in; return the artifact.

        Args:
            artifact_id: The id, `workspace/alias`, or an alias in the workspace of the caller.
            new_parent_id: The collection; null for none.

        """
        actor = Actor.of(context)
        artifact = await self._core.access.find(artifact_id, "read", actor)
        parent = None
        if new_parent_id is not None:
            parent = await self._core.access.find(new_parent_id, "list", actor)
            _check_fits(artifact, parent)
        _check_leave(artifact, actor)
        if parent is None:
            _check_root(artifact, actor)
        else:
            check_attach(parent_of(parent), actor)
            if artifact.versions:
                check_against(parent.config.get("collection_schema"), artifact.manifest)
        await self._move(artifact, parent)
        return answer_draft(await self._readings.find(artifact.id), self._core.counters)

    async def _move(self, artifact: Artifact, parent: Artifact | None) -> None:
        async with self._core.rows.shard(artifact.id).transaction() as connection:
            await keep_tree(connection, artifact.workspace)
            locked = await self._core.rows.lock(connection, artifact.id)
            if locked is None or _parent_id(locked) != _parent_id(artifact):
                raise NotFound(f"Artifact '{artifact.name}' was moved or deleted by somebody else.")
            if parent is not None and await is_above(connection, artifact.id, parent.id):
                raise BadRequest("Cannot set parent: this would create a circular dependency")
            try:
                await set_parent(connection, locked, None if parent is None else parent.id)
            except ForeignKeyViolationError:
                raise NotFound("The collection was deleted by somebody else.") from None


def _parent_id(artifact: Artifact) -> UUID | None:
    return None if artifact.parent is None else artifact.parent.id


def _check_fits(artifact: Artifact, parent: Artifact) -> None:
    if parent.id == artifact.id:
        raise BadRequest("An artifact cannot be its own parent")
    if parent.workspace != artifact.workspace:
        raise BadRequest(
            f"Cannot move artifact to a different workspace. Artifact is in '{artifact.workspace}' "
            f"but parent is in '{parent.workspace}'"
        )


def _check_leave(artifact: Artifact, actor: Actor) -> None:
    """Raise PermissionDenied unless somebody may take an artifact from where it is."""
    if artifact.parent is not None:
        check_detach(artifact.parent, actor)
    else:  # to read an artifact is not enough for deciding which collection rules it
        check(artifact, "edit", actor)


def _check_root(artifact: Artifact, actor: Actor) -> None:
    if not holds(actor, Permission.READ_WRITE, artifact.workspace):
        raise PermissionDenied(
            f"User does not have permission to create orphan artifacts in workspace '{artifact.workspace}'"
        )
