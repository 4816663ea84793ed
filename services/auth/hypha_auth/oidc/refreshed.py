from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import structlog

from hypha_common.errors import Unavailable

__all__ = ["Refreshed"]

log = structlog.get_logger(__name__)

T = TypeVar("T")


class Refreshed(Generic[T]):
    """
    Something of somebody else's that is fetched when it is first needed, and again when it is old.

    One fetch at a time, and none within ``retry_s`` of the one before, however many ask. While the other side is away
    what is known serves on for ``stale_s``.

    """

    def __init__(
        self,
        name: str,
        fetch: Callable[[], Awaitable[T]],
        *,
        fresh_s: float,
        stale_s: float,
        retry_s: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._fetch = fetch
        self._fresh_s = fresh_s
        self._stale_s = stale_s
        self._retry_s = retry_s
        self._now = now
        self._lock = asyncio.Lock()
        self._value: tuple[T, float] | None = None  # and when it was fetched
        self._tried_at: float | None = None
        self._failure = ""

    async def get(self) -> T:
        """Return the value. Raises Unavailable where it is not known."""
        if self._value is not None and self._age < self._fresh_s:
            return self._value[0]
        return await self._refreshed()

    async def newer(self) -> T:
        """Return the value as it is now, because what is known turned out to be out of date. Raises Unavailable."""
        return await self._refreshed(seen=self._value)

    @property
    def _age(self) -> float:
        return float("inf") if self._value is None else self._now() - self._value[1]

    async def _refreshed(self, seen: tuple[T, float] | None = None) -> T:
        async with self._lock:
            is_fresh = self._age < self._fresh_s and (seen is None or self._value is not seen)
            if not is_fresh and (self._tried_at is None or self._now() - self._tried_at >= self._retry_s):
                await self._try()
            if self._value is not None and self._age < self._stale_s:
                return self._value[0]
            raise Unavailable(self._failure)

    async def _try(self) -> None:
        try:
            value = await self._fetch()
        except Unavailable as error:
            self._failure = error.message
            log.warning("provider_unavailable", what=self._name, error=error.message)
        else:
            self._value, self._failure = (value, self._now()), ""
        finally:
            self._tried_at = self._now()
