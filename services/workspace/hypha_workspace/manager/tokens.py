from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypha_common.principal import Permission
from hypha_common.rpc.caller import Caller
from hypha_common.rpc.service import rpc_method
from hypha_common.subjects import role_verb

from .access import authorize
from .bounds import check_text

if TYPE_CHECKING:
    from .backend import Backend

__all__ = ["TokenMethods"]

_TIMEOUT_S = 1.3


class TokenMethods:
    """Tokens for others, which the auth service makes, reads and revokes; here it is found out who owns a workspace."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    @rpc_method
    async def generate_token(self, config: dict[str, Any] | None = None, *, context: Caller) -> str:
        """
        Generate a token with which another client may connect to a workspace.

        Args:
            config: A map with any of `workspace`, `expires_in` (seconds), `permission` (`read`, `read_write` or
                `admin`), `extra_scopes`, `client_id` and `email`.

        """
        principal = context.principal
        workspace = check_text((config or {}).get("workspace") or context.workspace, "Workspace")
        granted = principal.permission(workspace)
        owner = granted < Permission.ADMIN <= await self._backend.access.permission(principal, workspace)
        message = {"user": principal.dump(), "config": config or {}, "workspace": workspace, "owner": owner}
        answer = await self._ask("issue", message)
        return str(answer["token"])

    @rpc_method
    async def parse_token(self, token: str, *, context: Caller) -> dict[str, Any]:
        """
        Return the user that a token of this workspace stands for.

        Args:
            token: The token.

        """
        authorize(context.principal, Permission.READ, context.workspace)
        user: dict[str, Any] = await self._ask("parse", {"token": token, "workspace": context.workspace})
        return user

    @rpc_method
    async def revoke_token(self, token: str, *, context: Caller) -> None:
        """
        Revoke a token: nobody can use it any more.

        Args:
            token: The token.

        """
        authorize(context.principal, Permission.ADMIN, context.workspace)
        await self._ask("revoke", {"token": token, "user": context.principal.dump()})

    async def _ask(self, verb: str, message: dict[str, Any]) -> Any:
        # A replica may die with the question in its hands; asking twice at worst makes a token that nobody gets.
        return await self._backend.bus.request(role_verb("auth", 0, verb), message, timeout=_TIMEOUT_S, attempts=2)
