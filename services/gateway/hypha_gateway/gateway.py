from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import structlog

from hypha_common.audit import Audit
from hypha_common.bus import Bus
from hypha_common.errors import HyphaError
from hypha_common.process_metrics import LoopWatch
from hypha_common.security_feed import AuthSource, Security, SecurityFeed
from hypha_common.settings import Settings
from hypha_common.subjects import role_verb
from hypha_common.tokens import TokenCodec
from hypha_common.verifier import Authenticator, TokenVerifier

from .activity import Activity
from .audience import Audience
from .connection import Connection
from .control import Control
from .credentials import Credentials
from .custom_auth import CustomAuthOf
from .departures import Departures
from .enforcement import end_blocked
from .handshake import Handshake
from .lease import Lease
from .liveness import Liveness
from .local_client import LocalClient
from .moving import Moves
from .pending import PendingCalls
from .places import Places
from .readings import GATEWAYS
from .roles import RoleCalls
from .router import Router
from .session import Session
from .state import GatewayState
from .streaming.posts import Posts
from .table import ConnectionTable
from .windows import SendWindows

__all__ = ["Gateway"]

log = structlog.get_logger(__name__)

_MAX_WAITING_HANDSHAKES = 2000
_LIMITS = ("ws_msg_rate_limit", "ws_msg_burst_limit", "http_rate_limit", "http_burst_limit", "max_message_bytes")
_PATIENCE: dict[str, Any] = {"timeout": 1.3, "attempts": 2}  # a replica may die with the question in its hands
_CUSTOM_TIMEOUT_S = 7.0


