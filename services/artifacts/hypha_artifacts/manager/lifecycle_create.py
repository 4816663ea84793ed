from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypha_artifacts.access import check
from hypha_artifacts.actor import Actor
from hypha_artifacts.addresses import as_switch
from hypha_artifacts.record import Artifact, parent_of
from hypha_artifacts.reference import ArtifactName, new_uuid, parse_reference
from hypha_artifacts.versions import STAGE
from hypha_common.errors import BadRequest
from hypha_common.rpc.caller import Caller
from hypha_common.rpc.service import rpc_method

from .aliases import read_target
from .answers import answer_draft
from .commits import FIRST_COMMENT, read_version_name
from .configs import complete_config, read_config
from .creations import Creation
from .creator import Creator, already_exists
from .documents import check_text
from .gates import check_child, check_root
from .manifests import read_manifest, read_type
from .readings import Readings
from .schemas import check_against
from .secret_values import read_secrets

if TYPE_CHECKING:
    from uuid import UUID

    from hypha_artifacts.core import Core

__all__ = ["CreateMethods"]


class CreateMethods:
    """Creating artifacts."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._creator = Creator(core)
        self._readings = Readings(core.rows)

    @rpc_method
    async def create(
        self,
        alias: str | None = None,
        artifact_id: str | None = None,
        workspace: str | None = None,
        parent_id: str | None = None,
        manifest: dict[str, Any] | None = None,
        type: str = "generic",  # noqa: A002  # the word of the protocol
        config: dict[str, Any] | None = None,
        secrets: dict[str, Any] | None = None,
        version: str | None = None,
        comment: str | None = None,
        overwrite: bool | str = False,
        stage: bool | str = False,
        *,
        context: Caller,
    ) -> dict[str, Any]:
        """
        Create an artifact and return it.

        Args:
            alias: Its name in the workspace, or a pattern such as `{animal}-{uuid}`; by default four random words.
            artifact_id: Instead of alias and workspace: `workspace/alias`.
            workspace: Where it is created; by default in the collection's, or the caller's.
            parent_id: The collection it becomes a child of.
            manifest: What it is: a map.
            type: `generic`, `collection`, `application`, or any other word.
            config: Permissions and options.
            secrets: A map of texts that nobody is shown but who may ask for them.
            version: The name of the first version; by default `v0`.
            comment: What to say of that version.
            overwrite: Replace an artifact of the same name.
            stage: Begin with a draft, to be published with `commit`.

        """
        actor = Actor.of(context)
        is_draft = bool(as_switch("stage", stage)) or version == STAGE
        target, wanted = read_target(alias, artifact_id, workspace)
        parent = await self._parent(parent_id, target, actor, stage=is_draft)
        place = parent.workspace if parent is not None else target or actor.workspace
        if parent is None:
            check_root(place, actor)
        await self._core.workspaces.require_persistent(place, actor.principal)
        made = self._read(
            ArtifactName(place, ""), parent, actor, is_draft,
            kind=type, manifest=manifest, config=config, secrets=secrets, version=version, comment=comment,
        )  # fmt: skip
        identifier = await self._make(made, wanted, parent, actor, overwrite=bool(as_switch("overwrite", overwrite)))
        return answer_draft(await self._readings.find(identifier), self._core.counters)

    async def _parent(self, parent_id: object, workspace: str | None, actor: Actor, *, stage: bool) -> Artifact | None:
        """Return the collection that is named. Raises NotFound, PermissionDenied, BadRequest for another workspace."""
        if parent_id is None:
            return None
        # Clients drop the workspace that they name anyway, and over HTTP the caller's own is `public`.
        reference = parse_reference(parent_id, workspace or actor.workspace)
        parent = await self._core.access.known(reference, parent_id)
        check(parent, "list", actor)
        if workspace not in (None, parent.workspace):
            raise BadRequest(
                f"Specified workspace '{workspace}' does not match parent's workspace '{parent.workspace}'. "
                "Child artifacts must be created in the same workspace as their parent."
            )
        check_child(parent_of(parent), actor, stage=stage)
        return parent

    def _read(
        self, name: ArtifactName, parent: Artifact | None, actor: Actor, is_draft: bool, *, kind: object,
        manifest: object, config: object, secrets: object, version: object, comment: object,
    ) -> Creation:  # fmt: skip
        """Check what is given. Raises BadRequest, NotSupported, PayloadTooLarge."""
        checked_type = read_type(kind)
        checked = read_manifest(manifest, checked_type)
        if parent is not None and not is_draft:
            check_against(parent.config.get("collection_schema"), checked)
        identifier = new_uuid(name.workspace)
        given_secrets = read_secrets(secrets or {})
        return Creation(
            id=identifier,
            name=name,
            parent_id=None if parent is None else parent.id,
            type=checked_type,
            manifest=checked,
            config=complete_config(read_config(config or {}), checked_type, creator=actor.principal.id),
            secrets=given_secrets,
            created_by=actor.effective_id,
            version=(None if is_draft else read_version_name(version)) or "v0",
            comment=FIRST_COMMENT if comment is None else check_text(comment, "Comment"),
            stage=is_draft,
        )

    async def _make(
        self, made: Creation, alias: str | None, parent: Artifact | None, actor: Actor, *, overwrite: bool
    ) -> UUID:
        """Make the artifact, or replace the one of its name, and return the UUID. Raises Conflict (FileExistsError)."""
        while True:
            created = await self._creator.create(made, alias, parent, actor)
            if created is not None:
                return created.id
            existing = await self._core.rows.find(ArtifactName(made.name.workspace, str(alias)))
            if existing is None:  # removed in the meantime
                continue
            if not overwrite:
                raise already_exists(existing, made)
            setting, shard = self._core.counters.setting(existing.id), self._core.rows.shard(existing.id)
            async with setting, shard.transaction() as connection:
                locked = await self._core.rows.lock(connection, existing.id)
                if locked is None:
                    continue
                await self._creator.check_replaced(connection, locked, made, actor)
                await self._creator.replace(connection, locked, made)
            return existing.id
