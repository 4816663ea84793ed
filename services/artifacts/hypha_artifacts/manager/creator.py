from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from asyncpg import ForeignKeyViolationError

from hypha_artifacts.access import check
from hypha_artifacts.reference import ArtifactName, new_uuid
from hypha_common.errors import BadRequest, Conflict, NotFound

from .alias_patterns import expand_pattern, random_alias
from .aliases import check_alias, is_pattern
from .creations import Creation, Creations
from .gates import check_mutate
from .sealing import Sealing

if TYPE_CHECKING:
    from uuid import UUID

    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

    from hypha_artifacts.actor import Actor
    from hypha_artifacts.core import Core
    from hypha_artifacts.record import Artifact

__all__ = ["Creator", "already_exists"]

_CANDIDATES, _ATTEMPTS = 10, 10  # of made up aliases


class Creator:
    """Makes artifacts of names that are given, or made up."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._creations = Creations(core.rows)
        self._sealing = Sealing(core.settings)

    async def create(self, made: Creation, alias: str | None, parent: Artifact | None, actor: Actor) -> Creation | None:
        """
        Make an artifact and return it with its name; None where another artifact has the alias that is given.

        ``alias`` may be a pattern; None: four random words. Raises BadRequest, Conflict (RuntimeError) where no alias
        is free, NotFound where the parent is gone.

        """
        workspace = made.name.workspace
        if alias is None:
            return await self._create_new(made, random_alias)
        if is_pattern(alias):
            parts = {} if parent is None else parent.config.get("id_parts") or {}
            return await self._create_new(made, _expansion(alias, made, parts, actor))
        named = replace(made, name=ArtifactName(workspace, check_alias(alias)))
        return named if await self._insert(named) else None

    async def replace(self, connection: PoolConnectionProxy[Record], replaced: Artifact, made: Creation) -> None:
        """Make a locked artifact anew, which :meth:`check_replaced` has allowed. Its UUID stays."""
        anew = replace(made, id=replaced.id, name=replaced.name)
        await self._creations.reset(connection, anew, self._sealed(anew))

    async def check_replaced(
        self, connection: PoolConnectionProxy[Record], replaced: Artifact, made: Creation, actor: Actor
    ) -> None:
        """Raise PermissionDenied, BadRequest, Conflict unless somebody may replace a locked artifact."""
        if _parent_id(replaced) != made.parent_id:
            raise already_exists(replaced, made)
        check(replaced, "edit", actor)
        check_mutate(replaced, actor)
        if children := await self._creations.count_children(connection, replaced):
            raise BadRequest(
                f"Cannot overwrite artifact '{replaced.name}' as it has {children} child artifacts. "
                "Remove the children first or use a different alias."
            )

    async def _create_new(self, made: Creation, make_alias: Callable[[], str]) -> Creation:
        workspace = made.name.workspace
        for _ in range(_ATTEMPTS):
            candidates = list(dict.fromkeys(make_alias() for _ in range(_CANDIDATES)))
            taken = await self._creations.taken(workspace, candidates)
            for alias in candidates:
                named = replace(made, name=ArtifactName(workspace, alias))
                if alias not in taken and await self._insert(named):
                    return named
        raise Conflict("Could not generate a unique alias within the maximum attempts.")

    async def _insert(self, made: Creation) -> bool:
        try:
            return await self._creations.insert(made, self._sealed(made))
        except ForeignKeyViolationError:
            raise NotFound("The parent artifact was deleted.") from None

    def _sealed(self, made: Creation) -> bytes | None:
        return self._sealing.seal(made.id, made.secrets) if made.secrets else None


def already_exists(existing: Artifact, made: Creation) -> Conflict:
    """Return the error for an alias that another artifact has."""
    elsewhere = " under a different parent artifact" if _parent_id(existing) != made.parent_id else ""
    return Conflict(
        f"Artifact with alias '{existing.alias}' already exists{elsewhere}, please choose a different alias or remove "
        f"the existing artifact (ID: {existing.name}).",
        rpc_type="FileExistsError",
    )


def _expansion(pattern: str, made: Creation, parts: Mapping[str, Any], actor: Actor) -> Callable[[], str]:
    workspace, user_id = made.name.workspace, actor.principal.id
    return lambda: expand_pattern(pattern, uuid=new_uuid(workspace), user_id=user_id, config=made.config, parts=parts)


def _parent_id(artifact: Artifact) -> UUID | None:
    return None if artifact.parent is None else artifact.parent.id
