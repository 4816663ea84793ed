from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hypha_common.db import Shard

__all__ = ["Account", "AccountRows"]

_COLUMNS = "user_id, email, name, password_hash, roles, origin, email_verified, email_proven, created_at"


@dataclass(frozen=True, slots=True)
class Account:
    user_id: str
    email: str
    name: str
    password_hash: str
    roles: tuple[str, ...]
    origin: str
    email_verified: bool
    email_proven: bool  # verified by a code that reached the address by mail
    created_at: float  # Unix time


class AccountRows:
    """The accounts: rows of the home database."""

    def __init__(self, home: Shard) -> None:
        self._home = home

    async def by_email(self, email: str) -> Account | None:
        return _account(await self._home.fetchrow(f"SELECT {_COLUMNS} FROM accounts WHERE email = $1", email))  # noqa: S608

    async def by_id(self, user_id: str) -> Account | None:
        return _account(await self._home.fetchrow(f"SELECT {_COLUMNS} FROM accounts WHERE user_id = $1", user_id))  # noqa: S608

    async def create(
        self,
        user_id: str,
        *,
        email: str,
        name: str,
        password_hash: str,
        roles: Sequence[str],
        origin: str,
        code_life_s: float,
        replace: bool,
    ) -> Account | None:
        """
        Create an account that is not verified yet, and return it; None where the address is taken.

        The address is kept for it from this moment on, for as long as a code is good. One that nobody has verified in
        time gives way; with ``replace`` one that somebody still could.

        """
        row = await self._home.fetchrow(
            f"""
            INSERT INTO accounts AS a (user_id, email, name, password_hash, roles, origin, code_expires_at)
            VALUES ($1, $2, $3, $4, $5, $6, now() + make_interval(secs => $7))
            ON CONFLICT (email) DO UPDATE
            SET user_id = excluded.user_id, name = excluded.name, password_hash = excluded.password_hash,
                roles = excluded.roles, origin = excluded.origin, created_at = now(), password_changed_at = now(),
                code_hash = NULL, code_expires_at = excluded.code_expires_at
            WHERE NOT a.email_verified AND ($8 OR a.code_expires_at <= now())
            RETURNING {_COLUMNS}
            """,  # noqa: S608  # the columns are ours
            user_id,
            email,
            name,
            password_hash,
            list(roles),
            origin,
            code_life_s,
            replace,
        )
        return _account(row)

    async def pending(self) -> int:
        """Return how many accounts wait for their address to be verified."""
        count: int = await self._home.fetchval("SELECT count(*) FROM accounts WHERE NOT email_verified")
        return count

    async def put_code(self, user_id: str, code_hash: bytes, life_s: float) -> None:
        """Set the one code that is good for this account from now on."""
        await self._home.execute(
            """
            UPDATE accounts SET code_hash = $2, code_attempts = 0, code_expires_at = now() + make_interval(secs => $3)
            WHERE user_id = $1
            """,
            user_id,
            code_hash,
            life_s,
        )

    async def try_code(self, user_id: str, max_attempts: int) -> bytes | None:
        """Count an attempt and return the code's hash; None where there is no code or it has been tried enough."""
        code_hash: bytes | None = await self._home.fetchval(
            """
            UPDATE accounts SET code_attempts = code_attempts + 1
            WHERE user_id = $1 AND code_attempts < $2 AND code_expires_at > now() RETURNING code_hash
            """,
            user_id,
            max_attempts,
        )
        return code_hash

    async def verify(self, user_id: str, code_hash: bytes, *, mailed: bool) -> bool:
        """Take a code's word that the address is its owner's; a code serves once."""
        changed = await self._home.execute(
            """
            UPDATE accounts SET email_verified = true, email_proven = email_proven OR $3,
                code_hash = NULL, code_expires_at = NULL
            WHERE user_id = $1 AND code_hash = $2
            """,
            user_id,
            code_hash,
            mailed,
        )
        return changed == 1

    async def rename(self, user_id: str, name: str) -> None:
        await self._home.execute("UPDATE accounts SET name = $2 WHERE user_id = $1", user_id, name)

    async def set_password(self, user_id: str, password_hash: str, *, origin: str | None = None) -> None:
        """Change the password; with ``origin``, what the tokens of later logins bear, too."""
        await self._home.execute(
            """
            UPDATE accounts SET password_hash = $2, password_changed_at = now(), origin = coalesce($3, origin)
            WHERE user_id = $1
            """,
            user_id,
            password_hash,
            origin,
        )

    async def rehash(self, user_id: str, old: str, new: str) -> None:
        """Write the same password in another way, unless it was changed meanwhile."""
        await self._home.execute(
            "UPDATE accounts SET password_hash = $3 WHERE user_id = $1 AND password_hash = $2", user_id, old, new
        )

    async def delete_unverified(self, older_than_s: float) -> int:
        return await self._home.execute(
            "DELETE FROM accounts WHERE NOT email_verified AND created_at < now() - make_interval(secs => $1)",
            older_than_s,
        )


def _account(row: Any) -> Account | None:
    if row is None:
        return None
    return Account(
        user_id=row["user_id"],
        email=row["email"],
        name=row["name"],
        password_hash=row["password_hash"],
        roles=tuple(row["roles"]),
        origin=row["origin"],
        email_verified=row["email_verified"],
        email_proven=row["email_proven"],
        created_at=row["created_at"].timestamp(),
    )
