from __future__ import annotations

from typing import Protocol

from hypha_gateway.link import LinkEvents

__all__ = ["GONE_AFTER_S", "PROBE_AFTER_S", "WebsocketEvents"]

PROBE_AFTER_S = 40.0  # clients send something every 20 to 30 s; a silent one is asked by a websocket ping
GONE_AFTER_S = 60.0


class WebsocketEvents(LinkEvents, Protocol):
    """What a websocket tells its session."""

    def on_text(self, text: str) -> None: ...

    def on_binary(self, data: bytes) -> None: ...
