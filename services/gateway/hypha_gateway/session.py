from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import structlog

from hypha_common.errors import HyphaError

from . import metrics
from .connection import Connection
from .websocket.link import Link

if TYPE_CHECKING:
    from .gateway import Gateway

__all__ = ["Session"]

log = structlog.get_logger(__name__)

_FIRST_MESSAGE_S = 5.0
_MAX_CONTROL_CHARACTERS = 1000

UPGRADE_CLIENT = (
    "Connection rejected, please  upgrade to `hypha-rpc` which pass the authentication information in the first message"
)


class Session:
    """
    One websocket from accept to end: before the handshake, during it, and as a :class:`Connection` after it.

    """

    def __init__(self, link: Link, gateway: Gateway) -> None:
        self.link = link
        self.ended = False
        self._gateway = gateway
        self._connection: Connection | None = None
        self._origin = ""
        self._handshake: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(_FIRST_MESSAGE_S, self._too_late)
        metrics.CONNECTIONS.labels("websocket").inc()
        gateway.sessions.add(self)

    def refuse(self, code: int, reason: str, *, tell: bool = True) -> None:
        """Turn the client away; ``tell`` sends the reason as an error message first, which clients take as final."""
        if self.ended:
            return
        self._timer.cancel()
        metrics.REFUSED.labels(str(code)).inc()
        if tell:
            self.link.send_text(json.dumps({"type": "error", "message": reason}))
        self.link.close(code, reason)

    def opened(self, connection: Connection, origin: str) -> None:
        """The handshake is done."""
        self._connection = connection
        self._origin = origin
        self.link.set_max_message(self._gateway.settings.max_message_bytes)

    def leave(self, code: int, reason: str) -> None:
        """Close, whatever state the session is in."""
        self._timer.cancel()
        self.link.close(code, reason)

    # What the link tells.

    def on_text(self, text: str) -> None:
        if self._connection is not None:
            self._control(self._connection, text)
        elif self._handshake is None:
            self._timer.cancel()
            self._handshake = asyncio.create_task(self._gateway.handshake.run(self, text))

    def on_binary(self, data: bytes) -> None:
        if self._connection is not None:
            try:
                self._connection.receive(data)
            except Exception:  # the edge of a frame: an error of ours must not end the event loop's callback
                log.exception("frame_failed", client=str(self._connection.address))
        elif self._handshake is None:
            self._timer.cancel()
            self.refuse(1003, "Failed to decode authentication information")

    def on_full(self) -> None:
        if self._connection is not None and not self.ended:
            self._connection.on_full()

    def on_drained(self) -> None:
        if self._connection is not None:
            self._connection.on_drained()

    def on_closing(self, code: int) -> None:
        # At once: what would reach this socket now is lost without anybody being told.
        self._release(code)

    def on_closed(self, code: int) -> None:
        self._timer.cancel()
        self._gateway.sessions.discard(self)
        metrics.CONNECTIONS.labels("websocket").dec()
        self._release(code)

    def _release(self, code: int) -> None:
        if self.ended:
            return
        self.ended = True
        if self._connection is not None:
            log.info("client_gone", client=str(self._connection.address), code=code)
            self._gateway.release(self._connection, f"websocket closed: {code}")

    def _control(self, connection: Connection, text: str) -> None:
        """Answer a text message (contract 01 §1.6); what is not understood is ignored."""
        connection.touch()
        if len(text) > _MAX_CONTROL_CHARACTERS or connection.full_since is not None:
            return  # the latter: whoever does not read needs no more answers
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            return
        kind = message.get("type") if isinstance(message, dict) else None
        if kind == "ping":
            self.link.send_text('{"type":"pong"}')
        elif kind == "refresh_token":
            self._refresh_token(connection)

    def _refresh_token(self, connection: Connection) -> None:
        try:
            token = self._gateway.handshake.reconnection_token(connection, self._origin)
        except HyphaError as error:
            connection.end(1008, f"Authentication error: {error}")
            return
        self.link.send_text(json.dumps({"type": "reconnection_token", "reconnection_token": token}))

    def _too_late(self) -> None:
        self.refuse(1008, "Authentication payload timeout")
