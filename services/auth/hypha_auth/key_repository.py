from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from hypha_common.db import Shard
from hypha_common.errors import NotFound

__all__ = ["KeyRow", "KeyRows"]

# Other replicas may still sign with a key, and write down how long that lives, for a moment after it was retired.
_GRACE_S = 3600.0


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One key of the ring, as it is stored. Times are Unix times."""

    id: str
    algorithm: str
    private_key: bytes | None  # sealed; None: retired
    public_key: dict[str, Any]  # JWK
    created_at: float
    retired_at: float | None
    last_expiry: float  # no token that it has signed lives longer


class KeyRows:
    """The keys that sign tokens: rows of the home database. At most one of them is not retired."""

    def __init__(self, home: Shard) -> None:
        self._home = home

    async def all(self) -> list[KeyRow]:
        """Return the keys that tokens may be verified with, the newest first."""
        rows = await self._home.fetch(
            """
            SELECT
                key_id, algorithm, private_key, public_key, extract(epoch FROM created_at)::float8 AS created_at,
                extract(epoch FROM retired_at)::float8 AS retired_at,
                extract(epoch FROM last_expiry)::float8 AS last_expiry
            FROM signing_keys
            WHERE retired_at IS NULL OR greatest(retired_at, last_expiry) > now() - make_interval(secs => $1)
            ORDER BY created_at DESC
            """,
            _GRACE_S,
        )
        return [_row(row) for row in rows]

    async def add_first(self, row: KeyRow) -> None:
        """Store a key, unless there is one already that signs."""
        await self._home.execute(_INSERT, *_values(row))

    async def rotate(self, row: KeyRow, *, retiring: str | None = None) -> bool:
        """
        Retire the key that signs and put another in its place; what it has signed stays good.

        With ``retiring``, only if that one is still the one that signs. False: somebody else was faster.

        """
        async with self._home.transaction() as connection:
            await connection.execute(
                """
                UPDATE signing_keys SET retired_at = now(), private_key = NULL
                WHERE retired_at IS NULL AND key_id = coalesce($1, key_id)
                """,
                retiring,
            )
            status: str = await connection.execute(_INSERT, *_values(row))
        return status.endswith(" 1")

    async def drop(self, key_id: str, replacement: KeyRow, *, mark: str, until: float, by: str) -> None:
        """
        Forget a key and revoke everything that it has signed, under ``mark``. Raises NotFound.

        ``replacement`` signs from now on, if the key did.

        """
        async with self._home.transaction() as connection:
            status: str = await connection.execute("DELETE FROM signing_keys WHERE key_id = $1", key_id)
            if status.endswith(" 0"):
                raise NotFound(f"There is no signing key {key_id}")
            await connection.execute(
                """
                INSERT INTO revoked_tokens (token_id, expires_at, revoked_by) VALUES ($1, to_timestamp($2), $3)
                ON CONFLICT (token_id) DO NOTHING
                """,
                mark,
                until,
                by,
            )
            await connection.execute(_INSERT, *_values(replacement))

    async def extend(self, key_id: str, last_expiry: float) -> None:
        """Write down that a token of this key lives until a Unix time."""
        await self._home.execute(
            "UPDATE signing_keys SET last_expiry = greatest(last_expiry, to_timestamp($2)) WHERE key_id = $1",
            key_id,
            last_expiry,
        )

    async def delete_expired(self) -> int:
        """Forget retired keys all of whose tokens have expired."""
        return await self._home.execute(
            "DELETE FROM signing_keys WHERE greatest(retired_at, last_expiry) <= now() - make_interval(secs => $1)"
            " AND retired_at IS NOT NULL",
            _GRACE_S,
        )


_INSERT = """
    INSERT INTO signing_keys (key_id, algorithm, private_key, public_key, last_expiry)
    VALUES ($1, $2, $3, $4, to_timestamp($5)) ON CONFLICT DO NOTHING
"""


def _values(row: KeyRow) -> tuple[object, ...]:
    return row.id, row.algorithm, row.private_key, json.dumps(row.public_key), row.last_expiry


def _row(row: Any) -> KeyRow:
    return KeyRow(
        id=row["key_id"],
        algorithm=row["algorithm"],
        private_key=row["private_key"],
        public_key=json.loads(row["public_key"]),
        created_at=row["created_at"],
        retired_at=row["retired_at"],
        last_expiry=row["last_expiry"],
    )
