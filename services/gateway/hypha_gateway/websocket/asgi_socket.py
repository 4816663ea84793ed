from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

from hypercorn.asyncio.task_group import _handle
from hypercorn.protocol.events import Body, Data, EndBody, Event, Request, Response, StreamClosed
from hypercorn.protocol.ws_stream import Handshake
from hypercorn.utils import build_and_validate_headers
from websockets.utils import accept_key

from .asgi_inbox import AsgiInbox
from .asgi_writer import FrameWriter
from .events import GONE_AFTER_S, PROBE_AFTER_S
from .frames import FrameReader, Opcode, ProtocolError, close_payload

__all__ = ["MAX_MESSAGE", "AsgiSocket"]

MAX_MESSAGE = "hypha.max_message_bytes"  # key of the connection's state
_ABORT = "hypha.abort"
_CLOSE_TIMEOUT_S = 3.0
_TICK_S = 10.0


class AsgiSocket:
    """
    A websocket that an ASGI application answers, in the place of hypercorn's own ``WSStream`` (ADR 0029).

    Frames are ours: a message is refused before it is stored, nothing is compressed, peers that are gone or do not
    read are noticed. While the application does not take messages the socket is not read.

    """

    def __init__(
        self,
        app: Any,
        config: Any,
        context: Any,
        task_group: Any,
        ssl: bool,
        client: tuple[str, int] | None,
        server: tuple[str, int] | None,
        send: Callable[[Event], Awaitable[None]],
        stream_id: int,
    ) -> None:
        self._app = app
        self._config = config
        self._task_group = task_group
        self._scheme = "wss" if ssl else "ws"
        self._client = client
        self._server = server
        self._send_event = send
        self._stream_id = stream_id
        self._state = _HANDSHAKE
        self._key = ""
        self._reader = FrameReader(max_bytes=0)
        self._abort: Callable[[], None] = _nothing
        self._inbox = AsgiInbox()
        self._writer = FrameWriter(send, stream_id, lambda: self._abort())
        self._peer_closed = asyncio.Event()
        self._ended = False  # the connection has
        self._discarding = False
        self._last_heard = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None
        self._pinging: asyncio.Task[None] | None = None
        self._refusal: dict[str, Any] = {}

    # What hypercorn calls.

    async def handle(self, event: Event) -> None:
        if self._ended:
            return
        if isinstance(event, Request):
            await self._begin(event)
        elif isinstance(event, (Body, Data)):
            self._last_heard = time.monotonic()
            if self._state is _HANDSHAKE:
                await self._answer_empty(400)
                await self._send_event(StreamClosed(stream_id=self._stream_id))
            elif not self._discarding:
                await self._feed(event.data)
        elif isinstance(event, StreamClosed):
            self._end(1006)

    async def _begin(self, request: Request) -> None:
        handshake = Handshake(request.headers, request.http_version)
        path, _, query = request.raw_path.partition(b"?")
        if request.http_version != "1.1" or not handshake.is_valid() or handshake.key is None:
            await self._answer_empty(400)
            await self._send_event(StreamClosed(stream_id=self._stream_id))
            return
        state: dict[str, Any] = request.state.copy()
        self._key = handshake.key.decode("latin-1")
        self._abort = state.get(_ABORT, _nothing)
        self._reader.max_bytes = state.get(MAX_MESSAGE, 0)
        scope = {
            "type": "websocket",
            "asgi": {"spec_version": "2.3", "version": "3.0"},
            "scheme": self._scheme,
            "http_version": request.http_version,
            "path": unquote(path.decode("ascii")),
            "raw_path": path,
            "query_string": query,
            "root_path": self._config.root_path,
            "headers": request.headers,
            "client": self._client,
            "server": self._server,
            "state": state,
            "subprotocols": handshake.subprotocols or [],
            "extensions": {"websocket.http.response": {}},
        }
        self._inbox.put({"type": "websocket.connect"})
        self._task_group.spawn(_handle, self._app, self._config, scope, self._inbox.get, self._send, None, None)

    async def _feed(self, data: bytes) -> None:
        """Take bytes in; returns when there is room for more."""
        try:
            received = list(self._reader.feed(data))  # at once: all sockets share the buffer
        except ProtocolError as error:
            await self._fail(error)
            return
        for opcode, payload in received:
            if opcode is Opcode.CLOSE:
                await self._closed_by_peer(payload)
                return
            if opcode is Opcode.PING:
                if not self._writer.is_busy:  # whoever does not read needs no more answers
                    await self._writer.frame(Opcode.PONG, payload)
            elif self._state is _CONNECTED and opcode in (Opcode.TEXT, Opcode.BINARY):
                try:
                    await self._take(opcode, payload)
                except UnicodeDecodeError:
                    await self._fail(ProtocolError(1007, "Text is not UTF-8"))
                    return

    async def _take(self, opcode: Opcode, payload: bytes) -> None:
        value = {"text": payload.decode()} if opcode is Opcode.TEXT else {"bytes": payload}
        self._inbox.put({"type": "websocket.receive", **value}, len(payload))
        await self._inbox.room()

    async def _closed_by_peer(self, payload: bytes) -> None:
        self._peer_closed.set()
        self._discarding = True
        if self._state is _CONNECTED:
            code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005
            await self._writer.frame(Opcode.CLOSE, payload[:2])
            self._state = _CLOSED
            self._put_end(code, payload[2:].decode("utf-8", "replace"))
        await self._send_event(StreamClosed(stream_id=self._stream_id))

    async def _fail(self, error: ProtocolError) -> None:
        """Tell the peer why; what it still sends until it reads that is neither parsed nor kept."""
        self._discarding = True
        self._reader = FrameReader(max_bytes=0)
        if self._state is _CONNECTED:
            self._state = _CLOSED
            await self._writer.frame(Opcode.CLOSE, close_payload(error.code, error.reason))
            self._put_end(error.code, error.reason)
            asyncio.get_running_loop().call_later(_CLOSE_TIMEOUT_S, self._abort)

    # What the application calls.

    async def _send(self, message: Mapping[str, Any] | None) -> None:
        if message is None:
            await self._finish()
            return
        if self._ended:
            return
        kind = message["type"]
        if kind == "websocket.accept" and self._state is _HANDSHAKE:
            await self._accept(message)
        elif kind == "websocket.send" and self._state is _CONNECTED:
            await self._writer.message(message)
        elif kind == "websocket.close" and self._state is _HANDSHAKE:
            await self._answer_empty(403)
        elif kind == "websocket.close" and self._state is _CONNECTED:
            self._state = _CLOSED
            payload = close_payload(int(message.get("code") or 1000), str(message.get("reason") or ""))
            await self._writer.frame(Opcode.CLOSE, payload)
        elif kind == "websocket.http.response.start" and self._state is _HANDSHAKE:
            self._refusal = dict(message)
        elif kind == "websocket.http.response.body" and self._refusal:
            await self._refuse(message)

    async def _finish(self) -> None:
        """The application has come to its end."""
        self._inbox.clear()
        if self._state is _HANDSHAKE:
            await self._answer_empty(500)
        elif self._state is _CONNECTED:
            self._state = _CLOSED
            await self._writer.frame(Opcode.CLOSE, close_payload(1011, ""))
        if self._key and self._state is _CLOSED and not self._ended:
            with suppress(TimeoutError):  # closing at once might take the last words from the peer
                async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                    await self._peer_closed.wait()
        if not self._ended:
            await self._send_event(StreamClosed(stream_id=self._stream_id))

    async def _accept(self, message: Mapping[str, Any]) -> None:
        headers = [
            (b"upgrade", b"websocket"),
            (b"connection", b"Upgrade"),
            (b"sec-websocket-accept", accept_key(self._key).encode()),
        ]
        if message.get("subprotocol"):
            headers.append((b"sec-websocket-protocol", message["subprotocol"].encode("latin-1")))
        headers += build_and_validate_headers(message.get("headers") or ())
        self._state = _CONNECTED
        await self._send_event(Response(stream_id=self._stream_id, status_code=101, headers=headers))
        self._timer = asyncio.get_running_loop().call_later(_TICK_S, self._tick)

    async def _refuse(self, message: Mapping[str, Any]) -> None:
        if self._state is _HANDSHAKE:
            self._state = _REFUSING
            headers = build_and_validate_headers(self._refusal.get("headers") or ())
            status = int(self._refusal["status"])
            await self._send_event(Response(stream_id=self._stream_id, status_code=status, headers=headers))
        if body := bytes(message.get("body") or b""):
            await self._send_event(Body(stream_id=self._stream_id, data=body))
        if not message.get("more_body", False):
            self._refusal = {}
            self._key = ""
            self._state = _CLOSED
            await self._send_event(EndBody(stream_id=self._stream_id))

    async def _answer_empty(self, status: int) -> None:
        self._state, self._key = _CLOSED, ""
        headers = [(b"content-length", b"0"), (b"connection", b"close")]
        await self._send_event(Response(stream_id=self._stream_id, status_code=status, headers=headers))
        await self._send_event(EndBody(stream_id=self._stream_id))

    def _put_end(self, code: int, reason: str) -> None:
        self._inbox.put({"type": "websocket.disconnect", "code": code, "reason": reason})

    def _end(self, code: int) -> None:
        """The connection has ended."""
        if self._ended:
            return
        self._ended = True
        self._peer_closed.set()
        self._inbox.close()
        if self._timer is not None:
            self._timer.cancel()
        self._put_end(code, "")

    def _tick(self) -> None:
        """Ask a silent peer for a sign of life, and end it where none comes."""
        self._timer = asyncio.get_running_loop().call_later(_TICK_S, self._tick)
        silent_s = time.monotonic() - self._last_heard
        if self._inbox.is_full:
            self._last_heard = time.monotonic()  # we do not read what it sends
        elif silent_s > GONE_AFTER_S:
            self._abort()
        elif silent_s > PROBE_AFTER_S and not self._writer.is_busy:
            self._pinging = asyncio.get_running_loop().create_task(self._writer.frame(Opcode.PING, b""))


_HANDSHAKE, _CONNECTED, _REFUSING, _CLOSED = "handshake", "connected", "refusing", "closed"


def _nothing() -> None:
    pass
