from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypha_common.errors import QuotaExceeded
from hypha_common.principal import Permission
from hypha_common.rpc.caller import Caller
from hypha_common.rpc.service import rpc_method

from .access import authorize
from .bounds import MAX_ENV_BYTES, MAX_ENV_VARIABLES, check_size, check_text

if TYPE_CHECKING:
    from .backend import Backend

__all__ = ["EnvironmentMethods"]


class EnvironmentMethods:
    """Variables that the clients of a workspace share."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._environment = backend.stores.environment

    @rpc_method
    async def set_env(self, key: str, value: Any = None, *, context: Caller) -> None:
        """
        Set an environment variable of the workspace.

        Args:
            key: The name of the variable.
            value: The value; null removes the variable.

        """
        workspace = context.workspace
        authorize(context.principal, Permission.READ_WRITE, workspace)
        check_text(key, "Environment variable name")
        if value is not None:
            check_size(value, f"Environment variable '{key}'", MAX_ENV_BYTES)
            variables = await self._environment.items(workspace)
            if key not in variables and len(variables) >= MAX_ENV_VARIABLES:
                raise QuotaExceeded(f"Workspace {workspace} has {MAX_ENV_VARIABLES} environment variables already")
        await self._environment.put(workspace, key, value)
        await self._backend.workspace_changed(workspace)

    @rpc_method
    async def get_env(self, key: str | None = None, value: Any = None, *, context: Caller) -> Any:
        """
        Return an environment variable of the workspace, or all of them.

        Args:
            key: The name of the variable; null returns a map of all.
            value: Ignored; accepted because a documented example passes it.

        """
        authorize(context.principal, Permission.READ_WRITE, context.workspace)
        if key is None:
            return await self._environment.items(context.workspace)
        return await self._environment.get(context.workspace, check_text(key, "Environment variable name"))
