from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import msgpack
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from hypha_common.ids import new_id

__all__ = ["MANAGER", "CallFailed", "Ended", "RawClient", "encoded", "enter", "knock", "raw_client", "websocket_url"]

MANAGER = "*/manager-hypha"
TIMEOUT_S = 15.0


def websocket_url(url: str) -> str:
    return url.replace("http", "ws", 1) + "/ws"


def encoded(header: Mapping[Any, Any], extra: Mapping[str, Any] | None = None) -> bytes:
    """Return a frame."""
    return bytes(msgpack.packb(header)) + (b"" if extra is None else bytes(msgpack.packb(extra)))


@dataclass
class Ended:
    """How the server ended a connection: the texts it sent last, and its close frame."""

    code: int
    reason: str
    texts: list[dict[str, Any]]

    @property
    def error(self) -> str:
        """What the ``error`` message said."""
        assert self.texts, f"closed without a word: {self.code} {self.reason}"
        assert self.texts[-1]["type"] == "error", self.texts
        return str(self.texts[-1]["message"])


class CallFailed(Exception):
    """A call was rejected; the message is the whole text."""


class RawClient:
    """
    A client that sends what it likes: one websocket after the handshake, without the care that ``hypha-rpc`` takes.

    Answers to its own calls go to the callers; everything else that arrives is in ``frames`` and ``texts``.

    """

    def __init__(self, socket: ClientConnection, info: dict[str, Any]) -> None:
        self.socket = socket
        self.info = info
        self.workspace = str(info["workspace"])
        self.address = f"{info['workspace']}/{info['client_id']}"
        self.frames: asyncio.Queue[tuple[dict[str, Any], Any]] = asyncio.Queue()
        self.texts: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._calls: dict[str, asyncio.Future[Any]] = {}
        self._reader = asyncio.create_task(self._read())

    async def send(self, header: Mapping[Any, Any], extra: Mapping[str, Any] | None = None) -> None:
        await self.socket.send(encoded(header, extra))

    async def call(self, method: str, *args: Any, to: str = MANAGER, **more: Any) -> Any:
        """Call and wait for the answer; ``more`` are further header keys. Raises CallFailed."""
        session = more.pop("session", None) or new_id(8)
        future = self.expect(session)
        header = {"type": "method", "to": to, "method": method, "session": session, **more}
        await self.send(header, {"args": list(args), "promise": "*", "t": 15.0})
        return await asyncio.wait_for(future, TIMEOUT_S)

    async def manager(self, name: str, *args: Any) -> Any:
        return await self.call(f"services.default.{name}", *args)

    async def register(self) -> None:
        """Be known as a client, as ``hypha-rpc`` is: with a built-in service."""
        config = {"visibility": "public", "require_context": True}
        await self.manager("register_service", {"id": f"{self.address}:built-in", "type": "built-in", "config": config})

    def expect(self, session: str) -> asyncio.Future[Any]:
        """Return what will be the outcome of the call ``session``."""
        self._calls[session] = asyncio.get_running_loop().create_future()
        return self._calls[session]

    async def frame(self) -> tuple[dict[str, Any], Any]:
        return await asyncio.wait_for(self.frames.get(), TIMEOUT_S)

    async def nothing(self) -> None:
        """Make sure that no frame is on its way: what was sent before this has been handled."""
        await self.manager("check_status")
        await asyncio.sleep(0.1)
        assert self.frames.empty(), self.frames.get_nowait()

    async def ended(self) -> Ended:
        """Wait until the server has closed."""
        await asyncio.wait_for(asyncio.shield(self._reader), TIMEOUT_S)
        return _ended(self.socket, [self.texts.get_nowait() for _ in range(self.texts.qsize())])

    async def close(self) -> None:
        await self.socket.close()
        await self._reader

    async def _read(self) -> None:
        with suppress(ConnectionClosed):
            async for message in self.socket:
                if isinstance(message, str):
                    self.texts.put_nowait(json.loads(message))
                else:
                    self._take(message)
        for future in self._calls.values():
            future.cancel()

    def _take(self, message: bytes) -> None:
        header, *rest = _unpack_all(message)
        session, _, end = str(header.get("method", "")).rpartition(".")
        future = self._calls.get(session) if end in ("resolve", "reject") else None
        if future is None:
            if end != "heartbeat":
                self.frames.put_nowait((header, rest[0] if rest else None))
            return
        value = rest[0]["args"][0]
        if future.done():
            return
        if end == "resolve":
            future.set_result(value)
        else:
            future.set_exception(CallFailed(value["_rvalue"]))


@asynccontextmanager
async def raw_client(url: str, client_id: str | None = None, **first: Any) -> AsyncIterator[RawClient]:
    """Connect to the server at ``url``; ``first`` adds to the first message."""
    client = await enter(url, client_id, **first)
    try:
        yield client
    finally:
        await client.close()


async def enter(url: str, client_id: str | None = None, **first: Any) -> RawClient:
    """Do the handshake. Raises ConnectionClosed where the server just hangs up."""
    socket = await connect(websocket_url(url), max_size=None, open_timeout=TIMEOUT_S)
    try:
        await socket.send(json.dumps({"client_id": client_id or new_id(8), **first}))
        info = json.loads(await asyncio.wait_for(socket.recv(), TIMEOUT_S))
        assert info["type"] == "connection_info", info
    except BaseException:
        await socket.close()
        raise
    return RawClient(socket, info)


async def knock(url: str, first: object = None, *, query: str = "") -> Ended:
    """
    Come with a first message that will be refused.

    ``first`` is a map, or what to send in its place; None sends nothing.

    """
    texts: list[dict[str, Any]] = []
    async with connect(websocket_url(url) + query, open_timeout=TIMEOUT_S) as socket:
        if isinstance(first, dict):
            await socket.send(json.dumps(first))
        elif isinstance(first, (str, bytes)):
            await socket.send(first)
        with suppress(ConnectionClosed):
            async with asyncio.timeout(TIMEOUT_S):
                async for message in socket:
                    texts.append(json.loads(message))  # noqa: PERF401  # kept when it ends with an exception
    return _ended(socket, texts)


def _ended(socket: ClientConnection, texts: list[dict[str, Any]]) -> Ended:
    return Ended(socket.close_code or 1006, socket.close_reason or "", texts)


def _unpack_all(message: bytes) -> list[Any]:
    unpacker = msgpack.Unpacker(raw=False, strict_map_key=False, max_buffer_size=0)
    unpacker.feed(message)
    return list(unpacker)
