from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from hypha_common.admission import Admission
from hypha_common.ids import HTTP_CLIENT_PREFIX, new_id
from hypha_common.wire import pack_frame
from hypha_gateway.connection import Connection
from hypha_gateway.http.caller import ANONYMOUS
from hypha_gateway.session import Session

from .inbox import Inbox
from .proof import StreamKey
from .stream_link import StreamLink

if TYPE_CHECKING:
    from hypha_gateway.gateway import Gateway

__all__ = ["StreamSession"]


class StreamSession(Session):
    """One HTTP stream from its GET to its end."""

    transport = "http"

    def __init__(self, link: StreamLink, gateway: Gateway, key: StreamKey) -> None:
        super().__init__(link, gateway)
        link.events = self
        self._stream = link
        self._key = key

    def opened(self, connection: Connection, admission: Admission) -> None:
        super().opened(connection, admission)
        connection.inbox = Inbox(
            session=self,
            connection=connection,
            link=self._stream,
            key=self._key,
            max_bytes=self._gateway.settings.max_queue_bytes,
        )
        self._stream.probe = partial(_probe, connection, self._gateway.bus.instance)


def _probe(connection: Connection, instance: str) -> bytes:
    """
    Return a call of the client's own ``ping``.

    Nobody waits for the answer: that a POST comes shows that the client is there, and where it is routed to (an id of
    this gateway for calls of HTTP) nobody expects it.

    """
    client = connection.address
    connection.asked = 1
    sender = f"{client.workspace}/{HTTP_CLIENT_PREFIX}{instance}"
    session = new_id(8)
    ends = {
        name: {"_rtype": "method", "_rtarget": sender, "_rmethod": f"{session}.{name}", "_rpromise": False}
        for name in ("resolve", "reject")
    }
    header = {
        "type": "method",
        "from": sender,
        "to": str(client),
        "ws": client.workspace,
        "user": ANONYMOUS.dump(),
        "method": "services.built-in.ping",
        "session": session,
    }
    return pack_frame(header, {"args": ["ping"], "promise": ends})
