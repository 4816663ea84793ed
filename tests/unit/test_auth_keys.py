from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from hypha_auth.announcing import Announcer
from hypha_auth.cluster_security import ClusterSecurity
from hypha_auth.key_making import Sealer
from hypha_auth.key_repository import KeyRows
from hypha_auth.key_rotation import KeyRotation
from hypha_common.audit import Audit
from hypha_common.bus import Bus
from hypha_common.db import Database
from hypha_common.errors import NotFound, Unauthorized, Unavailable
from hypha_common.principal import Principal
from hypha_common.security_feed import AuthSource, Security, SecurityFeed
from hypha_common.settings import Settings
from hypha_common.subjects import role_verb
from hypha_common.tokens import TokenCodec
from hypha_common.verifier import Authenticator, TokenVerifier
from tests.fixtures.auth import SECRET, auth_database, auth_settings, bus, eventually, nats_url, postgres, start_bus

__all__ = ["auth_database", "auth_settings", "bus", "nats_url", "postgres"]

ALICE = Principal(id="alice")
OTHER = "another secret of thirty-two bytes!!"
WITHIN_S = 1.0


class Replica:
    """An auth service, as far as keys go."""

    def __init__(self, bus: Bus, database: Database, settings: Settings) -> None:
        self.bus = bus
        self.security = ClusterSecurity(settings, home=database.home, bus=bus)
        self.codec = self.security.codec

    async def stop(self) -> None:
        await self.security.stop()
        await self.bus.close()

    def key_id(self) -> str:
        return self.codec.verify(self.codec.sign(ALICE, life_s=60)).key_id


Start = Callable[..., Any]


@pytest.fixture
async def start(nats_url: str, auth_database: Database, auth_settings: Settings) -> AsyncIterator[Start]:
    """Start replicas: ``await start(2, jwt_secret=…)``."""
    running: list[Replica] = []

    async def start(number: int = 1, **changes: Any) -> list[Replica]:
        settings = auth_settings.replace(**changes)
        started = [Replica(await start_bus(nats_url, "auth"), auth_database, settings) for _ in range(number)]
        running.extend(started)
        await asyncio.gather(*(replica.security.start() for replica in started))
        for replica in started:
            await replica.security.serve()
            await replica.bus.flush()
        return started

    yield start
    for replica in running:
        await replica.stop()


@pytest.fixture
def rows(auth_database: Database) -> KeyRows:
    return KeyRows(auth_database.home)


@pytest.fixture
def rotation(bus: Bus, rows: KeyRows) -> KeyRotation:
    """What an operator's command does."""
    return KeyRotation(rows, Sealer(SECRET), Announcer(bus), Audit(bus))


class Gateway:
    """What judges callers elsewhere."""

    def __init__(self, bus: Bus) -> None:
        self.codec = TokenCodec(SECRET)
        security = Security(keys=self.codec.keys.ring)
        self.feed = SecurityFeed(bus, security, AuthSource(bus))
        self.verifier = TokenVerifier(self.codec, security.revoked)
        self.asked = 0
        self._bus = bus
        self.authenticator = Authenticator(self.verifier, self._ask)

    async def _ask(self, token: str) -> dict[str, Any]:
        self.asked += 1
        answer: dict[str, Any] = await self._bus.request(role_verb("auth", 0, "authenticate"), {"token": token})
        return answer


@pytest.fixture
async def gateway(bus: Bus, start: Start) -> AsyncIterator[Gateway]:
    await start(2)
    gateway = Gateway(bus)
    await gateway.feed.start()
    await gateway.feed.ready.wait()
    yield gateway
    await gateway.feed.stop()


async def test_first_key_is_one(start: Start, rows: KeyRows) -> None:
    """Replicas that start at the same time on an empty database agree on a key."""
    replicas = await start(4)
    assert len({replica.key_id() for replica in replicas}) == 1
    assert len(await rows.all()) == 1


async def test_judged_without_asking(gateway: Gateway, start: Start) -> None:
    [replica] = await start()
    token = replica.codec.sign(ALICE, life_s=60)
    assert (await gateway.authenticator.verify(token)).principal.id == "alice"
    assert gateway.asked == 0


async def test_rotate(gateway: Gateway, start: Start, rotation: KeyRotation, rows: KeyRows) -> None:
    """A new key signs within a second, everywhere; nobody who has a token of the old one is logged out."""
    [replica] = await start()
    old = replica.codec.sign(ALICE, life_s=3600)
    new_id = await rotation.rotate(by="operator")
    await eventually(lambda: replica.key_id() == new_id, timeout=WITHIN_S)
    await eventually(lambda: new_id in gateway.codec.keys.ring, timeout=WITHIN_S)
    for token in (old, replica.codec.sign(ALICE, life_s=60)):
        assert gateway.verifier.verify(token).principal.id == "alice"
    stored = {row.id: row for row in await rows.all()}
    [retired] = [row for row in stored.values() if row.retired_at is not None]
    assert retired.private_key is None
    assert await rows.delete_expired() == 0
    await replica.security.sweep()
    assert len(await rows.all()) == 2


async def test_rotate_at_once(start: Start, rotation: KeyRotation, rows: KeyRows) -> None:
    """Of several operators none leaves the cluster without a key, or with two that sign."""
    await start(2)
    ids = await asyncio.gather(*(rotation.rotate(by="operator") for _ in range(5)))
    current = [row.id for row in await rows.all() if row.retired_at is None]
    assert len(current) == 1
    assert current[0] in ids


