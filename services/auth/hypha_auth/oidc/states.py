from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypha_common.db import Shard
from hypha_common.wire import pack, unpack

__all__ = ["PendingAuthorization", "PendingAuthorizations"]


@dataclass(frozen=True, slots=True)
class PendingAuthorization:
    """A person who was sent to the provider and is awaited back."""

    binding: bytes  # SHA-256 of the cookie that the person's browser was given
    nonce: str
    verifier: str  # PKCE
    fields: dict[str, str]  # of the login page: key, workspace, expires_in, redirect


class PendingAuthorizations:
    """Who was sent to the provider, by ``state``: rows of the home database, as any replica may see the return."""

    def __init__(self, home: Shard) -> None:
        self._home = home

    async def add(self, state: str, pending: PendingAuthorization, *, life_s: float) -> None:
        await self._home.execute(
            """
            INSERT INTO oidc_states (state, binding, nonce, verifier, fields, expires_at)
            VALUES ($1, $2, $3, $4, $5, now() + make_interval(secs => $6))
            """,
            state,
            pending.binding,
            pending.nonce,
            pending.verifier,
            pack(pending.fields),
            life_s,
        )

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
