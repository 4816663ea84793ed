from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import structlog

from hypha_common.bus import Bus
from hypha_common.db import Database
from hypha_common.errors import DeadlineExceeded, HyphaError, Unavailable
from hypha_common.rpc import RoleHost
from hypha_common.service_process import Dependencies
from hypha_common.settings import Settings
from hypha_common.telemetry import LoopWatch, serve_status
from hypha_common.tracing import recording

from .cluster_security import ClusterSecurity
from .migrate import is_current
from .oidc import OAuthVerbs, OpenIdConnect
from .ownership import Ownership
from .people import People
from .waiters import Waiters

__all__ = ["Auth", "run"]

log = structlog.get_logger(__name__)

_SWEEP_INTERVAL_S = 60.0
_RETRY_S = 1.0


class Auth:
    """One replica of the auth service, all its parts put together. It keeps nothing that another replica lacks."""

    def __init__(self, settings: Settings, *, on_fatal: Callable[[str], None]) -> None:
        settings.require("nats_url", "database_url", "jwt_secret")
        self.bus = Bus.from_settings(settings, "auth", on_fatal=on_fatal)
        self.database = Database(settings.database_url, application="hypha-auth", pool_size=settings.database_pool_size)
        self._oidc = OpenIdConnect.from_settings(settings, self.database.home)
        self._oauth_verbs = OAuthVerbs(self._oidc)
        external = None if self._oidc is None else self._oidc.verify
        self.security = ClusterSecurity(settings, home=self.database.home, bus=self.bus, external=external)
        self._waiters = Waiters(self.bus)
        self.people = People(
            settings,
            home=self.database.home,
            codec=self.security.codec,
            judge=self.security.verbs.judge,
            owned=Ownership(self.bus).permission,
            waiters=self._waiters,
            oidc=self._oidc,
            revoke=self.security.verbs.revoke_origin,
            audit=self.security.audit,
        )
        self._dependencies = Dependencies(self.bus, self.database.home)
        self.host = RoleHost(self.bus, "auth", server_base_url=settings.public_base_url, missing=self.missing)
        self.security.custom.peer = self.host.peer
        self.people.service.gate = self.security.custom.gate_login
        self.host.add_service(self.people.service)
        self.host.add_service(self.security.registry.service)
        self._cleanup = AsyncExitStack()
        self._serving = False

    async def start(self) -> None:
        """Serve. Raises Unavailable where there is no bus; a database that is away is waited for."""
        done = self._cleanup.push_async_callback
        await self.database.connect()
        done(self.database.close)
        done(self.bus.close)
        await self.bus.connect()
        await _until(lambda: is_current(self.database.home.url), otherwise="schema_missing")
        done(self.security.stop)
        await _until(self._security_started, otherwise="security_unknown")
        if self._oidc is not None:
            done(self._oidc.close)
        done(self.people.close)
        done(self._waiters.stop)
        await self._waiters.start()
        done(self.bus.stop_serving)
        await self.security.serve()
        await self._oauth_verbs.serve(self.bus)
        watching = asyncio.create_task(self._dependencies.watch(), name="dependencies")
        self._cleanup.callback(watching.cancel)
        done(self.host.close)
        await self.host.start()
        sweeping = asyncio.create_task(self._sweep(), name="sweep")
        self._cleanup.callback(sweeping.cancel)
        self._serving = True
        log.info("auth_started", instance=self.bus.instance)

    async def stop(self) -> None:
        """Take nothing new, finish what runs, close; in the reverse order of starting, as far as that came."""
        self._serving = False
        await self._cleanup.aclose()

    def missing(self) -> list[str]:
        """Return what this replica lacks to do its work; nothing: it is ready."""
        return self._dependencies.missing() if self._serving else ["starting"]

    async def _security_started(self) -> bool:
        await self.security.start()
        return True

    async def _sweep(self) -> None:
        while True:
            try:
                await self.people.sweep()
                await self.security.sweep()
            except HyphaError as error:
                log.warning("sweep_failed", error=str(error))
            await asyncio.sleep(_SWEEP_INTERVAL_S)


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Run a replica until ``stop`` is set. Raises Unavailable where its connection to the bus cannot be trusted."""
    fatal: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def on_fatal(reason: str) -> None:
        if not fatal.done():
            fatal.set_result(reason)

    auth = Auth(settings, on_fatal=on_fatal)
    status = await serve_status(settings, auth.missing, role="auth", instance=auth.bus.instance)
    watch = asyncio.create_task(LoopWatch().run(), name="loop-watch")
    starting = asyncio.create_task(auth.start(), name="start")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    try:
        async with recording(settings, "auth", auth.bus.instance):
            await _first(starting, stopping, fatal)
            if starting.done():
                starting.result()
                await _first(stopping, fatal)
        if fatal.done():
            raise Unavailable(fatal.result())
    finally:
        for task in (starting, stopping, watch):
            task.cancel()
        await asyncio.gather(starting, stopping, watch, return_exceptions=True)
        await auth.stop()
        if status is not None:
            status.close()


async def _first(*futures: asyncio.Future[Any]) -> None:
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


async def _until(condition: Callable[[], Awaitable[bool]], *, otherwise: str) -> None:
    told = False
    while True:
        reason = ""
        try:
            if await condition():
                return
        except (Unavailable, DeadlineExceeded) as error:
            reason = str(error)
        if not told:
            log.warning(otherwise, reason=reason or "run: hypha-auth migrate")
        told = True
        await asyncio.sleep(_RETRY_S)