class Gateway:
    """
    One gateway: the sockets it holds and everything that serves them.

    It keeps nothing that another gateway needs; when it is gone, its clients connect elsewhere.

    """

    def __init__(
        self, settings: Settings, *, on_fatal: Callable[[str], None], request_stop: Callable[[], None]
    ) -> None:
        self.settings = settings
        self.request_stop = request_stop
        self.sessions: set[Session] = set()
        self.table = ConnectionTable()
        self.bus = Bus.from_settings(settings, "gateway", on_fatal=on_fatal)
        self.codec = TokenCodec.from_settings(settings)
        self.security = Security(keys=self.codec.keys.ring)
        self.blocks = self.security.blocks
        self.custom = CustomAuthOf(self.security)
        self.audit = Audit(self.bus)
        self.credentials = Credentials()
        self.verifier = TokenVerifier(self.codec, self.security.revoked)
        self.authenticator = Authenticator(self.verifier, self._ask_auth, others=lambda: self.custom.has("parse_token"))
        self.windows = SendWindows(now=time.monotonic)
        self.roles = RoleCalls(self.bus)
        self.pending = PendingCalls(self.bus)
        self.posts = Posts(bus=self.bus, table=self.table, windows=self.windows)
        self.router = Router(
            bus=self.bus,
            table=self.table,
            windows=self.windows,
            roles=self.roles,
            pending=self.pending,
            posts=self.posts,
        )
        self.client = LocalClient(
            bus=self.bus, table=self.table, roles=self.roles, server_base_url=settings.public_base_url
        )
        self.moves = Moves(self)
        self.handshake = Handshake(self, slots=settings.max_concurrent_connections)
        self.feed = SecurityFeed(self.bus, self.security, AuthSource(self.bus))
        self.feed.on_revoked.append(self.credentials.revoked)
        self.feed.on_policy.append(self._check_custom_auth)
        self.feed.on_policy.append(partial(end_blocked, self.blocks, self.sessions))
        self.state = GatewayState(
            settings=settings,
            bus=self.bus,
            verifier=self.verifier,
            authenticator=self.authenticator,
            client=self.client,
            revocations_known=self.feed.ready,
            security=self.security,
            audit=self.audit,
            custom=self.custom,
        )
        self.audience = Audience(self.bus)
        self.departures = Departures(self.bus)
        self._places = Places(self.bus)
        self.lease = Lease(bus=self.bus, table=self.table, departures=self.departures, places=self._places)
        self._activity = Activity(bus=self.bus, table=self.table)
        self._liveness = Liveness(
            table=self.table, router=self.router, windows=self.windows, idle_timeout_s=settings.ws_idle_timeout
        )
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Connect to the bus and begin to serve it. Raises Unavailable where there is none."""
        await self.bus.connect()
        await self.bus.undeliverable(self._undeliverable)
        await self.router.start()
        await Control(self, self.audience).start()
        self.bus.on_disconnected += [self.roles.bus_lost, self.pending.bus_lost, self.client.bus_lost]
        await self.feed.start()
        await self.bus.flush()
        GATEWAYS.add(self)
        for watched in (
            LoopWatch().run,
            self.lease.run,
            self._places.run,
            self._activity.run,
            self.departures.run,
            self._liveness.run,
            self.roles.watch,
            self.pending.watch,
            self.client.watch,
        ):
            self._tasks.append(asyncio.create_task(watched()))
        log.info("gateway_started", instance=self.bus.instance)

    async def stop(self) -> None:
        """Tell the registry about every departure, then leave the bus."""
        GATEWAYS.discard(self)
        await self.departures.told(timeout=5.0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.state.web_apps.close()
        await self.client.close()
        await self.audit.close()
        await self.feed.stop()
        await self.bus.close()

    async def drain(self) -> None:
        """Close every socket, one after another over the drain window, so that its clients come back elsewhere."""
        self.state.draining = True
        self.state.web_apps.leaving.set()
        sessions = list(self.sessions)
        pause_s = min(0.05, self.settings.drain_window / max(1, len(sessions)))
        send_away = self.moves.send_away if sessions and await self.moves.possible() else self.moves.close
        leaving: list[asyncio.Task[None]] = []
        for session in sessions:
            leaving.append(asyncio.create_task(send_away(session)))
            await asyncio.sleep(pause_s)
        if leaving:
            await asyncio.wait(leaving)
        deadline = time.monotonic() + self.settings.drain_window
        while (self.sessions or self.moves.under_way) and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
            self.moves.look()
        self.moves.give_up()
        for session in list(self.sessions):
            session.link.abort()

    async def ready(self, timeout: float) -> None:
        """Wait until websockets are accepted, at most ``timeout`` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self.feed.ready.wait()

    def about(self) -> dict[str, object]:
        """Return what this gateway tells when the cluster counts its members."""
        settings = self.settings
        return {
            "address": f"{settings.host}:{settings.port}",
            "connections": len(self.table),
            "lease_age_s": round(self.lease.age_s, 1) if self.lease.renewed_at else None,
            "draining": self.state.draining,
            "limits": {name: getattr(settings, name) for name in _LIMITS},
        }

    def tables(self) -> dict[str, int]:
        """Return how much is kept here; without connections, next to nothing."""
        return {
            "sessions": len(self.sessions),
            "connections": len(self.table),
            "addresses": self.table.addresses,
            "audiences": len(self.audience),
            "credentials": len(self.credentials),
            "departures": len(self.departures),
            "pending_calls": len(self.pending),
            "owed_calls": len(self.roles),
            "send_windows": len(self.windows),
            "http_calls": len(self.client.peer.waiting()),
            "web_calls": len(self.state.web_apps),
        }

    def accepts(self) -> bool:
        """Tell whether a new websocket has a chance; if not, the upgrade is answered 503, which clients try again."""
        waiting = self.handshake.waiting
        return (
            self.bus.is_connected
            and not self.state.draining
            and self.feed.ready.is_set()
            and waiting < _MAX_WAITING_HANDSHAKES
        )

    def release(self, connection: Connection, reason: str) -> None:
        """Undo everything that was made for a connection."""
        self._remove(connection)
        self.pending.released(connection)
        self.client.left(connection.address)
        self.departures.report(connection.address, connection.generation, reason)

    def moved(self, connection: Connection) -> None:
        """Let go of a connection whose client goes on at another gateway, with all that it is in the middle of."""
        log.info("client_moved", client=str(connection.address))
        self.pending.moved(connection)
        self._remove(connection)

    def _remove(self, connection: Connection) -> None:
        connection.release()
        self.table.remove(connection)
        self.audience.remove(connection)
        self.roles.released(connection)
        if connection.interest is not None:
            self.bus.unsubscribe(connection.interest)
            connection.interest = None

    def _undeliverable(self, tail: str, subject: str) -> None:
        if tail.startswith("h."):
            self.client.undeliverable(tail[2:], subject)
            return
        with suppress(HyphaError):
            self.router.undeliverable(tail, subject)

    async def _ask_auth(self, token: str) -> dict[str, object]:
        subject, message = role_verb("auth", 0, "authenticate"), {"token": token}
        # A custom function may ask a server far away.
        patience = {"timeout": _CUSTOM_TIMEOUT_S} if self.custom.has("parse_token") else _PATIENCE
        answer: dict[str, object] = await self.bus.request(subject, message, **patience)
        return answer

    def _check_custom_auth(self) -> None:
        if self.custom.changed():
            self.authenticator.forget()
