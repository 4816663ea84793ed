from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypha_artifacts.actor import Actor
from hypha_artifacts.addresses import as_switch
from hypha_artifacts.listing.finder import Finder
from hypha_artifacts.listing.options import Options
from hypha_common.rpc.caller import Caller
from hypha_common.rpc.service import rpc_method

if TYPE_CHECKING:
    from hypha_artifacts.core import Core

__all__ = ["Listing"]


class Listing:
    """The methods that find artifacts (contract 02 §2.4)."""

    def __init__(self, core: Core) -> None:
        self._finder = Finder(core)

    @rpc_method(name="list")
    async def list_artifacts(
        self,
        parent_id: str | None = None,
        keywords: list[str] | str | None = None,
        filters: dict[str, Any] | str | None = None,
        mode: str = "AND",
        offset: int | str = 0,
        limit: int | str = 100,
        order_by: str | None = None,
        silent: bool | str = False,
        pagination: bool | str = False,
        stage: bool | str = False,
        *,
        context: Caller,
    ) -> Any:
        """
        List the children of a collection, or the artifacts of a workspace that have no parent.

        Args:
            parent_id: The collection; without it the workspace, of which you see what you may list.
            keywords: Texts that manifests must contain, in large or small letters.
            filters: What artifacts must be like, for example {"type": "model", "manifest": {"name": "unet*"}}.
            mode: "AND" or "OR": whether all keywords and filters must fit, or one.
            offset: How many artifacts to leave out.
            limit: How many artifacts to return at most, up to 10000.
            order_by: "created_at", "last_modified", "view_count", "download_count", "id", "manifest.<key>" or
                "config.<key>"; with ">" at the end, or "-" before it, the largest first.
            silent: Do not count this as a view of the collection.
            pagination: Return {items, total, offset, limit} instead of a list.
            stage: False: what has a committed version; true: what has a draft; "all": both.

        """
        options = Options.of(
            keywords=keywords, filters=filters, mode=mode, offset=offset, limit=limit, order_by=order_by,
            pagination=pagination, stage=stage,
        )  # fmt: skip
        is_silent = bool(as_switch("silent", silent))
        return await self._finder.find(
            Actor.of(context), options, parent_id=parent_id, roots_only=True, counts=not is_silent
        )

    @rpc_method
    async def search(
        self,
        parent_id: str | None = None,
        keywords: list[str] | str | None = None,
        filters: dict[str, Any] | str | None = None,
        mode: str = "AND",
        offset: int | str = 0,
        limit: int | str = 100,
        order_by: str | None = None,
        pagination: bool | str = False,
        stage: bool | str = False,
        *,
        context: Caller,
    ) -> Any:
        """
        Search a collection, or all artifacts of a workspace, whatever collection they are in.

        The arguments are those of list; no view is counted.

        """
        options = Options.of(
            keywords=keywords, filters=filters, mode=mode, offset=offset, limit=limit, order_by=order_by,
            pagination=pagination, stage=stage,
        )  # fmt: skip
        return await self._finder.find(Actor.of(context), options, parent_id=parent_id)
