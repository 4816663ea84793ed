from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import structlog

from hypha_common import trace
from hypha_common.admission import Admission, ConnectRequest, admit, refusal
from hypha_common.errors import DeadlineExceeded, HyphaError, Unavailable
from hypha_common.ids import MANAGER_ID, Address
from hypha_common.principal import Permission, Principal
from hypha_common.subjects import client_frames, partition_of, role_verb
from hypha_common.version import __version__

from . import metrics
from .connection import Connection
from .denials import record_denial
from .enforcement import check_blocked
from .rates import TokenBucket

if TYPE_CHECKING:
    from .gateway import Gateway
    from .session import Session
    from .websocket.session import WebsocketSession

__all__ = ["Handshake"]

log = structlog.get_logger(__name__)

_CONNECT_TIMEOUT_S = 1.5
_PING_TIMEOUT_S = 8.0  # the registry pings an older client of the same id for up to 5 s
_UNLIMITED = 1e9
TRY_AGAIN = 1013


class Handshake:
    """Takes a client from its first message to ``connection_info`` or a refusal (contract 01 §1.2 to §1.5)."""

    def __init__(self, gateway: Gateway, *, slots: int) -> None:
        self._gateway = gateway
        self._slots = asyncio.Semaphore(slots)
        self.waiting = 0

    async def run(self, session: WebsocketSession, text: str) -> None:
        """
        Answer a websocket's first message, in a trace and a task of its own.

        Never raises: every outcome is told to the client.

        """
        trace.use(trace.new())
        span = trace.start("connect", trace.SERVER, {"network.protocol.name": "websocket"}, root=True)
        if span is not None:
            trace.use(span.context)
        try:
            await self._run(session, text)
        finally:
            if span is not None:
                span.end()

    async def _run(self, session: WebsocketSession, text: str) -> None:
        try:
            message = _decode(text)
            if message is None:
                session.refuse(1003, "Failed to decode authentication information")
                return
            if await self.connect(session, message) is None:
                session.link.abort()
            else:
                session.catch_up()
        except (Unavailable, DeadlineExceeded) as error:
            # A bare close is tried again by clients; an error message would make them give up for ever.
            log.warning("handshake_failed", error=str(error))
            session.refuse(TRY_AGAIN, "Server busy, please retry", tell=False)
        except HyphaError as error:
            turned_away = refusal(error)
            session.refuse(turned_away.code, turned_away.reason)
        except Exception:  # the edge of a connection: whatever went wrong, the client is told
            log.exception("handshake_error")
            session.refuse(1011, "Failed to establish connection: internal error")

    async def connect(self, session: Session, message: Mapping[str, Any]) -> Connection | None:
        """
        Let a client in, whatever its transport; ``message`` is what it says of itself (contract 01 §1.2).

        Returns None where the client went away meanwhile, or came again. Raises HyphaError where it may not, or
        cannot now.

        """
        started = time.monotonic()
        self.waiting += 1
        try:
            async with asyncio.timeout(self._gateway.settings.max_handshake_wait):
                await self._slots.acquire()
        except TimeoutError:
            raise Unavailable("No free slot for a handshake") from None
        finally:
            self.waiting -= 1
            metrics.ADMISSION_WAIT.observe(time.monotonic() - started)
        try:
            if session.ended:
                return None
            session.admission = await admit(ConnectRequest.parse(message), self._gateway.authenticator.verify)
            check_blocked(self._gateway.blocks, session.admission.principal, session.link.remote)
            connection = await self._connect(session, session.admission)
        except HyphaError as error:
            self._note_denial(session, error)
            raise
        finally:
            self._slots.release()
        metrics.HANDSHAKE_SECONDS.observe(time.monotonic() - started)
        return connection

    def _note_denial(self, session: Session, error: HyphaError) -> None:
        who, address = session.admission, session.link.remote
        if who is None:
            record_denial(self._gateway.audit, error, address=address)
        else:
            record_denial(self._gateway.audit, error, address=address, user=who.principal.id, workspace=who.workspace)

    async def _connect(self, session: Session, admission: Admission) -> Connection | None:
        gateway = self._gateway
        subject = role_verb("workspace", partition_of(admission.workspace), "connect")
        message = {
            "workspace": admission.workspace,
            "client_id": admission.client_id,
            "user": admission.principal.dump(),
            "gateway": gateway.bus.instance,
            "reconnect": admission.reconnect,
        }
        # Asking twice is harmless (the later generation wins), and a replica may die with the question in its hands.
        answer = await gateway.bus.request(subject, {**message, "quick": True}, timeout=_CONNECT_TIMEOUT_S, attempts=2)
        if answer.get("occupied"):
            answer = await gateway.bus.request(subject, message, timeout=_PING_TIMEOUT_S)
        address = Address(answer["workspace"], admission.client_id)
        connection = self._connection(session, address, answer)
        connection.arriving = bool(answer.get("moved_from"))
        try:
            connection.interest = await gateway.bus.subscribe(
                client_frames(address.workspace, address.client), gateway.router.interest_handler(connection)
            )
            await gateway.bus.flush()
        except HyphaError:
            gateway.release(connection, "bus away")
            raise
        if previous := answer.get("moved_from"):
            await gateway.moves.fetch(connection, previous)
            connection.arriving = False
        return self._install(session, connection, admission)

    def _connection(self, session: Session, address: Address, answer: dict[str, Any]) -> Connection:
        settings, principal = self._gateway.settings, Principal.load(answer["user"])
        # Startup functions answer for the cluster itself: for custom authentication, once a request.
        limit = _UNLIMITED if principal.is_root else settings.ws_msg_rate_limit
        return Connection(
            session.link,
            address=address,
            generation=answer["generation"],
            principal=principal,
            permission=Permission.from_wire(answer["permission"]),
            instance=answer["instance"],
            rate=TokenBucket(rate=limit, burst=settings.ws_msg_burst_limit, now=time.monotonic()),
            max_queue_bytes=settings.max_queue_bytes,
            router=self._gateway.router,
            transport=session.transport,
        )

    def _install(self, session: Session, connection: Connection, admission: Admission) -> Connection | None:
        gateway = self._gateway
        older = gateway.table.connection(connection.address.workspace, connection.address.client)
        if session.ended or (older is not None and older.generation > connection.generation):
            gateway.release(connection, "gone during the handshake")
            return None
        if older is not None:
            metrics.SUPERSEDED.inc()
            older.abort()
        gateway.table.add(connection)
        session.opened(connection, admission)
        metrics.ESTABLISHED.inc()
        connection.open(self._connection_info(connection, admission.origins))
        return connection

    def _connection_info(self, connection: Connection, origins: tuple[str, ...]) -> dict[str, Any]:
        settings = self._gateway.settings
        return {
            "type": "connection_info",
            "hypha_version": __version__,
            "public_base_url": settings.public_base_url,
            "local_base_url": settings.local_base_url,
            "manager_id": MANAGER_ID,
            "workspace": connection.address.workspace,
            "client_id": connection.address.client,
            "user": connection.principal.dump(),
            "reconnection_token": self.reconnection_token(connection, origins),
            "reconnection_token_life_time": settings.reconnection_token_life_time,
        }

    def reconnection_token(self, connection: Connection, origins: tuple[str, ...]) -> str:
        """Return a token with which the client may come back. Raises Unauthorized where one it had was revoked."""
        gateway = self._gateway
        gateway.verifier.check_revoked(*origins)
        return gateway.codec.reconnection_token(
            connection.principal,
            connection.address.workspace,
            connection.address.client,
            connection.generation,
            gateway.settings.reconnection_token_life_time,
            origins=origins,
        )


def _decode(text: str) -> dict[str, Any] | None:
    with suppress(ValueError, RecursionError):
        message = json.loads(text)
        if isinstance(message, dict):
            return message
    return None
