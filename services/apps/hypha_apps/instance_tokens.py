from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypha_common.subjects import partition_of, role_verb

if TYPE_CHECKING:
    from hypha_common.bus import Bus
    from hypha_common.principal import Principal

__all__ = ["InstanceToken", "InstanceTokens"]


@dataclass(frozen=True, slots=True)
class InstanceToken:
    """What an instance of an app connects with."""

    token: str
    id: str


class InstanceTokens:
    """Tokens of app instances; the auth service makes and ends them."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def issue(self, user: Principal, workspace: str, client_id: str, app_id: str) -> InstanceToken:
        """Return a token with which one client may read and write in one workspace, as a child of ``user``."""
        message = {"user": user.dump(), "workspace": workspace, "client_id": client_id, "app_id": app_id}
        answer = await self._bus.request(role_verb("auth", partition_of(workspace), "issue_instance"), message)
        return InstanceToken(answer["token"], answer["token_id"])

    async def end(self, workspace: str, token_id: str) -> None:
        """Refuse a token from now on: the connection that stands on it ends, and cannot come back."""
        await self._bus.request(role_verb("auth", partition_of(workspace), "end_instance"), {"token_id": token_id})
