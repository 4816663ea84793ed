from __future__ import annotations

from typing import TYPE_CHECKING

from hypha_artifacts.access import check
from hypha_artifacts.actor import Actor
from hypha_artifacts.addresses import as_switch
from hypha_artifacts.permissions import grants, holds
from hypha_artifacts.record import Artifact, Version
from hypha_artifacts.reference import parse_reference
from hypha_artifacts.versions import LATEST, STAGE
from hypha_common.errors import BadRequest, Conflict, NotFound, PermissionDenied
from hypha_common.principal import Permission
from hypha_common.rpc.caller import Caller
from hypha_common.rpc.service import rpc_method

from .deletions import Deletions
from .gates import check_detach, is_recipient
from .values import unix_now

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from hypha_artifacts.core import Core

__all__ = ["DeleteMethods", "version_to_delete"]

_ROUNDS = 10  # of looking for children that were created while others went


class DeleteMethods:
    """Deleting artifacts, and versions of them."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._deletions = Deletions(core.rows)

    @rpc_method
    async def delete(
        self,
        artifact_id: str,
        delete_files: bool | str = False,
        recursive: bool | str = False,
        version: str | int | None = None,
        *,
        context: Caller,
    ) -> None:
        """
        Delete an artifact, or one version of it. The bytes of files that nothing refers to go some time later.

        Args:
            artifact_id: The id, `workspace/alias`, or an alias in the workspace of the caller.
            delete_files: Accepted; files always go with what they belong to.
            recursive: Delete what is in a collection as well, on all levels; otherwise it is in no collection then.
            version: The name or index of a version, or `latest`: delete that one only.

        """
        actor = Actor.of(context)
        as_switch("delete_files", delete_files)
        is_recursive = bool(as_switch("recursive", recursive))
        artifact = await self._core.access.known(parse_reference(artifact_id, actor.workspace), artifact_id)
        if version is None and not is_recursive and is_recipient(artifact, actor):
            await self._deletions.remove([artifact.id])
            return
        check(artifact, "delete", actor)
        if version is not None:
            await self._delete_version(artifact, version)
            return
        if artifact.parent is not None:
            check_detach(artifact.parent, actor)
        if is_recursive:
            await self._delete_below(artifact, actor)
        await self._deletions.remove([artifact.id])

    async def _delete_version(self, artifact: Artifact, version: object) -> None:
        version_to_delete(artifact, version)
        async with self._core.rows.shard(artifact.id).transaction() as connection:
            locked = await self._core.rows.lock(connection, artifact.id)
            if locked is None:
                raise NotFound(f"Artifact with ID '{artifact.name}' does not exist.")
            found = version_to_delete(locked, version)
            await self._deletions.remove_version(connection, locked, found, unix_now())

    async def _delete_below(self, artifact: Artifact, actor: Actor) -> None:
        """Delete all descendants; none where one is not for this actor to delete."""
        for _ in range(_ROUNDS):
            below = await self._deletions.descendants(artifact)
            if not below:
                return
            await self._check_all(artifact, below, actor)
            await self._deletions.remove(below)
        raise Conflict("Artifacts are being created in this collection; try again when that is over.")

    async def _check_all(self, artifact: Artifact, below: Sequence[UUID], actor: Actor) -> None:
        if holds(actor, Permission.ADMIN, artifact.workspace):
            return
        for name, permissions in await self._deletions.permissions(artifact, below):
            if not grants(permissions, "delete", actor):
                raise PermissionDenied(f"User does not have permission 'delete' on the artifact '{name}'.")


def version_to_delete(artifact: Artifact, version: object) -> Version:
    """Return the version that somebody wants to delete. Raises BadRequest where there is no such version."""
    if version == STAGE:
        if artifact.draft is None:
            raise BadRequest("Cannot delete staged version. The artifact is not in staging mode.")
        raise BadRequest(
            "Cannot delete staged version. The artifact is in staging mode. "
            "Please use the 'discard' function instead to remove staged changes."
        )
    versions = artifact.versions
    if isinstance(version, int) and not isinstance(version, bool):
        if 0 <= version < len(versions):
            return versions[version]
        raise BadRequest(f"Version index {version} is out of range. Available indices: 0-{len(versions) - 1}")
    if version == LATEST and versions:
        return versions[-1]
    for known in versions:
        if known.name == version:
            return known
    names = [known.name for known in versions]
    raise BadRequest(f"Version '{version!s:.80}' does not exist. Available versions: {names}")
