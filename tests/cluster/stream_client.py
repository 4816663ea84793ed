from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgpack

from hypha_common.ids import new_id
from tests.cluster.raw_client import MANAGER, CallFailed, encoded

__all__ = ["RawStream", "raw_stream"]

TIMEOUT_S = 15.0
_CONTROL = ("connection_info", "error", "ping", "pong", "reconnection_token")


class RawStream:
    """
    A client of the HTTP transport that sends what it likes: an open stream, and POSTs beside it.

    Answers to its own calls go to the callers; everything else that arrives is in ``frames`` and ``controls``.

    """

    def __init__(self, http: httpx.AsyncClient, response: httpx.Response, url: str) -> None:
        self.http = http
        self.response = response
        self.post_url = url
        self.info: dict[str, Any] = {}
        self.query: dict[str, str] = {}
        self.headers: dict[str, str] = {}
        self.frames: asyncio.Queue[tuple[dict[str, Any], Any]] = asyncio.Queue()
        self.controls: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._calls: dict[str, asyncio.Future[Any]] = {}
        self._chunks = response.aiter_bytes()
        self._buffer = b""
        self._reader: asyncio.Task[bool] | None = None

    @property
    def workspace(self) -> str:
        return str(self.info["workspace"])

    @property
    def address(self) -> str:
        return f"{self.info['workspace']}/{self.info['client_id']}"

    async def begin(self) -> None:
        """Read the first frame."""
        (self.info,) = _unpack(await asyncio.wait_for(self._next(), TIMEOUT_S))
        self.query = {"workspace": self.workspace, "client_id": self.info["client_id"]}
        self._reader = asyncio.create_task(self._read())

    async def post(self, body: bytes, *, http: httpx.AsyncClient | None = None, **query: str) -> httpx.Response:
        """POST as the client, or with another ``http`` client as somebody else who knows its address."""
        headers = self.headers if http is None else {}
        return await (http or self.http).post(
            self.post_url, params={**self.query, **query}, content=body, headers=headers
        )

    async def send(self, header: Mapping[Any, Any], extra: Mapping[str, Any] | None = None) -> None:
        response = await self.post(encoded(header, extra))
        assert (response.status_code, response.content) == (200, b"")

    async def call(self, method: str, *args: Any, to: str = MANAGER) -> Any:
        """Call and wait for the answer. Raises CallFailed."""
        session = new_id(8)
        future = self._calls[session] = asyncio.get_running_loop().create_future()
        header = {"type": "method", "to": to, "method": method, "session": session}
        await self.send(header, {"args": list(args), "promise": "*", "t": 15.0})
        return await asyncio.wait_for(future, TIMEOUT_S)

    async def manager(self, name: str, *args: Any) -> Any:
        return await self.call(f"services.default.{name}", *args)

    async def register(self) -> None:
        """Be known as a client, as ``hypha-rpc`` is: with a built-in service."""
        config = {"visibility": "public", "require_context": True}
        await self.manager("register_service", {"id": f"{self.address}:built-in", "type": "built-in", "config": config})

    async def frame(self) -> tuple[dict[str, Any], Any]:
        return await asyncio.wait_for(self.frames.get(), TIMEOUT_S)

    async def control(self) -> dict[str, Any]:
        return await asyncio.wait_for(self.controls.get(), TIMEOUT_S)

    async def nothing(self) -> None:
        """Make sure that no frame is on its way: what was sent before this has been handled."""
        await self.manager("check_status")
        await asyncio.sleep(0.1)
        assert self.frames.empty(), self.frames.get_nowait()

    async def ended(self) -> bool:
        """Wait until the server has ended the stream; tell whether it did so as HTTP has it."""
        assert self._reader is not None
        return await asyncio.wait_for(asyncio.shield(self._reader), TIMEOUT_S)

    async def close(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        await self.response.aclose()

    async def _next(self) -> bytes:
        """Return the next frame. Raises StopAsyncIteration at the end."""
        while len(self._buffer) < 4 or len(self._buffer) < 4 + int.from_bytes(self._buffer[:4], "big"):
            self._buffer += await anext(self._chunks)
        end = 4 + int.from_bytes(self._buffer[:4], "big")
        frame, self._buffer = self._buffer[4:end], self._buffer[end:]
        return frame

    async def _read(self) -> bool:
        try:
            while True:
                self._take(await self._next())
        except StopAsyncIteration:
            return True
        except httpx.TransportError:
            return False
        finally:
            for future in self._calls.values():
                future.cancel()

    def _take(self, frame: bytes) -> None:
        header, *rest = _unpack(frame)
        if header.get("type") in _CONTROL:
            self.controls.put_nowait(header)
            return
        session, _, end = str(header.get("method", "")).rpartition(".")
        future = self._calls.get(session) if end in ("resolve", "reject") else None
        if future is None:
            if end != "heartbeat":
                self.frames.put_nowait((header, rest[0] if rest else None))
        elif not future.done():
            value = rest[0]["args"][0]
            if end == "resolve":
                future.set_result(value)
            else:
                future.set_exception(CallFailed(value["_rvalue"]))


@asynccontextmanager
async def raw_stream(
    url: str,
    client_id: str | None = None,
    *,
    post_url: str = "",
    token: str = "",
    headers: Mapping[str, str] | None = None,
    http: httpx.AsyncClient | None = None,
    **query: str,
) -> AsyncIterator[RawStream]:
    """Open a stream at ``url`` and POST at ``post_url``; ``http`` with the cookies of an earlier stream goes on."""
    sent = {**(headers or {}), **({"Authorization": f"Bearer {token}"} if token else {})}
    own = None if http is not None else httpx.AsyncClient(timeout=TIMEOUT_S)
    client = http or own
    assert client is not None
    params = {"client_id": client_id or new_id(8), **query}
    request = client.build_request("GET", f"{url}/rpc", params=params, headers=sent)
    try:
        response = await client.send(request, stream=True)
        try:
            assert response.status_code == 200, await response.aread()
            stream = RawStream(client, response, f"{post_url or url}/rpc")
            stream.headers = sent
            await stream.begin()
            try:
                yield stream
            finally:
                await stream.close()
        finally:
            await response.aclose()
    finally:
        if own is not None:
            await own.aclose()


def _unpack(frame: bytes) -> list[Any]:
    unpacker = msgpack.Unpacker(raw=False, strict_map_key=False, max_buffer_size=0)
    unpacker.feed(frame)
    return list(unpacker)
