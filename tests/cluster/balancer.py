"""
A load balancer in a process of its own: ``python -m tests.cluster.balancer URL …``.

It knows no sessions: each connection goes to the next server in use that takes it. It prints its address, and reads
from its input which servers are in use from now on, one line of addresses each.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import uvloop

__all__ = ["Balancer", "balancer", "forwarded"]


class Balancer:
    """The running balancer; what :meth:`leave` takes out gets no new connections, those that it has go on."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = list(urls)
        self._out: set[str] = set()
        command = [sys.executable, "-m", __name__, *urls]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = self._read()

    def leave(self, url: str) -> None:
        self._out.add(url)
        self._tell()

    def use(self, url: str) -> None:
        self._out.discard(url)
        self._tell()

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _tell(self) -> None:
        """Say which servers are in use, and wait until that is so."""
        assert self._process.stdin is not None
        print(*(url for url in self._urls if url not in self._out), file=self._process.stdin, flush=True)
        self._read()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@asynccontextmanager
async def balancer(urls: Sequence[str]) -> AsyncIterator[Balancer]:
    running = await asyncio.to_thread(Balancer, urls)
    try:
        yield running
    finally:
        await asyncio.to_thread(running.close)


@asynccontextmanager
async def forwarded(host: str, port: int, url: str) -> AsyncIterator[None]:
    """Make the server at ``url`` reachable at another address, by this process."""
    server = await asyncio.start_server(_Relays([url]).relay, host, port)
    try:
        yield
    finally:
        server.close()


class _Relays:
    def __init__(self, urls: Iterable[str]) -> None:
        self._next = 0
        self.use(urls)

    def use(self, urls: Iterable[str]) -> None:
        self._servers = [(str(parts.hostname), int(parts.port or 80)) for parts in map(urlsplit, urls)]

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        servers = self._servers
        try:
            for _ in servers:
                self._next += 1
                with suppress(OSError):
                    there, to_there = await asyncio.open_connection(*servers[self._next % len(servers)])
                    await _connect((reader, to_there), (there, writer))
                    return
        finally:
            writer.close()


async def _connect(*ways: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
    """Pass on bytes both ways until either side ends."""
    pumps = [asyncio.create_task(_pump(*way)) for way in ways]
    try:
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for pump, (_, writer) in zip(pumps, ways, strict=True):
            pump.cancel()
            writer.close()
        await asyncio.gather(*pumps, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


async def _main(urls: Sequence[str]) -> None:
    relays = _Relays(urls)
    server = await asyncio.start_server(relays.relay, "127.0.0.1", 0, backlog=4096)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        relays.use(line.split())
        print("done", flush=True)


if __name__ == "__main__":
    uvloop.run(_main(sys.argv[1:]))