async def test_brand_new_key(gateway: Gateway, start: Start, rows: KeyRows) -> None:
    """A token signed with a key that nobody has heard of yet works at once: auth is asked."""
    await gateway.feed.stop()
    [replica] = await start()
    silent = KeyRotation(rows, Sealer(SECRET), _Mute(replica.bus), Audit(replica.bus))
    key_id = await silent.rotate(by="operator")
    await replica.security.ring.refresh()
    token = replica.codec.sign(ALICE, life_s=60)
    await asyncio.sleep(1.0)  # replicas look for unknown keys once a second
    for _ in range(3):
        verified = await gateway.authenticator.verify(token)
        assert (verified.principal.id, verified.key_id) == ("alice", key_id)
    assert gateway.asked == 1


class _Mute(Announcer):
    def changed(self, **what: Any) -> None:
        """The announcement is lost."""


async def test_unknown_keys_do_not_reach_the_database(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody can name a key: looking for it is limited."""
    [replica] = await start()
    stranger = TokenCodec(SECRET)
    stranger.signer = (await start(1))[0].security.ring
    looked = 0
    all_rows = KeyRows.all

    async def counted(self: KeyRows) -> Any:
        nonlocal looked
        looked += 1
        return await all_rows(self)

    token = stranger.sign(ALICE, life_s=60)
    replica.codec.keys.ring.replace([])
    monkeypatch.setattr(KeyRows, "all", counted)
    for _ in range(20):
        try:
            await replica.security.verbs.authenticate({"token": token})
        except Unauthorized:
            replica.codec.keys.ring.replace([])
    assert looked <= 1


async def test_drop(gateway: Gateway, start: Start, rotation: KeyRotation, rows: KeyRows) -> None:
    """What a leaked key has signed is refused within a second, where it was seen before too, and what came of it."""
    [replica] = await start()
    token = replica.codec.sign(ALICE, life_s=3600)
    verified = gateway.verifier.verify(token)
    reconnection = gateway.codec.reconnection_token(ALICE, "ws-a", "c", 1, 60, origins=verified.lineage)
    ended: list[set[str]] = []
    gateway.feed.on_revoked.append(ended.append)
    await rotation.drop(verified.key_id, by="operator")

    def is_refused(text: str) -> bool:
        try:
            gateway.verifier.verify(text, None)
        except Unauthorized:
            return True
        return False

    await eventually(lambda: is_refused(token) and is_refused(reconnection), timeout=WITHIN_S)
    assert ended == [{f"key:{verified.key_id}"}]
    await eventually(lambda: replica.key_id() != verified.key_id, timeout=WITHIN_S)
    with pytest.raises(Unauthorized):
        await gateway.authenticator.verify(token)
    assert (await gateway.authenticator.verify(replica.codec.sign(ALICE, life_s=60))).principal.id == "alice"
    assert [row.id for row in await rows.all()] == [replica.key_id()]
    with pytest.raises(NotFound, match="There is no signing key"):
        await rotation.drop(verified.key_id, by="operator")


async def test_key_goes_with_its_last_token(
    start: Start, rotation: KeyRotation, rows: KeyRows, auth_database: Database
) -> None:
    """A retired key is kept as long as something that it has signed is good, and no longer."""
    [replica] = await start()
    first = replica.key_id()
    replica.codec.sign(ALICE, life_s=30 * 86400)

    async def stored() -> dict[str, float]:
        return {row.id: row.last_expiry for row in await rows.all()}

    async with asyncio.timeout(3):
        while (await stored())[first] < time.time() + 30 * 86400:
            await asyncio.sleep(0.01)
    written = (await stored())[first]
    replica.codec.sign(ALICE, life_s=30 * 86400)  # not written down again
    second = await rotation.rotate(by="operator")
    await eventually(lambda: replica.key_id() == second)
    assert (await stored())[first] == written
    await auth_database.home.execute(
        "UPDATE signing_keys SET retired_at = now() - interval '40 days', last_expiry = now() - interval '30 minutes'"
        " WHERE key_id = $1",
        first,
    )
    await rows.delete_expired()
    assert set(await stored()) == {first, second}
    await auth_database.home.execute(
        "UPDATE signing_keys SET last_expiry = now() - interval '2 hours' WHERE key_id = $1", first
    )
    await rows.delete_expired()
    assert set(await stored()) == {second}


async def test_changed_secret(start: Start, rows: KeyRows) -> None:
    """With the old secret named, the ring goes on; without it a new key signs, and tokens of the old one stay good."""
    [first] = await start()
    token, key_id = first.codec.sign(ALICE, life_s=60), first.key_id()
    [second] = await start(1, jwt_secret=OTHER, jwt_previous_secrets=(SECRET,))
    assert second.key_id() == key_id
    [third] = await start(1, jwt_secret=OTHER)
    assert third.key_id() != key_id
    assert third.codec.verify(token).principal.id == "alice"
    assert len(await rows.all()) == 2
    # A replica that cannot open the newest key goes on with the one it has.
    await first.security.ring.refresh()
    assert first.key_id() == key_id
    assert third.codec.keys.ring.get(key_id) is not None


async def test_no_key_before_the_start(auth_database: Database, auth_settings: Settings, bus: Bus) -> None:
    security = ClusterSecurity(auth_settings, home=auth_database.home, bus=bus)
    with pytest.raises(Unavailable, match="no signing key"):
        security.codec.sign(ALICE, life_s=60)


async def test_jwks(gateway: Gateway, bus: Bus) -> None:
    """The verb tells public keys and nothing else."""
    answer = await bus.request(role_verb("auth", 0, "jwks"), {})
    assert answer["keys"] == gateway.codec.keys.ring.jwks
    assert all(set(key) == {"kty", "crv", "x", "y", "kid", "alg", "use"} for key in answer["keys"])
