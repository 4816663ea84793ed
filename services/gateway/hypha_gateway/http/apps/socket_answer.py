from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

from hypha_common.errors import BadRequest, HyphaError, QuotaExceeded
from hypha_common.trace import trace_id
from hypha_gateway.http.responses import Send
from hypha_gateway.web_apps import Room

from .faults import AppFault, ClientGone
from .headers import app_headers
from .plain import PlainAnswer
from .sending import Sending, in_bytes
from .socket_events import End

__all__ = ["SocketAnswer", "refuse"]

_STALLED_S = 60.0
_OURS = frozenset(
    {
        b"connection", b"content-length", b"sec-websocket-accept", b"sec-websocket-extensions",
        b"sec-websocket-protocol", b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip
_MAY_BE_SENT = (range(1000, 1004), range(1007, 1015), range(3000, 5000))


class SocketAnswer:
    """
    What a service does with one websocket, event by event: it accepts it or does not, sends, closes.

    ``over`` is resolved when the service has closed or denied it, and fails where it breaks the rules.

    """

    def __init__(self, send: Send, *, room: Room, subprotocols: Collection[str], can_explain: bool) -> None:
        self.accepted = asyncio.Event()
        self.denied = False  # with an answer of its own, which has begun
        self.over: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self._send = send
        self._subprotocols = subprotocols
        self._can_explain = can_explain  # the server lets a websocket be denied with an answer
        self._sending = Sending(room)

    async def send(self, event: Any) -> None:
        """
        Take one event from the service; returns when the client can take more.

        Raises AppFault, QuotaExceeded, ClientGone, and BadRequest for what comes after the end.

        """
        try:
            kind = event.get("type") if isinstance(event, dict) else None
            size = len(_payload(event)[1]) if kind == "websocket.send" else len(in_bytes(_of(event, "body")))
            async with self._sending.turn(size):
                if self.over.done():
                    raise BadRequest("The websocket is closed")
                await self._take(str(kind), event)
        except (AppFault, QuotaExceeded, ClientGone) as error:
            self._fail(error)
            raise

    async def close(self, end: End) -> None:
        """Close an accepted websocket from our side."""
        self._finish(end)
        await self._forward({"type": "websocket.close", "code": end.code, "reason": _short(end.reason)})

    def gone(self) -> None:
        """The client has left."""
        self._sending.stop()
        self._fail(ClientGone("The client has left"))

    async def settled(self) -> None:
        """Wait until what has been sent so far has been taken."""
        await self._sending.idle()

    async def _take(self, kind: str, event: Mapping[str, Any]) -> None:
        accepted = self.accepted.is_set()
        if kind == "websocket.accept" and not accepted and not self.denied:
            await self._accept(event)
        elif kind == "websocket.send" and accepted:
            name, value = _payload(event)
            await self._forward({"type": "websocket.send", name: value})
        elif kind == "websocket.close" and not self.denied:
            end = End(_code(event.get("code", 1000)), _short(event.get("reason") or ""))
            self._finish(end)
            await self._forward({"type": "websocket.close", "code": end.code, "reason": end.reason})
        elif kind.startswith("websocket.http.response.") and not accepted:
            await self._deny(kind, event)
        else:
            raise AppFault(f"unexpected event {kind[:64]!r}")

    async def _accept(self, event: Mapping[str, Any]) -> None:
        subprotocol = event.get("subprotocol")
        if subprotocol is not None and subprotocol not in self._subprotocols:
            raise AppFault("the subprotocol is none of those that were offered")
        headers = app_headers(event.get("headers") or [], ours=_OURS)
        message = {"type": "websocket.accept", "subprotocol": subprotocol, "headers": headers}
        await self._forward(message)
        self.accepted.set()

    async def _deny(self, kind: str, event: Mapping[str, Any]) -> None:
        if kind == "websocket.http.response.start" and not self.denied:
            status = event.get("status")
            if isinstance(status, bool) or not isinstance(status, int) or not 200 <= status <= 599:
                raise AppFault(f"invalid status {str(status)[:32]!r}")
            self.denied = True
            headers = app_headers(event.get("headers") or [], ours=_OURS)
            headers.append((b"connection", b"close"))
            await self._explain({"type": kind, "status": status, "headers": headers})
        elif kind == "websocket.http.response.body" and self.denied:
            more = bool(event.get("more_body", False))
            await self._explain({"type": kind, "body": in_bytes(event.get("body")), "more_body": more})
            if not more:
                self._finish(End(1000))
        else:
            raise AppFault(f"unexpected event {kind[:64]!r}")

    async def _explain(self, message: dict[str, Any]) -> None:
        if self._can_explain:
            await self._forward(message)
        elif message["type"] == "websocket.http.response.start":
            await self._forward({"type": "websocket.close", "code": 1000, "reason": ""})

    async def _forward(self, message: dict[str, Any]) -> None:
        try:
            async with asyncio.timeout(_STALLED_S):
                await self._send(message)
        except (OSError, RuntimeError, TimeoutError):  # servers raise what they like when the client has gone
            raise ClientGone("The client does not read") from None

    def _finish(self, end: End) -> None:
        if not self.over.done():
            self.over.set_result(end)

    def _fail(self, error: HyphaError) -> None:
        if not self.over.done():
            self.over.set_exception(error)
            self.over.exception()  # not everybody asks


async def refuse(send: Send, answer: PlainAnswer, *, can_explain: bool) -> None:
    """Deny a websocket that no service has been asked for; a server that cannot tell why answers 403."""
    if not can_explain:
        await send({"type": "websocket.close", "code": 1000, "reason": ""})
        return
    headers = [*answer.headers, (b"connection", b"close"), (b"x-request-id", trace_id().encode())]
    await send({"type": "websocket.http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": answer.body})


def _payload(event: Mapping[str, Any]) -> tuple[str, str | bytes]:
    """Return (``text`` or ``bytes``, the value) of what is to be sent. Raises AppFault."""
    data, text = event.get("bytes"), event.get("text")
    if isinstance(data, (bytes, memoryview)):
        return "bytes", bytes(data)
    if data is None and isinstance(text, str):
        return "text", text.encode(errors="replace").decode()  # half a surrogate pair has no UTF-8
    raise AppFault("a message must have text or bytes")


def _of(event: Any, name: str) -> Any:
    return event.get(name) if isinstance(event, dict) else None


def _code(code: Any) -> int:
    if isinstance(code, bool) or not isinstance(code, int) or not any(code in known for known in _MAY_BE_SENT):
        raise AppFault(f"invalid close code {str(code)[:32]!r}")
    return code


def _short(reason: Any) -> str:
    """Return a reason that fits into a close frame."""
    return str(reason).encode(errors="replace")[:123].decode("utf-8", "ignore")
