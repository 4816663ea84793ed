from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypha_common.db import Shard
from hypha_common.errors import QuotaExceeded
from hypha_common.wire import pack, unpack

__all__ = ["PendingAuthorization", "PendingAuthorizations"]

_MAX_PENDING = 50_000


@dataclass(frozen=True, slots=True)
class PendingAuthorization:
    """A person who was sent to the provider and is awaited back."""

    binding: bytes  # SHA-256 of the cookie that the person's browser was given
    nonce: str
    verifier: str  # PKCE
    fields: dict[str, str]  # of the login page: key, workspace, expires_in, redirect


class PendingAuthorizations:
    """Who was sent to the provider, by ``state``: rows of the home database, as any replica may see the return."""

    def __init__(self, home: Shard, *, max_pending: int = _MAX_PENDING) -> None:
        self._home = home
        self._max_pending = max_pending

    async def add(self, state: str, pending: PendingAuthorization, *, life_s: float) -> None:
        """Remember somebody. Raises QuotaExceeded where that would be too many: anybody can cause one."""
        added = await self._home.execute(
            """
            INSERT INTO oidc_states (state, binding, nonce, verifier, fields, expires_at)
            SELECT $1, $2::bytea, $3, $4, $5::bytea, now() + make_interval(secs => $6)
            WHERE (SELECT count(*) FROM (SELECT FROM oidc_states LIMIT $7) AS found) < $7
            """,
            state,
            pending.binding,
            pending.nonce,
            pending.verifier,
            pack(pending.fields),
            life_s,
            self._max_pending,
        )
        if added != 1:
            raise QuotaExceeded("Too many logins are under way, please try again in a few minutes")

    async def take(self, state: str, binding: bytes) -> PendingAuthorization | None:
        """Return what belongs to ``state`` and forget it; only for the browser that was given the cookie, and once."""
        row = await self._home.fetchrow(
            """
            DELETE FROM oidc_states WHERE state = $1 AND binding = $2 AND expires_at > now()
            RETURNING binding, nonce, verifier, fields
            """,
            state,
            binding,
        )
        if row is None:
            return None
        fields: dict[str, Any] = unpack(row["fields"])
        return PendingAuthorization(row["binding"], row["nonce"], row["verifier"], fields)

    async def delete_expired(self) -> int:
        return await self._home.execute("DELETE FROM oidc_states WHERE expires_at <= now()")
