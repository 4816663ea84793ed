from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

__all__ = ["Balancer", "balancer"]


class Balancer:
    """A load balancer that knows no sessions: each connection goes to the next server that takes it."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._servers = [(str(parts.hostname), int(parts.port or 80)) for parts in map(urlsplit, urls)]
        self._next = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = ""

    def accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._relay(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for _ in self._servers:
                server = self._servers[self._next % len(self._servers)]
                self._next += 1
                with suppress(OSError):
                    there, to_there = await asyncio.open_connection(*server)
                    try:
                        ways = (_pump(reader, to_there), _pump(there, writer))
                        pumps = [asyncio.create_task(way) for way in ways]
                        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                        for pump in pumps:
                            pump.cancel()
                        await asyncio.gather(*pumps, return_exceptions=True)
                    finally:
                        to_there.close()
                    return
        finally:
            writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


@asynccontextmanager
async def balancer(urls: Sequence[str]) -> AsyncIterator[Balancer]:
    running = Balancer(urls)
    server = await asyncio.start_server(running.accepted, "127.0.0.1", 0)
    running.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield running
    finally:
        server.close()
        await running.close()
