from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypha_apps.app import alias_of
from hypha_apps.errors import prefixed
from hypha_apps.installing import COLLECTION
from hypha_common.errors import HyphaError
from hypha_common.principal import Permission, authorize
from hypha_common.rpc.caller import Caller
from hypha_common.rpc.service import rpc_method

if TYPE_CHECKING:
    from hypha_apps.core import Core

__all__ = ["ListMethods"]

_PAGE = 1000


class ListMethods:
    """Tells which apps are installed, and what they are (contract 03 §1.8)."""

    def __init__(self, core: Core) -> None:
        self._store = core.store

    @rpc_method
    async def list_apps(self, *, context: Caller) -> list[dict[str, Any]]:
        """List the manifests of the apps that are installed in your workspace."""
        workspace = context.workspace
        authorize(context.principal, Permission.READ, workspace)
        found: list[dict[str, Any]] = []
        while True:
            try:
                page = await self._store.call(
                    "list", user=context.principal, workspace=workspace, parent_id=f"{workspace}/{COLLECTION}",
                    filters={"type": "application"}, offset=len(found), limit=_PAGE, order_by="id", silent=True,
                )  # fmt: skip
            except HyphaError as error:
                if error.status == 404:  # nothing was ever installed
                    return []
                raise
            found += [{**(record.get("manifest") or {}), "id": record["alias"]} for record in page]
            if len(page) < _PAGE:
                return found

    @rpc_method
    async def get_app_info(
        self, app_id: str, version: str | int | None = None, stage: bool = False, *, context: Caller
    ) -> dict[str, Any]:
        """
        Return the artifact of an app: its `manifest`, `versions`, `staging` …

        Args:
            app_id: The app.
            version: A version of it, the newest by default.
            stage: Whether its draft is meant.

        """
        try:
            record: dict[str, Any] = await self._store.call(
                "read", user=context.principal, workspace=context.workspace,
                artifact_id=f"{context.workspace}/{alias_of(app_id, context.workspace)}", version=version,
                stage=bool(stage), silent=True,
            )  # fmt: skip
        except HyphaError as error:
            raise prefixed(f"Failed to get app info for {app_id}", error) from None
        return record
