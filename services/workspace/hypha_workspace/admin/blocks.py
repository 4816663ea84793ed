from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from hypha_common.errors import BadRequest
from hypha_common.operating import ask_each, gateways_there
from hypha_common.rpc.caller import Caller
from hypha_common.rpc.service import rpc_method
from hypha_common.subjects import role_verb
from hypha_workspace.manager.bounds import check_text

from .backend import check_admin

if TYPE_CHECKING:
    from .backend import AdminBackend

__all__ = ["BlockMethods"]

_POLICY = 1008


class BlockMethods:
    """Users and addresses that are kept out. The auth service keeps the list, every gateway enforces it."""

    def __init__(self, backend: AdminBackend) -> None:
        self._bus = backend.bus

    @rpc_method
    async def block_user(self, user_id: str, duration: float = 3600, reason: str = "", *, context: Caller) -> str:
        """
        Keep a user out, and everybody to whom the user gave a token; their connections are closed.

        Args:
            user_id: The user.
            duration: For how many seconds; 0: 30 days.
            reason: What the user is told.

        """
        check_admin(context)
        user = check_text(user_id, "User id")
        kicked = await self._block("user", user, duration, reason, context)
        return f"Blocked user {user}, kicked {kicked} connections"

    @rpc_method
    async def unblock_user(self, user_id: str, *, context: Caller) -> str:
        """
        Let a user in again.

        Args:
            user_id: The user.

        """
        check_admin(context)
        user = check_text(user_id, "User id")
        removed = await self._unblock("user", user, context)
        return f"Unblocked user {user}" if removed else f"User {user} was not blocked"

    @rpc_method
    async def block_ip(self, ip: str, duration: float = 3600, reason: str = "", *, context: Caller) -> str:
        """
        Keep an address or a network out; connections from there are closed.

        Args:
            ip: The address, or a network such as `192.0.2.0/24`.
            duration: For how many seconds; 0: 30 days.
            reason: What whoever comes from there is told.

        """
        check_admin(context)
        address = check_text(ip, "Address")
        kicked = await self._block("ip", address, duration, reason, context)
        return f"Blocked IP {address}, kicked {kicked} connections"

    @rpc_method
    async def unblock_ip(self, ip: str, *, context: Caller) -> str:
        """
        Let an address or a network in again.

        Args:
            ip: The address or network, as it was blocked.

        """
        check_admin(context)
        address = check_text(ip, "Address")
        removed = await self._unblock("ip", address, context)
        return f"Unblocked IP {address}" if removed else f"IP {address} was not blocked"

    @rpc_method
    async def list_blocked(self, *, context: Caller) -> dict[str, Any]:
        """List who is kept out: `users` and `ips`, each with `id`, `reason` and `ttl_seconds`."""
        check_admin(context)
        blocked = await self._bus.request(role_verb("auth", 0, "blocked"), {})
        now = time.time()
        return {
            kind: [
                {"id": block["id"], "reason": block["reason"], "ttl_seconds": max(0, round(block["until"] - now))}
                for block in blocked[kind]
            ]
            for kind in ("users", "ips")
        }

    async def _block(self, kind: str, name: str, duration: float, reason: str, context: Caller) -> int:
        """Return how many connections were closed; new ones are refused before the first of them is."""
        if not duration >= 0:
            raise BadRequest("duration must be a number of seconds, 0 or more")
        gateways = [gateway["id"] for gateway in await gateways_there(self._bus)]
        whose = {"user": name} if kind == "user" else {"address": name}
        # Gateways close them on their own as soon as they hear of the block: whoever counts afterwards may find none.
        before = await ask_each(self._bus, gateways, "connections", {**whose, "limit": 0})
        message = {"kind": kind, "id": name, "duration_s": duration, "reason": reason, "by": context.principal.id}
        await self._bus.request(role_verb("auth", 0, "block"), message)
        text = f"{'User' if kind == 'user' else 'IP'} is blocked: {reason}"
        kick = {**whose, "code": _POLICY, "reason": text, "tell": True}
        kicked = await ask_each(self._bus, gateways, "kick", kick)
        counted = sum(int(answer["matching"]) for answer in before.values())
        return max(counted, sum(int(answer["kicked"]) for answer in kicked.values()))

    async def _unblock(self, kind: str, name: str, context: Caller) -> bool:
        message = {"kind": kind, "id": name, "by": context.principal.id}
        answer = await self._bus.request(role_verb("auth", 0, "unblock"), message)
        return bool(answer["removed"])
