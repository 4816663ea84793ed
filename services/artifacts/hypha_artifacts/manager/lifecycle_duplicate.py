from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hypha_artifacts.access import check
from hypha_artifacts.actor import Actor
from hypha_artifacts.addresses import as_switch
from hypha_artifacts.files import BlobRows
from hypha_artifacts.permissions import holds
from hypha_artifacts.record import Artifact, parent_of
from hypha_artifacts.reference import ArtifactName, new_uuid
from hypha_common.errors import BadRequest, PermissionDenied
from hypha_common.principal import Permission
from hypha_common.rpc.caller import Caller
from hypha_common.rpc.service import rpc_method

from .aliases import read_target
from .answers import answer_draft
from .commits import FIRST_COMMENT, Publication
from .configs import complete_config
from .creations import Creation
from .creator import Creator, already_exists
from .deletions import Deletions
from .gates import check_attach, check_child
from .publishing import Publishing
from .readings import Readings
from .schemas import check_against

if TYPE_CHECKING:
    from uuid import UUID

    from hypha_artifacts.core import Core

__all__ = ["DuplicateMethods"]

_NOT_COPIED = ("zenodo", "id_parts", "is_collection")


class DuplicateMethods:
    """Making an artifact like another one, with copies of its files."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._blobs = BlobRows(core)
        self._creator = Creator(core)
        self._deletions = Deletions(core.rows)
        self._publishing = Publishing(core)
        self._readings = Readings(core.rows)

    @rpc_method
    async def duplicate(
        self,
        source_artifact_id: str,
        target_alias: str | None = None,
        target_workspace: str | None = None,
        target_parent_id: str | None = None,
        overwrite: bool | str = False,
        remove_secrets: bool | str = True,
        stage: bool | str = False,
        keep_permissions: bool | str = True,
        *,
        context: Caller,
    ) -> dict[str, Any]:
        """
        Make an artifact like another one, with copies of the files of its latest version, and return it.

        Args:
            source_artifact_id: The id, `workspace/alias`, or an alias in the workspace of the caller.
            target_alias: The name of the new one; by default four random words.
            target_workspace: Where it is made; by default in the collection's workspace, or the caller's.
            target_parent_id: The collection it becomes a child of.
            overwrite: Replace an artifact of the same name.
            remove_secrets: Accepted; secrets are never copied.
            stage: Leave the new one a draft.
            keep_permissions: Whether those with permissions for the source have them for the copy, too.

        """
        actor = Actor.of(context)
        as_switch("remove_secrets", remove_secrets)
        is_draft = bool(as_switch("stage", stage))
        source = await self._core.access.find(source_artifact_id, "read", actor)
        check(source, "get_file", actor)
        if not source.versions:
            raise BadRequest(f"Source artifact '{source_artifact_id}' must be committed before it can be duplicated.")
        workspace, alias = read_target(target_alias, None, target_workspace)
        parent = await self._parent(target_parent_id, workspace, actor, stage=is_draft)
        place = parent.workspace if parent is not None else workspace or actor.workspace
        if parent is None:
            _check_root(place, actor)
        elif not is_draft:
            check_against(parent.config.get("collection_schema"), source.manifest)
        await self._core.workspaces.require_persistent(place, actor.principal)
        copy = _copy_of(source, place, parent, actor, shared=bool(as_switch("keep_permissions", keep_permissions)))
        identifier = await self._make(
            source, copy, alias, parent, actor, overwrite=bool(as_switch("overwrite", overwrite))
        )
        if not is_draft:
            target = await self._core.access.known(identifier)
            await self._publishing.publish(target, Publication(), lambda locked: locked.draft is not None)
        return answer_draft(await self._readings.find(identifier), self._core.counters)

    async def _parent(self, parent_id: object, workspace: str | None, actor: Actor, *, stage: bool) -> Artifact | None:
        if parent_id is None:
            return None
        parent = await self._core.access.find(parent_id, "list", actor)
        if workspace not in (None, parent.workspace):
            raise BadRequest("Target workspace must match the parent artifact's workspace.")
        check_child(parent_of(parent), actor, stage=True)
        if not stage:
            check_attach(parent_of(parent), actor)
        return parent

    async def _make(
        self, source: Artifact, copy: Creation, alias: str | None, parent: Artifact | None, actor: Actor, *,
        overwrite: bool,
    ) -> UUID:  # fmt: skip
        """Make the draft with its files and return its UUID. Nothing is left of it where that fails."""
        created = await self._creator.create(copy, alias, parent, actor)
        replaced = None
        if created is None:
            replaced = await self._core.access.known(ArtifactName(copy.name.workspace, str(alias)))
            if not overwrite:
                raise already_exists(replaced, copy)
            await self._check_replaced(replaced, copy, actor)
            # What is replaced must not be lost where the store fails: the copy is made beside it.
            created = await self._creator.create(replace(copy, id=new_uuid(copy.name.workspace)), None, parent, actor)
            assert created is not None  # nothing has a name that is made up
        try:
            target = await self._core.access.known(created.id)
            await self._blobs.copy(source, source.versions[-1].seq, target)
            return created.id if replaced is None else await self._take_place(target, replaced, copy, actor)
        except BaseException:  # cancelled, too
            await self._deletions.remove([created.id])
            raise

    async def _check_replaced(self, replaced: Artifact, copy: Creation, actor: Actor) -> None:
        async with self._core.rows.shard(replaced.id).transaction() as connection:
            await self._creator.check_replaced(connection, replaced, copy, actor)

    async def _take_place(self, target: Artifact, replaced: Artifact, copy: Creation, actor: Actor) -> UUID:
        """Let an artifact have the values and files of a draft, which ends, and return its UUID."""
        setting, shard = self._core.counters.setting(replaced.id), self._core.rows.shard(replaced.id)
        async with setting, shard.transaction() as connection:
            locked = await self._core.rows.lock(connection, replaced.id)
            if locked is None:
                raise BadRequest(f"Artifact '{replaced.name}' was deleted by somebody else.")
            await self._creator.check_replaced(connection, locked, copy, actor)
            await self._creator.replace(connection, locked, copy)
            await self._deletions.merge(connection, target.id, into=locked.id)
        return replaced.id


def _copy_of(source: Artifact, workspace: str, parent: Artifact | None, actor: Actor, *, shared: bool) -> Creation:
    left_out = _NOT_COPIED if shared else (*_NOT_COPIED, "permissions")
    config = {key: value for key, value in source.config.items() if key not in left_out}
    return Creation(
        id=new_uuid(workspace),
        name=ArtifactName(workspace, ""),
        parent_id=None if parent is None else parent.id,
        type=source.type or "generic",
        manifest=source.manifest,
        config=complete_config(config, source.type, creator=actor.principal.id),
        secrets={},
        created_by=actor.effective_id,
        version="v0",
        comment=FIRST_COMMENT,
        stage=True,
    )


def _check_root(workspace: str, actor: Actor) -> None:
    if not holds(actor, Permission.READ_WRITE, workspace):
        raise PermissionDenied(f"User does not have permission to create an artifact in workspace '{workspace}'.")
