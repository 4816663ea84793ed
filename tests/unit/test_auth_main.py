from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from hypha_auth.main import run
from hypha_common.bus import Bus
from hypha_common.db import Database
from hypha_common.envelope import call, open_envelope
from hypha_common.errors import ConfigurationError, Unavailable
from hypha_common.ids import Address
from hypha_common.principal import Principal
from hypha_common.rpc import RemoteError, RpcPeer
from hypha_common.settings import Settings
from hypha_common.subjects import client_frames, pinned, role_verb
from hypha_common.tokens import TokenCodec
from tests.fixtures.auth import ROOT_TOKEN, SECRET, auth_database, auth_settings, bus, eventually, nats_url, postgres

__all__ = ["auth_database", "auth_settings", "bus", "nats_url", "postgres"]

HERE = Address("ws-user-test", "program")
AUTH = Address("public", "hypha-auth")


class Program:
    """A client of the hub, seen from the bus."""

    def __init__(self, bus: Bus, replicas: Iterable[str]) -> None:
        self._bus = bus
        self._replicas = deque(replicas)
        self.peer = RpcPeer(send=self._send, server_base_url="http://hub.example.org")

    async def start(self) -> None:
        subject = client_frames(HERE.workspace, HERE.client)
        await self._bus.subscribe(subject, lambda _s, _r, payload: self.peer.receive(open_envelope(payload).body))
        await self._bus.flush()

    def _send(self, frame: bytes, **how: Any) -> None:
        """Send as a gateway does, to one replica after another."""
        self._replicas.rotate()
        self._bus.publish(pinned("auth", self._replicas[0]), call(self._bus.instance_bytes, 1, frame))

    async def login(self, method: str, **kwargs: Any) -> Any:
        name = f"services.hypha-login.{method}"
        return await self.peer.call(
            AUTH,
            name,
            kwargs=kwargs,
            sender=HERE,
            workspace=HERE.workspace,
            user=Principal(id="test").dump(),
            timeout=5,
        )


@pytest.fixture
async def program(bus: Bus, replicas: Any, announced: list[dict[str, Any]]) -> AsyncIterator[Program]:
    started = Program(bus, {message["instance"] for message in announced})
    await started.start()
    yield started
    await started.peer.close()


@pytest.fixture
async def announced(bus: Bus) -> list[dict[str, Any]]:
    """What the workspace role hears of the replicas' services."""
    heard: list[dict[str, Any]] = []

    async def announce(message: dict[str, Any]) -> dict[str, Any]:
        heard.append(message)
        return {}

    await bus.serve("workspace", "announce", announce)
    return heard


@pytest.fixture
async def replicas(
    auth_settings: Settings, auth_database: Database, announced: list[dict[str, Any]]
) -> AsyncIterator[list[tuple[asyncio.Event, asyncio.Task[None]]]]:
    started = []
    for _ in range(2):
        stop = asyncio.Event()
        started.append((stop, asyncio.create_task(run(auth_settings, stop))))
    await eventually(lambda: len({message["instance"] for message in announced}) == 2, timeout=10)
    yield started
    for stop, _ in started:
        stop.set()
    await asyncio.gather(*(task for _, task in started))


async def test_announces_its_service(replicas: Any, announced: list[dict[str, Any]]) -> None:
    """Clients find hypha-login in public, as a page and as functions."""
    services = {service["id"]: service for service in announced[0]["services"]}
    login = services["public/hypha-auth:hypha-login"]
    assert (login["type"], login["config"]["visibility"]) == ("functions", "public")
    methods = {"start", "check", "report", "index", "profile", "logout", "generate"}
    of_accounts = {"signup", "verify_email", "resend_code", "login", "update_profile", "change_password"}
    assert set(login["service_schema"]) == methods | of_accounts | {"forgot_password", "reset_password"}
    assert (announced[0]["role"], announced[0]["client_id"]) == ("auth", "hypha-auth")


async def test_login_through_any_replica(replicas: Any, program: Program) -> None:
    """Steps of a login spread over the replicas, and come to their end."""
    token = TokenCodec(SECRET).sign(Principal(id="alice"), life_s=60)
    for _ in range(5):
        started = await program.login("start")
        waiting = asyncio.create_task(program.login("check", key=started["key"], timeout=10))
        await program.login("report", key=started["key"], token=token)
        assert await waiting == token
    with pytest.raises(RemoteError, match="AssertionError: Invalid key, key does not exist"):
        await program.login("check", key="nokey", timeout=0)


async def test_verbs_are_served(replicas: Any, bus: Bus) -> None:
    answer = await bus.request(role_verb("auth", 0, "authenticate"), {"token": ROOT_TOKEN})
    assert answer["user"]["id"] == "root"


async def test_one_replica_leaves(replicas: Any, bus: Bus) -> None:
    """While one stops, every request is answered by the other."""
    stop, task = replicas[0]
    stop.set()
    while not task.done():
        await bus.request(role_verb("auth", 0, "authenticate"), {"token": ROOT_TOKEN}, timeout=2)
    await task
    await bus.request(role_verb("auth", 0, "authenticate"), {"token": ROOT_TOKEN}, timeout=2)


async def test_no_bus(auth_settings: Settings) -> None:
    """Without a bus it says so instead of starting."""
    with pytest.raises(Unavailable, match="Cannot reach the bus"):
        await run(auth_settings.replace(nats_url="nats://127.0.0.1:1"), asyncio.Event())


async def test_stopped_while_waiting_for_the_schema(auth_settings: Settings, nats_url: str) -> None:
    """It waits for a database that is not there yet, and can be stopped meanwhile."""
    stop = asyncio.Event()
    settings = auth_settings.replace(database_url="postgresql://nobody@127.0.0.1:1/none")
    task = asyncio.create_task(run(settings, stop))
    await asyncio.sleep(0.3)
    assert not task.done()
    stop.set()
    await asyncio.wait_for(task, 5)


async def test_no_secret(auth_settings: Settings) -> None:
    """Without the cluster's secret nothing starts."""
    with pytest.raises(ConfigurationError, match="jwt_secret"):
        await run(
            Settings.load({"nats_url": "nats://127.0.0.1:1", "database_url": "postgresql://x/y"}, environ={}),
            asyncio.Event(),
        )
