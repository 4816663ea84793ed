from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hypha_artifacts.record import Artifact
from hypha_common.errors import BadRequest

from .columns import Stage
from .filters import COUNTERS
from .options import Options
from .rows import fetch_page
from .shown import shown
from .statement import Place, compile_listing
from .values import check_text

if TYPE_CHECKING:
    from hypha_artifacts.actor import Actor
    from hypha_artifacts.core import Core

__all__ = ["Finder"]


class Finder:
    """Lists artifacts for somebody: the children of one, or those of a workspace."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def find(
        self,
        actor: Actor,
        options: Options,
        *,
        parent_id: object = None,
        workspace: str | None = None,
        roots_only: bool = False,
        counts: bool = False,
    ) -> Any:
        """
        Return what somebody may list, as clients see it: a list, or ``{items, total, offset, limit}``.

        Without a parent, of ``workspace``; without that, of the workspace that the filters name, else of the actor's.
        ``counts``: the parent has been viewed. Raises BadRequest, NotFound, PermissionDenied.

        """
        filters = dict(options.filters)
        parent_id, roots_only = _parent(parent_id, filters, roots_only=roots_only)
        parent = None if parent_id is None else await self._core.access.find(parent_id, "list", actor)
        wanted = filters.pop("workspace", None)
        if wanted is not None:
            check_text(wanted, "The filter 'workspace'")
        home = workspace or wanted or actor.workspace if parent is None else parent.workspace
        options = replace(options, filters=filters)
        statement = compile_listing(Place(home, parent, roots_only, wanted), options, actor)
        if counts and parent is not None:
            self._core.counters.viewed(parent.id)
        if options.order.field in COUNTERS or any(name in filters for name in COUNTERS):
            await self._core.counters.flush()
        shard = self._core.database.for_workspace(home)
        page = await fetch_page(
            shard, statement, with_total=options.pagination, with_drafts=options.stage is not Stage.COMMITTED
        )
        fields = None if parent is None else _fields(parent)
        items = [
            shown(artifact, options.stage, page.staged_files.get(artifact.id, []), self._core.counters, fields)
            for artifact in page.artifacts
        ]
        if not options.pagination:
            return items
        return {"items": items, "total": page.total, "offset": options.offset, "limit": options.limit}


def _parent(parent_id: object, filters: dict[str, Any], *, roots_only: bool) -> tuple[object, bool]:
    """Take the filter on the parent out of the others: it says where is looked, in mode OR too. Raises BadRequest."""
    if "parent_id" not in filters:
        return parent_id, roots_only and parent_id is None
    wanted = filters.pop("parent_id")
    if parent_id is not None and wanted != parent_id:
        raise BadRequest("The filter 'parent_id' is another one than parent_id")
    return wanted, wanted is None


def _fields(parent: Artifact) -> list[str] | None:
    """Return what a collection lets be listed of its children; None: everything."""
    fields: Mapping[str, Any] | Any = parent.config.get("list_fields")
    if not isinstance(fields, list):
        return None
    return [field for field in fields if isinstance(field, str)]
