from __future__ import annotations

import asyncio
from typing import Protocol

__all__ = ["Gate", "Waiter"]


class Waiter(Protocol):
    def resume(self) -> None:
        """Called once after a gate it waited for opened."""


class Gate:
    """
    Back-pressure: senders wait here until something downstream takes more.

    A sender whose frame met a closed gate stops reading its socket, so that TCP slows the peer down and nothing is
    buffered without bound.

    """

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: list[Waiter] = []

    def wait(self, waiter: Waiter) -> None:
        self._waiters.append(waiter)

    async def opened(self) -> None:
        """Wait until it opens the next time."""
        turn = _Turn()
        self.wait(turn)
        await turn.future

    def open(self) -> None:
        """Let everybody on who waits now."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.resume()


class _Turn:
    """A coroutine that waits at a gate."""

    def __init__(self) -> None:
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def resume(self) -> None:
        if not self.future.done():
            self.future.set_result(None)
