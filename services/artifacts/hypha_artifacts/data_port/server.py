from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from hypha_common.errors import ConfigurationError, HyphaError, NotFound, Unavailable

from .tickets import Tickets

if TYPE_CHECKING:
    from aiohttp.web import BaseRequest, Response, ServerRunner, StreamResponse

    from hypha_common.settings import Settings

__all__ = ["Body", "DataPort"]

log = structlog.get_logger(__name__)

_ANY_ADDRESS = ("", "0.0.0.0", "::")  # noqa: S104  # looked for, not listened at
_MAX_STREAMS = 64
_MAX_HEAD_BYTES = 256 * 1024  # a ticket may name many files
_KEEP_ALIVE_S = 75.0
_WRITE_TIMEOUT_S = 600.0  # the gateway cuts slow readers off earlier


@dataclass(frozen=True, slots=True)
class Body:
    """Bytes that are made while they are sent. ``sent`` is called when all of them have been."""

    length: int
    chunks: AsyncGenerator[bytes, None]
    content_type: str = "application/octet-stream"
    sent: Callable[[], None] = lambda: None


Maker = Callable[[dict[str, Any]], Awaitable[Body]]


class DataPort:
    """
    Where gateways fetch bytes that have to be made: archives, and members of archives (ADR 0020).

    It answers tickets (:class:`Tickets`) and nothing else. A reader that goes away ends the making; what fails midway
    cuts the connection, so that nobody takes half an archive for a whole one.

    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tickets = Tickets(settings)
        self._makers: dict[str, Maker] = {}
        self._runner: ServerRunner | None = None
        self._url = ""
        self._streams = 0

    def add(self, kind: str, maker: Maker) -> None:
        """Add what makes the bytes of one kind of ticket."""
        self._makers[kind] = maker

    def address(self, kind: str, order: dict[str, Any]) -> str:
        """Return where a gateway gets what ``order`` says, within a minute."""
        return f"{self._url}/{kind}?ticket={self._tickets.seal(kind, order)}"

    async def start(self) -> None:
        """Listen. Raises ConfigurationError where that cannot be, or nobody would find it."""
        from aiohttp import web

        host, port = self._settings.artifacts_host, self._settings.artifacts_port
        if host in _ANY_ADDRESS and not self._settings.artifacts_url:
            raise ConfigurationError(
                f"With artifacts_host={host}, artifacts_url must say how gateways reach this process"
            )
        server = web.Server(
            self._answer, handler_cancellation=True, access_log=None, keepalive_timeout=_KEEP_ALIVE_S,
            max_line_size=_MAX_HEAD_BYTES,
        )  # fmt: skip
        self._runner = web.ServerRunner(server, shutdown_timeout=self._settings.drain_window)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port, backlog=1024).start()
        except OSError as error:
            raise ConfigurationError(f"Port {port} at {host} cannot be used: {error.strerror}") from error
        port = self._runner.addresses[0][1]
        shown = f"[{host}]" if ":" in host else host
        self._url = self._settings.artifacts_url.rstrip("/") or f"http://{shown}:{port}"
        log.info("data_port_listening", url=self._url)

    async def close(self) -> None:
        """Stop listening, let streams end within the drain window, and cut those that remain."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _answer(self, request: BaseRequest) -> StreamResponse:
        if self._streams >= _MAX_STREAMS:
            return _refusal(Unavailable("Too many archives are being made; try again soon"))
        self._streams += 1
        try:
            return await self._serve(request)
        finally:
            self._streams -= 1

    async def _serve(self, request: BaseRequest) -> StreamResponse:
        kind = request.path.removeprefix("/")
        maker = self._makers.get(kind)
        try:
            if maker is None or request.method not in ("GET", "HEAD"):
                raise NotFound("Not found")
            body = await maker(self._tickets.open(kind, request.query.get("ticket", "")))
        except HyphaError as error:
            return _refusal(error)
        return await _send(request, body)


async def _send(request: BaseRequest, body: Body) -> StreamResponse:
    from aiohttp import web

    response = web.StreamResponse(headers={"Content-Type": body.content_type, "Content-Length": str(body.length)})
    sent = 0
    async with aclosing(body.chunks) as chunks:
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        try:
            async for chunk in chunks:
                async with asyncio.timeout(_WRITE_TIMEOUT_S):
                    await response.write(chunk)
                sent += len(chunk)
            if sent != body.length:
                raise Unavailable(f"{sent} bytes were made in place of {body.length}")
        except (HyphaError, TimeoutError) as error:
            log.warning("stream_cut", path=request.path, sent=sent, length=body.length, error=str(error))
            if request.transport is not None:
                request.transport.abort()
            return response
    await response.write_eof()
    body.sent()
    return response


def _refusal(error: HyphaError) -> Response:
    from aiohttp import web

    content = json.dumps({"detail": error.message}).encode()
    return web.Response(status=error.status, body=content, content_type="application/json")
