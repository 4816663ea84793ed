from __future__ import annotations

import hashlib
from dataclasses import dataclass

from hypha_common.db import Shard

from .errors import TooManyAttempts

__all__ = ["Throttle", "ThrottleRows", "Throttles"]


@dataclass(frozen=True, slots=True)
class Throttle:
    """
    How often something may be tried: ``free`` times at once, then after a delay that doubles each time.

    Once nothing was tried for ``memory_s``, all is forgotten.

    """

    kind: str
    free: int
    first_s: float
    max_s: float
    memory_s: float = 3600.0

    def key(self, subject: str) -> str:
        """Return the key of somebody: an address of whatever length, and nothing to read in the table."""
        return f"{self.kind}:{hashlib.sha256(subject.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


class ThrottleRows:
    """Attempts, counted for all replicas together: rows of the home database."""

    def __init__(self, home: Shard) -> None:
        self._home = home

    async def admit(self, throttle: Throttle, subject: str) -> None:
        """
        Count an attempt before it is made. Raises TooManyAttempts while one has to wait.

        Counting first is what holds also for a thousand attempts at the same time.

        """
        key = throttle.key(subject)
        admitted = await self._home.fetchval(
            """
            INSERT INTO throttles AS t (key, attempts, free_at, forgotten_at)
            VALUES ($1, 1, now() + make_interval(secs => CASE WHEN $2 > 1 THEN 0 ELSE $3::float8 END),
                    now() + make_interval(secs => $5::float8))
            ON CONFLICT (key) DO UPDATE
            SET attempts = CASE WHEN t.forgotten_at <= now() THEN 1 ELSE t.attempts + 1 END,
                free_at = now() + make_interval(secs => CASE
                    WHEN t.forgotten_at <= now() OR t.attempts + 1 < $2 THEN 0
                    ELSE least($4::float8, $3::float8 * power(2, least(t.attempts + 1 - $2, 30)))
                END),
                forgotten_at = now() + make_interval(secs => $5::float8)
            WHERE t.free_at <= now()
            RETURNING true
            """,
            key,
            throttle.free,
            throttle.first_s,
            throttle.max_s,
            throttle.memory_s,
        )
        if admitted is None:
            wait: float | None = await self._home.fetchval(
                "SELECT extract(epoch FROM free_at - now())::float8 FROM throttles WHERE key = $1", key
            )
            raise TooManyAttempts(wait or 0.0)

    async def forget(self, throttle: Throttle, subject: str) -> None:
        """Start anew: somebody has shown who he or she is."""
        await self._home.execute("DELETE FROM throttles WHERE key = $1", throttle.key(subject))

    async def give_back(self, throttle: Throttle, subject: str) -> None:
        """Take one attempt back: it was none of those that are to be slowed down."""
        await self._home.execute(
            "UPDATE throttles SET attempts = greatest(attempts - 1, 0), free_at = least(free_at, now()) WHERE key = $1",
            throttle.key(subject),
        )

    async def delete_forgotten(self) -> int:
        return await self._home.execute("DELETE FROM throttles WHERE forgotten_at <= now()")


@dataclass(frozen=True, slots=True)
class Throttles:
    """What is slowed down. An office or a class behind one address shares that: it may do more than one account."""

    account: Throttle = Throttle("login-account", free=5, first_s=2, max_s=300)
    address: Throttle = Throttle("login-address", free=30, first_s=2, max_s=900)
    sign_up: Throttle = Throttle("sign-up", free=40, first_s=15, max_s=3600, memory_s=6 * 3600)
    # Callers whose address no gateway tells (those over a websocket), all together.
    sign_up_unknown: Throttle = Throttle("sign-up", free=100, first_s=1, max_s=60)
    code: Throttle = Throttle("code", free=10, first_s=5, max_s=900)
    mail: Throttle = Throttle("mail", free=1, first_s=30, max_s=900)
    # Each is remembered by every process of the cluster for as long as a token may live.
    revoking: Throttle = Throttle("revoking", free=5, first_s=60, max_s=3600, memory_s=86400)
