from __future__ import annotations

from contextlib import AsyncExitStack

from hypha_common.audit import Audit
from hypha_common.bus import Bus
from hypha_common.db import Shard
from hypha_common.security_feed import Security, SecurityFeed
from hypha_common.settings import Settings
from hypha_common.tokens import TokenCodec
from hypha_common.verifier import RootToken, TokenVerifier

from .announcing import Announcer
from .audit_repository import AuditRows
from .block_repository import BlockRows
from .blocking import BlockVerbs
from .custom_auth import CustomTokens
from .custom_registry import CustomAuthRegistry
from .custom_repository import CustomAuthRow
from .instances import InstanceTokens
from .key_making import Sealer
from .key_repository import KeyRows
from .key_ring import KeyRing
from .policy import SecurityVerbs
from .repository import RevokedTokenRows
from .verbs import AuthVerbs, External

__all__ = ["ClusterSecurity"]


class ClusterSecurity:
    """What decides about callers: tokens and keys, revocations, blocks, and the record of it all, put together."""

    def __init__(self, settings: Settings, *, home: Shard, bus: Bus, external: External | None = None) -> None:
        self.codec = TokenCodec.from_settings(settings)
        public = self.codec.keys.ring
        self.known = Security(keys=public)
        self.announcer = Announcer(bus)
        self._bus = bus
        self._retention_s = settings.audit_retention
        self._revoked, self._blocks = RevokedTokenRows(home), BlockRows(home)
        self._keys, self._events = KeyRows(home), AuditRows(home)
        self.audit = Audit(bus, store=self._events.add)
        sealer = Sealer(settings.jwt_secret, settings.jwt_previous_secrets)
        self.ring = self.codec.signer = KeyRing(self._keys, sealer, public)
        self.verifier = TokenVerifier(self.codec, self.known.revoked)
        custom_row = CustomAuthRow(home)
        self.custom = CustomTokens(self.known)
        self.registry = CustomAuthRegistry(
            row=custom_row,
            security=self.known,
            announcer=self.announcer,
            startup_client=settings.startup_client,
        )
        self._forget_custom_auth = settings.forget_custom_auth
        self.verbs = AuthVerbs(
            codec=self.codec,
            ring=self.ring,
            verifier=self.verifier,
            root=RootToken(settings.root_token),
            revoked=self.known.revoked,
            rows=self._revoked,
            announcer=self.announcer,
            audit=self.audit,
            reconnection_life_s=settings.reconnection_token_life_time,
            external=external,
            custom=self.custom,
        )
        self._instances = InstanceTokens(
            self.codec, self.verbs.refuse, self.audit, reconnection_life_s=settings.reconnection_token_life_time
        )
        self._blocking = BlockVerbs(rows=self._blocks, announcer=self.announcer, audit=self.audit)
        self.source = SecurityVerbs(
            revoked=self._revoked, blocks=self._blocks, ring=self.ring, audit=self._events, custom=custom_row
        )
        self.feed = SecurityFeed(bus, self.known, self.source)
        self._cleanup = AsyncExitStack()

    async def start(self) -> None:
        """Find out what is known. Raises Unavailable or DeadlineExceeded, and may be tried again."""
        if self._forget_custom_auth:
            await self.registry.forget()
        await self.ring.start()
        self._cleanup.push_async_callback(self.ring.close)
        self._cleanup.push_async_callback(self.audit.close)
        self._cleanup.push_async_callback(self.feed.stop)
        await self.feed.start()
        await self.feed.ready.wait()

    async def serve(self) -> None:
        """Answer the verbs of other services."""
        for verbs in (self.source, self.verbs, self._instances, self._blocking):
            await verbs.serve(self._bus)

    async def stop(self) -> None:
        await self._cleanup.aclose()

    async def sweep(self) -> None:
        """Forget what has expired. Raises what the database does."""
        for rows in (self._revoked, self._blocks, self._keys):
            await rows.delete_expired()
        await self._events.delete_older(self._retention_s)
