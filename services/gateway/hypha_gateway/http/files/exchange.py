from __future__ import annotations

from hypha_common.errors import HyphaError
from hypha_common.plans import Headers
from hypha_gateway.http.responses import Receive, Scope, Send, discard

from .body import RequestBody
from .failures import ErrorForm, error_headers
from .upstream import IDLE_S

__all__ = ["AS_IT_IS", "Exchange"]

AS_IT_IS = "hypha.as_it_is"  # key of a request's scope: its answer is not to be compressed


class CutError(ConnectionError):
    """An answer cannot be brought to its end."""


class Exchange:
    """One HTTP request for files, and what is answered."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, errors: ErrorForm) -> None:
        self.scope = scope
        self.method: str = scope["method"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.receive = receive
        self.body = RequestBody(receive, self.headers, idle_s=IDLE_S)
        self.started = False
        self._send = send
        self._errors = errors

    async def begin(self, status: int, headers: Headers, *, as_it_is: bool) -> None:
        """Send the head of an answer. ``as_it_is``: its body is not compressed on its way."""
        self.scope[AS_IT_IS] = as_it_is
        self.started = True
        encoded = [(name.encode("latin-1"), _header_value(value)) for name, value in headers]
        if self.body.is_pending:
            encoded.append((b"connection", b"close"))
        await self._send({"type": "http.response.start", "status": status, "headers": encoded})

    async def send_piece(self, piece: bytes) -> None:
        await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b""})

    async def send_whole(self, status: int, headers: Headers, body: bytes, *, as_it_is: bool = False) -> None:
        """Send an answer. What has not been read of the request is read meanwhile, so that its sender sees it."""
        await self.begin(status, headers, as_it_is=as_it_is)
        if self.body.is_pending:
            await self.send_piece(body)
            await discard(self.receive)
            await self.end()
        else:
            await self._send({"type": "http.response.body", "body": body})

    async def fail(self, error: HyphaError) -> None:
        """Answer with an error, in the form of the route."""
        content_type, body = self._errors(error)
        headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode()), *error_headers(error)]
        await self.send_whole(error.status, [(name.decode(), value.decode("latin-1")) for name, value in headers], body)

    async def client_gone(self) -> None:
        """Wait until whoever made the request leaves."""
        while (await self.receive())["type"] != "http.disconnect":
            pass

    def cut(self) -> None:
        """End the connection without ending the answer."""
        abort = self.scope.get("state", {}).get("hypha.abort")
        if abort is None:  # another server: it ends a connection whose answer is broken off by an error
            raise CutError("The answer was cut short")
        abort()


def _header_value(value: str) -> bytes:
    """Header values may hold bytes beyond ASCII; control characters would begin another header."""
    return "".join(" " if (ord(c) < 32 and c != "\t") or ord(c) == 127 else c for c in value).encode("utf-8")
