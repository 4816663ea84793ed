from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from asyncpg import ForeignKeyViolationError

from hypha_artifacts.access import check
from hypha_artifacts.actor import Actor
from hypha_artifacts.addresses import as_switch
from hypha_artifacts.record import Artifact, Parent
from hypha_artifacts.reference import ArtifactName, new_uuid
from hypha_artifacts.versions import STAGE
from hypha_common.errors import BadRequest, Conflict, NotFound
from hypha_common.rpc.caller import Caller
from hypha_common.rpc.service import rpc_method

from .alias_patterns import expand_pattern, random_alias
from .aliases import check_alias, is_pattern, read_target
from .answers import answer_draft
from .commits import FIRST_COMMENT, read_version_name
from .configs import complete_config, read_config
from .creations import Creation, Creations
from .documents import check_text
from .gates import check_child, check_mutate, check_root
from .manifests import read_manifest, read_type
from .readings import Readings
from .schemas import check_against
from .sealing import Sealing
from .secret_values import read_secrets

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypha_artifacts.core import Core

__all__ = ["CreateMethods"]

_CANDIDATES, _ATTEMPTS = 10, 10  # of made up aliases


class CreateMethods:
    """Creating artifacts."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._creations = Creations(core.rows)
        self._readings = Readings(core.rows)
        self._sealing = Sealing(core.settings)

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
        await self._core.workspaces.require_persistent(place)
        made = self._read(
            ArtifactName(place, ""), parent, actor, is_draft,
            kind=type, manifest=manifest, config=config, secrets=secrets, version=version, comment=comment,
        )  # fmt: skip
        if wanted is None or is_pattern(wanted):
            made = await self._insert_new(made, self._maker(wanted, made, parent, actor))
        else:
            name = ArtifactName(place, check_alias(wanted))
            made = await self._insert(
                replace(made, name=name), actor, overwrite=bool(as_switch("overwrite", overwrite))
            )
        return answer_draft(await self._readings.find(made.id), self._core.counters)

    async def _parent(self, parent_id: object, workspace: str | None, actor: Actor, *, stage: bool) -> Artifact | None:
        """Return the collection that is named. Raises NotFound, PermissionDenied, BadRequest for another workspace."""
        if parent_id is None:
            return None
        parent = await self._core.access.find(parent_id, "list", actor)
        if workspace not in (None, parent.workspace):
            raise BadRequest(
                f"Specified workspace '{workspace}' does not match parent's workspace '{parent.workspace}'. "
                "Child artifacts must be created in the same workspace as their parent."
            )
        check_child(as_parent(parent), actor, stage=stage)
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

    async def _insert(self, made: Creation, actor: Actor, *, overwrite: bool) -> Creation:
        """Make an artifact of a given name. Raises Conflict (FileExistsError) where there is one."""
        while not await self._try(made):
            existing = await self._core.rows.find(made.name)
            if existing is None:  # removed in the meantime
                continue
            if not overwrite:
                raise _exists(existing, made)
            async with self._core.rows.shard(made.name).transaction() as connection:
                locked = await self._core.rows.lock(connection, existing.id)
                if locked is None:
                    continue
                if _parent_id(locked) != made.parent_id:
                    raise _exists(locked, made)
                check(locked, "edit", actor)
                check_mutate(locked, actor)
                if children := await self._creations.count_children(connection, locked):
                    raise BadRequest(
                        f"Cannot overwrite artifact '{locked.name}' as it has {children} child artifacts. "
                        "Remove the children first or use a different alias."
                    )
                made = replace(made, id=locked.id)
                await self._creations.reset(connection, made, self._sealed(made))
            self._core.counters.forget(locked.id)
            return made
        return made

    async def _insert_new(self, made: Creation, make_alias: Callable[[], str]) -> Creation:
        """Make an artifact of a name that nothing has. Raises Conflict (RuntimeError) where none is found."""
        workspace = made.name.workspace
        for _ in range(_ATTEMPTS):
            candidates = list(dict.fromkeys(make_alias() for _ in range(_CANDIDATES)))
            taken = await self._creations.taken(workspace, candidates)
            for alias in candidates:
                named = replace(made, name=ArtifactName(workspace, alias))
                if alias not in taken and await self._try(named):
                    return named
        raise Conflict("Could not generate a unique alias within the maximum attempts.")

    async def _try(self, made: Creation) -> bool:
        try:
            return await self._creations.insert(made, self._sealed(made))
        except ForeignKeyViolationError:
            raise NotFound("The parent artifact was deleted.") from None

    def _sealed(self, made: Creation) -> bytes | None:
        return self._sealing.seal(made.id, made.secrets) if made.secrets else None

    def _maker(self, pattern: str | None, made: Creation, parent: Artifact | None, actor: Actor) -> Callable[[], str]:
        if pattern is None:
            return random_alias
        parts = {} if parent is None else parent.config.get("id_parts") or {}
        workspace, user_id = made.name.workspace, actor.principal.id

        def expand() -> str:
            return expand_pattern(pattern, uuid=new_uuid(workspace), user_id=user_id, config=made.config, parts=parts)

        return expand


def as_parent(artifact: Artifact) -> Parent:
    """Return a collection as its children see it."""
    return Parent(artifact.id, artifact.name, artifact.config)


def _parent_id(artifact: Artifact) -> Any:
    return None if artifact.parent is None else artifact.parent.id


def _exists(existing: Artifact, made: Creation) -> Conflict:
    elsewhere = " under a different parent artifact" if _parent_id(existing) != made.parent_id else ""
    return Conflict(
        f"Artifact with alias '{existing.alias}' already exists{elsewhere}, please choose a different alias or remove "
        f"the existing artifact (ID: {existing.name}).",
        rpc_type="FileExistsError",
    )
