from __future__ import annotations

import json
import secrets
from typing import Any, Self
from urllib.parse import urlsplit

from picows import WSMsgType

from .raw_connection import RawConnection

__all__ = ["Peer", "websocket_url"]


def websocket_url(server_url: str) -> str:
    parts = urlsplit(server_url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    return f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}/ws"


class Peer(RawConnection):
    """An anonymous connection to a hub that speaks only the handshake."""

    def __init__(self) -> None:
        super().__init__()
        self.client_id = f"bench-{secrets.token_hex(6)}"

    @classmethod
    async def connect(cls, server_url: str, *, timeout_s: float = 30, read_buffer: int = 16 * 1024) -> Self:
        return await cls.open(websocket_url(server_url), timeout_s=timeout_s, read_buffer=read_buffer)

    @property
    def connection_info(self) -> dict[str, Any]:
        return self._welcome.result()

    @property
    def workspace(self) -> str:
        return str(self.connection_info["workspace"])

    @property
    def address(self) -> str:
        return f"{self.workspace}/{self.client_id}"

    def _greet(self) -> None:
        hello = {"client_id": self.client_id, "workspace": None, "token": None, "reconnection_token": None}
        self._transport.send(WSMsgType.TEXT, json.dumps(hello).encode())

    def _on_text(self, text: str) -> None:
        if self._welcome.done():
            return
        message = json.loads(text)
        if message.get("type") == "connection_info":
            self._welcome.set_result(message)
        else:
            self._welcome.set_exception(ConnectionError(f"refused: {message.get('message')}"))
