from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import structlog

from hypha_common.trace import new, trace_id
from hypha_gateway import metrics
from hypha_gateway.link import Link
from hypha_gateway.session import Session

if TYPE_CHECKING:
    from hypha_gateway.connection import Connection
    from hypha_gateway.gateway import Gateway

__all__ = ["UPGRADE_CLIENT", "WebsocketSession"]

log = structlog.get_logger(__name__)

_FIRST_MESSAGE_S = 5.0
_MAX_CONTROL_CHARACTERS = 1000
_MAX_EARLY_BYTES = 64 * 1024  # of a client that has not been let in yet
_FRAME_BYTES = 100  # what keeping one takes, were it empty

UPGRADE_CLIENT = (
    "Connection rejected, please  upgrade to `hypha-rpc` which pass the authentication information in the first message"
)


class WebsocketSession(Session):
    """One websocket from accept to end."""

    transport = "websocket"

    def __init__(self, link: Link, gateway: Gateway) -> None:
        super().__init__(link, gateway)
        self._handshake: asyncio.Task[None] | None = None
        self._early: list[bytes] = []
        self._early_bytes = 0
        self._timer = asyncio.get_running_loop().call_later(_FIRST_MESSAGE_S, self._too_late)

    def refuse(self, code: int, reason: str, *, tell: bool = True) -> None:
        """Turn the client away; ``tell`` sends the reason as an error message first, which clients take as final."""
        if self.ended:
            return
        self._timer.cancel()
        metrics.REFUSED.labels(str(code)).inc()
        # A close frame has no room for an id besides the reason, and clients match on that.
        error_id = trace_id() or trace_id(new())
        self.note_refusal(code=code, reason=reason, trace_id=error_id)
        if tell:
            self.link.send_control({"type": "error", "message": reason, "error_id": error_id})
        self.link.close(code, reason)

    def leave(self, code: int, reason: str) -> None:
        self._timer.cancel()
        self._moved = self._connection is not None and self._connection.moving and not self.ended
        self.link.close(code, reason, hear_out=self._moved)

    def hold(self) -> Connection | None:
        if self._connection is None or self.ended:
            return None
        self._connection.hold()
        return self._connection

    def catch_up(self) -> None:
        """Take what the client sent before it was told that it is in: hypha-rpc does while it connects again."""
        early, self._early = self._early, []
        for data in early:
            self.on_binary(data)

    def _come_early(self, data: bytes) -> None:
        self._early_bytes += len(data) + _FRAME_BYTES
        if self._early_bytes <= _MAX_EARLY_BYTES:
            self._early.append(data)
        else:
            self.refuse(1013, "Too much was sent before the connection was established, please retry", tell=False)

    # What the link tells.

    def on_closing(self, code: int) -> None:
        if not self._moved:
            super().on_closing(code)

    def on_text(self, text: str) -> None:
        if self._connection is not None:
            self._connection.touch()
            if len(text) <= _MAX_CONTROL_CHARACTERS:
                try:
                    self.control(self._connection, json.loads(text))
                except (ValueError, RecursionError):
                    return
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
        else:
            self._come_early(data)

    def on_closed(self, code: int) -> None:
        self._timer.cancel()
        super().on_closed(code)

    def _too_late(self) -> None:
        self.refuse(1008, "Authentication payload timeout")
