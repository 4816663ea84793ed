from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hypha_common.wire import pack

if TYPE_CHECKING:
    from hypha_common.db import Database
    from hypha_common.principal import Principal

    from .app import App

__all__ = ["Standing"]

_SET_DAEMON = """
    INSERT INTO app_daemons (workspace, app_id) VALUES ($1, $2)
    ON CONFLICT (workspace, app_id) DO UPDATE SET held = false
"""
_CLEAR_DAEMON = "DELETE FROM app_daemons WHERE workspace = $1 AND app_id = $2"
_SET_AUTOSCALING = """
    INSERT INTO app_autoscaling (workspace, app_id, config, starter) VALUES ($1, $2, $3, $4)
    ON CONFLICT (workspace, app_id) DO UPDATE SET config = excluded.config, starter = excluded.starter
"""
_CLEAR_AUTOSCALING = "DELETE FROM app_autoscaling WHERE workspace = $1 AND app_id = $2"


class Standing:
    """
    What committed apps ask of the server for as long as they are installed: to run always, to scale.

    Rows in the database of the workspace: SQL, without permission checks. Who keeps them running reads them
    (`keeping`).

    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def follow(self, app: App, starter: Principal) -> None:
        """Make the rows say what the manifest of a committed app says; a disabled app asks for nothing."""
        autoscaling = app.manifest.get("autoscaling")
        disabled = bool(app.manifest.get("disabled"))
        if app.manifest.get("daemon") and not disabled:
            await self.set_daemon(app.workspace, app.id)
        else:
            await self.clear_daemon(app.workspace, app.id)
        if isinstance(autoscaling, Mapping) and autoscaling.get("enabled") and not disabled:
            await self.set_autoscaling(app.workspace, app.id, autoscaling, starter)
        else:
            await self.clear_autoscaling(app.workspace, app.id)

    async def clear(self, workspace: str, app_id: str) -> None:
        """Forget an app that is uninstalled or disabled."""
        await self.clear_daemon(workspace, app_id)
        await self.clear_autoscaling(workspace, app_id)

    async def set_daemon(self, workspace: str, app_id: str) -> None:
        """Remember that an app is to run always, although somebody stopped it; tries so far stay counted."""
        await self._database.for_workspace(workspace).execute(_SET_DAEMON, workspace, app_id)

    async def clear_daemon(self, workspace: str, app_id: str) -> None:
        await self._database.for_workspace(workspace).execute(_CLEAR_DAEMON, workspace, app_id)

    async def set_autoscaling(self, workspace: str, app_id: str, config: Mapping[str, Any], starter: Principal) -> None:
        """Remember how an app scales (contract 03 §6.4), and who further instances run as."""
        await self._database.for_workspace(workspace).execute(
            _SET_AUTOSCALING, workspace, app_id, pack(dict(config)), pack(starter.dump())
        )

    async def clear_autoscaling(self, workspace: str, app_id: str) -> None:
        await self._database.for_workspace(workspace).execute(_CLEAR_AUTOSCALING, workspace, app_id)
