from __future__ import annotations

import asyncio
import secrets
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from hypha_common.errors import Unavailable

__all__ = ["Passwords"]

T = TypeVar("T")

# OWASP's recommendation for argon2id: 19 MiB, two passes, one lane; some 25 ms.
_MEMORY_KIB = 19456
_PASSES = 2
_LANES = 1
_HASH_BYTES = 32
_SALT_BYTES = 16

_THREADS = 2  # a flood of logins takes two cores and 38 MiB of a replica, and no more
_MAX_WAITING = 64


class Passwords:
    """Hashes and checks passwords with argon2id, beside the event loop and a few at a time."""

    def __init__(self, *, max_waiting: int = _MAX_WAITING, memory_kib: int = _MEMORY_KIB) -> None:
        from argon2 import PasswordHasher

        self._hasher = PasswordHasher(
            time_cost=_PASSES, memory_cost=memory_kib, parallelism=_LANES, hash_len=_HASH_BYTES, salt_len=_SALT_BYTES
        )
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="argon2")
        self._max_waiting = max_waiting
        self._waiting = 0
        salt, digest = (_base64(secrets.token_bytes(size)) for size in (_SALT_BYTES, _HASH_BYTES))
        # No password has this hash. Checked in place of one that is not there, so that it takes as long.
        self._nobody = f"$argon2id$v=19$m={memory_kib},t={_PASSES},p={_LANES}${salt}${digest}"

    async def hash(self, password: bytes) -> str:
        """Raises Unavailable where too many wait already."""
        return await self._run(lambda: self._hasher.hash(password))

    async def matches(self, password: bytes | None, hashed: str | None) -> bool:
        """Tell whether a password is the right one; it takes as long where there is none. Raises Unavailable."""
        given = password or b"-"
        right = await self._run(lambda: self._check(hashed or self._nobody, given))
        return right and hashed is not None and password is not None

    def is_outdated(self, hashed: str) -> bool:
        """Tell whether a hash was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(hashed)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _check(self, hashed: str, password: bytes) -> bool:
        from argon2.exceptions import InvalidHashError, VerificationError

        try:
            return self._hasher.verify(hashed, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= self._max_waiting:
            raise Unavailable("Too many people log in at the moment, please retry")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1


def _base64(data: bytes) -> str:
    return b64encode(data).decode().rstrip("=")
