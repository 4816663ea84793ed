from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from hypha_common.errors import NotFound, Unavailable
from hypha_common.wire import split_frame

from .proof import Proof, StreamKey
from .stream_link import StreamLink

if TYPE_CHECKING:
    from hypha_gateway.connection import Connection
    from hypha_gateway.session import Session

__all__ = ["Inbox"]

_TURN_S = 20.0  # clients wait for 30 s
_CONTROL = frozenset({"ping", "refresh_token"})


class Inbox:
    """What the client of a stream sends: one POST after another, in the order in which they came in."""

    def __init__(
        self, *, session: Session, connection: Connection, link: StreamLink, key: StreamKey, max_bytes: int
    ) -> None:
        self._session = session
        self._connection = connection
        self._link = link
        self._key = key
        self._max_bytes = max_bytes
        self._waiting_bytes = 0
        self._line = asyncio.Lock()

    async def take(self, proof: Proof, body: bytes) -> None:
        """
        Take a frame or control message; when this returns, it is on its way.

        Raises PermissionDenied for a stranger, BadRequest for what is no frame, QuotaExceeded where they come too
        fast, Unavailable where they cannot be passed on, NotFound once the stream has ended.

        """
        connection = self._connection
        self._key.check(proof, connection.address, connection.principal.id)
        self._check_open()
        self._link.heard()
        connection.touch()
        header, offset = split_frame(body)
        if offset == len(body) and "to" not in header and header.get("type") in _CONTROL:
            self._session.control(connection, header)
        elif self._line.locked() or not self._link.reading.is_set():
            await self._wait(body)
        else:
            connection.submit(body)

    async def _wait(self, body: bytes) -> None:
        """Submit a frame when the connection takes one again; HTTP's way of not reading."""
        if self._waiting_bytes + len(body) > self._max_bytes:
            raise Unavailable("Too much is waiting to be passed on, please retry")
        self._waiting_bytes += len(body)
        try:
            async with asyncio.timeout(_TURN_S), self._line:
                await self._link.reading.wait()
                self._check_open()
                self._connection.submit(body)
        except TimeoutError:
            raise Unavailable("The receiver does not take what it is sent, please retry") from None
        finally:
            self._waiting_bytes -= len(body)

    def _check_open(self) -> None:
        if self._session.ended or self._connection.closed:
            raise NotFound(f"The stream of {self._connection.address} has ended")
