from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog

from hypha_common.admission import Admission
from hypha_common.errors import HyphaError
from hypha_common.faults import note_fault

from . import metrics
from .connection import Connection
from .link import Link

if TYPE_CHECKING:
    from .gateway import Gateway

__all__ = ["Session"]

log = structlog.get_logger(__name__)


class Session:
    """
    One client's presence on one link: while it is being let in, and as a :class:`Connection` after that.

    What all transports share; how a client knocks and sends is up to each.

    """

    transport = ""  # as connections are counted

    def __init__(self, link: Link, gateway: Gateway) -> None:
        self.link = link
        self.ended = False
        self._moved = False  # its client was told to come back elsewhere, and what comes for it is kept
        self._gateway = gateway
        self._connection: Connection | None = None
        self.admission: Admission | None = None  # who it is, once that is found out
        self._origins: tuple[str, ...] = ()
        self._credentials: set[str] = set()  # ids of the tokens that it stands on
        metrics.CONNECTIONS.labels(self.transport).inc()
        gateway.sessions.add(self)

    def opened(self, connection: Connection, admission: Admission) -> None:
        """The handshake is done."""
        self._connection = connection
        self._origins = admission.origins
        self._credentials = {*admission.origins, admission.token_id} - {""}
        self._gateway.credentials.add(self, self._credentials)
        self.link.set_max_message(self._gateway.settings.max_message_bytes)

    def note_refusal(self, **details: Any) -> None:
        """Write down why the client was not let in, and who it is as far as that is known."""
        who = self.admission
        known = {} if who is None else {"workspace": who.workspace, "client": who.client_id, "user": who.principal.id}
        note_fault("client_refused", transport=self.transport, address=self.link.remote, **known, **details)

    def leave(self, code: int, reason: str) -> None:
        """Close, whatever state the session is in."""
        self.link.close(code, reason)

    def hold(self) -> Connection | None:
        """Keep what comes for the client from now on: it is about to be sent elsewhere. None: that cannot be."""
        return None

    # What the link tells.

    def on_full(self) -> None:
        if self._connection is not None and not self.ended:
            self._connection.on_full()

    def on_drained(self) -> None:
        if self._connection is not None:
            self._connection.on_drained()

    def on_closing(self, code: int) -> None:
        # At once: what would reach this link now is lost without anybody being told.
        self._release(code)

    def on_closed(self, code: int) -> None:
        self._gateway.sessions.discard(self)
        metrics.CONNECTIONS.labels(self.transport).dec()
        self._release(code)

    def _release(self, code: int) -> None:
        if self.ended:
            return
        self.ended = True
        self._gateway.credentials.remove(self, self._credentials)
        if self._connection is not None and not self._moved:
            log.info("client_gone", client=str(self._connection.address), code=code)
            self._gateway.release(self._connection, f"{self.transport} closed: {code}")

    def control(self, connection: Connection, message: Any) -> None:
        """Answer a control message (contract 01 §1.6); what is not understood is ignored."""
        kind = message.get("type") if isinstance(message, dict) else None
        if connection.full_since is not None:
            return  # whoever does not read needs no more answers
        if kind == "ping":
            self.link.send_control({"type": "pong"})
        elif kind == "refresh_token":
            self._refresh_token(connection)

    def _refresh_token(self, connection: Connection) -> None:
        try:
            token = self._gateway.handshake.reconnection_token(connection, self._origins)
        except HyphaError as error:
            connection.end(1008, f"Authentication error: {error}")
            return
        self.link.send_control({"type": "reconnection_token", "reconnection_token": token})
