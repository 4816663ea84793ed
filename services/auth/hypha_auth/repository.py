from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from hypha_common.db import Shard
from hypha_common.wire import pack, unpack

__all__ = ["LoginSession", "LoginSessions", "RevokedTokenRows"]


class RevokedTokenRows:
    """What the cluster remembers of revoked tokens: rows of the home database."""

    def __init__(self, home: Shard) -> None:
        self._home = home

    async def add(self, token_id: str, until: float, revoked_by: str) -> None:
        """Remember a revocation until a Unix time. Doing it again is harmless."""
        await self._home.execute(
            """
            INSERT INTO revoked_tokens (token_id, expires_at, revoked_by) VALUES ($1, to_timestamp($2), $3)
            ON CONFLICT (token_id) DO UPDATE SET expires_at = greatest(revoked_tokens.expires_at, excluded.expires_at)
            """,
            token_id,
            until,
            revoked_by,
        )

    async def among(self, token_ids: Iterable[str]) -> list[str]:
        """Return those of the ids that are revoked."""
        rows = await self._home.fetch(
            "SELECT token_id FROM revoked_tokens WHERE token_id = ANY($1) AND expires_at > now()", list(token_ids)
        )
        return [row["token_id"] for row in rows]

    async def page(self, after: str, limit: int) -> list[tuple[str, float]]:
        """Return (token id, Unix time) of live revocations, ordered by id, from behind ``after``."""
        rows = await self._home.fetch(
            """
            SELECT token_id, extract(epoch FROM expires_at)::float8 AS until
            FROM revoked_tokens WHERE token_id > $1 AND expires_at > now() ORDER BY token_id LIMIT $2
            """,
            after,
            limit,
        )
        return [(row["token_id"], row["until"]) for row in rows]

    async def delete_expired(self) -> int:
        return await self._home.execute("DELETE FROM revoked_tokens WHERE expires_at <= now()")


@dataclass(frozen=True, slots=True)
class LoginSession:
    """A login under way; ``token`` is None until somebody has logged in."""

    workspace: str | None
    expires_in: int | None
    token: str | None
    profile: dict[str, Any] | None


class LoginSessions:
    """Logins under way, shared by all replicas: rows of the home database."""

    def __init__(self, home: Shard) -> None:
        self._home = home

    async def create(self, key: str, *, workspace: str | None, expires_in: int | None, life_s: float) -> None:
        await self._home.execute(
            """
            INSERT INTO login_sessions (key, workspace, expires_in, expires_at)
            VALUES ($1, $2, $3, now() + make_interval(secs => $4))
            """,
            key,
            workspace,
            expires_in,
            life_s,
        )

    async def get(self, key: str) -> LoginSession | None:
        row = await self._home.fetchrow(
            """
            SELECT workspace, expires_in, token, profile FROM login_sessions WHERE key = $1 AND expires_at > now()
            """,
            key,
        )
        return None if row is None else _session(row)

    async def complete(self, key: str, token: str, profile: dict[str, Any]) -> bool:
        """Put a token into a session that waits for one, and tell whether it did."""
        changed = await self._home.execute(
            """
            UPDATE login_sessions SET token = $2, profile = $3
            WHERE key = $1 AND token IS NULL AND expires_at > now()
            """,
            key,
            token,
            pack(profile),
        )
        return changed == 1

    async def take(self, key: str) -> LoginSession | None:
        """Return a completed session and forget it; of several callers one gets it."""
        row = await self._home.fetchrow(
            """
            DELETE FROM login_sessions WHERE key = $1 AND token IS NOT NULL AND expires_at > now()
            RETURNING workspace, expires_in, token, profile
            """,
            key,
        )
        return None if row is None else _session(row)

    async def delete_expired(self) -> int:
        return await self._home.execute("DELETE FROM login_sessions WHERE expires_at <= now()")


def _session(row: Any) -> LoginSession:
    profile = row["profile"]
    return LoginSession(row["workspace"], row["expires_in"], row["token"], None if profile is None else unpack(profile))
