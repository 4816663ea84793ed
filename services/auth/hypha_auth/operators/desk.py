from __future__ import annotations

import getpass
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hypha_auth.announcing import Announcer
from hypha_auth.audit_repository import AuditRows
from hypha_auth.block_repository import BlockRows
from hypha_auth.key_making import Sealer
from hypha_auth.key_repository import KeyRows
from hypha_auth.key_ring import KeyRing
from hypha_auth.key_rotation import KeyRotation
from hypha_auth.migrate import is_current
from hypha_auth.repository import RevokedTokenRows
from hypha_common.audit import Audit
from hypha_common.bus import Bus
from hypha_common.bus_permissions import role_of_user
from hypha_common.db import Database
from hypha_common.errors import ConfigurationError, DeadlineExceeded, Unavailable
from hypha_common.settings import Settings
from hypha_common.tokens import TokenCodec

__all__ = ["Desk", "open_desk"]


class Desk:
    """
    What an operator's verb works with: the database, and the bus where what it does concerns processes that run.

    """

    def __init__(self, settings: Settings, database: Database, bus: Bus | None) -> None:
        home = database.home
        self.settings = settings
        self.by = f"operator {_login()}"
        self.blocks, self.revoked = BlockRows(home), RevokedTokenRows(home)
        self.keys, self.events = KeyRows(home), AuditRows(home)
        self.announcer = Announcer(bus)
        self.audit = Audit(store=self.events.add)

    def codec(self) -> TokenCodec:
        """Return what judges the cluster's tokens, as far as secrets go; the ring's keys come with :meth:`ring`."""
        self.settings.require("jwt_secret")
        return TokenCodec.from_settings(self.settings)

    def ring(self, codec: TokenCodec) -> KeyRing:
        return KeyRing(self.keys, self._sealer(), codec.keys.ring)

    def rotation(self) -> KeyRotation:
        self.settings.require("jwt_secret")
        return KeyRotation(self.keys, self._sealer(), self.announcer, self.audit)

    def _sealer(self) -> Sealer:
        return Sealer(self.settings.jwt_secret, self.settings.jwt_previous_secrets)


@asynccontextmanager
async def open_desk(settings: Settings, *, announces: bool = False) -> AsyncIterator[Desk]:
    """
    Connect, and write down and announce at the end what was done. Raises ConfigurationError, Unavailable.

    With ``announces``, the bus is used if there is one; without it the change is made all the same.

    """
    settings.require("database_url")
    database = Database(settings.database_url, application="hypha-auth-operator", pool_size=2)
    await database.connect()
    bus = None
    try:
        if not await is_current(database.home.url):
            raise ConfigurationError("The database lacks tables of this service; run: hypha-auth migrate")
        bus, missing = await _bus(settings) if announces else (None, "")
        desk = Desk(settings, database, bus)
        try:
            yield desk
        finally:
            await desk.audit.close()
        missing = missing or await _undelivered(bus)
        if missing:
            _tell(f"{missing}: processes that run follow within 30 s")
    finally:
        if bus is not None:
            await bus.close()
        await database.close()


async def _bus(settings: Settings) -> tuple[Bus | None, str]:
    """Return the bus, or why there is none."""
    if not settings.nats_url:
        return None, "no bus is configured (nats_url)"
    bus = Bus.from_settings(settings, role_of_user(settings.nats_user), on_fatal=_tell)
    try:
        await bus.connect()
    except (Unavailable, DeadlineExceeded) as error:
        return None, str(error)
    return bus, ""


async def _undelivered(bus: Bus | None) -> str:
    """Return why an announcement may not have been heard."""
    try:
        if bus is not None:
            await bus.flush()
            return "; ".join(bus.refused)
    except (Unavailable, DeadlineExceeded) as error:
        return str(error)
    return ""


def _tell(sentence: str) -> None:
    print(f"hypha-auth: {sentence}", file=sys.stderr)  # noqa: T201 it talks to a person


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # an account without a name, as in containers
        return "unknown"
