from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import structlog

from .failures import StoreAway

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

__all__ = ["IDLE_S", "Upstream"]

log = structlog.get_logger(__name__)

IDLE_S = 60.0  # without a byte, until either side of a transfer is given up
_CONNECT_S = 3.0
_WAIT_FOR_CONNECTION_S = 30.0
_CONNECTIONS = 1000
_KEEP_S = 5.0  # less than stores keep theirs: what meets a closing connection is lost
_READ_BUFFER_BYTES = 256 * 1024
# What the client library would add by itself.
_NOT_OURS = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class Upstream:
    """
    Connections to where files are: the store, and archives at the artifacts service.

    The client library is loaded and its session made at the first request: an idle gateway stays as small as it is.

    """

    def __init__(self) -> None:
        self._session: ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def request(
        self, method: str, url: str, headers: Iterable[tuple[str, str]], body: Any = None
    ) -> AsyncIterator[ClientResponse]:
        """
        Send a request as it is, and yield the answer. What is not read of it ends with its connection.

        Raises StoreAway where there is no connection or no answer.

        """
        from aiohttp import ClientError
        from yarl import URL

        try:
            answer = await self._made().request(
                method, URL(url, encoded=True), headers=list(headers), data=body, allow_redirects=False
            )
        except (ClientError, OSError, TimeoutError) as error:
            log.warning("store_away", method=method, error=type(error).__name__)  # its text may hold the address
            raise StoreAway from None
        async with answer:
            yield answer

    def _made(self) -> ClientSession:
        if self._session is None:
            import aiohttp

            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_CONNECTIONS, keepalive_timeout=_KEEP_S),
                timeout=aiohttp.ClientTimeout(
                    total=None, connect=_WAIT_FOR_CONNECTION_S, sock_connect=_CONNECT_S, sock_read=IDLE_S
                ),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=_NOT_OURS,
                read_bufsize=_READ_BUFFER_BYTES,
            )
        return self._session
