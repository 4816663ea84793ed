from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from hypha_common.bus import Bus
from hypha_common.db import Database
from hypha_common.errors import BadRequest, Conflict, NotFound, PermissionDenied, Unavailable
from hypha_common.principal import Principal, Scope
from hypha_common.settings import Settings
from hypha_common.subjects import partition_of, role_verb
from hypha_workspace.main import run
from hypha_workspace.stores import Stores
from hypha_workspace.workspaces.record import Workspace
from tests.fixtures.auth import nats_url
from tests.manager.rig import Gateway

from .people import service, user

__all__ = ["nats_url"]

WS = "ws-user-alice"


@pytest.fixture
def settings(workspace_database_url: Callable[[], str], nats_url: str) -> Settings:
    return Settings.load(
        {
            "database_url": workspace_database_url(),
            "nats_url": nats_url,
            "workspace_unload_grace_period": 0,
            "drain_window": 0.1,
        },
        environ={},
    )


@pytest.fixture
async def replicas(settings: Settings) -> AsyncIterator[None]:
    """Two replicas of the workspace service in this process."""
    stop = asyncio.Event()
    running = [asyncio.create_task(run(settings, stop)) for _ in range(2)]
    yield
    stop.set()
    await asyncio.wait_for(asyncio.gather(*running), 20)


@pytest.fixture
async def gateway(settings: Settings, replicas: None) -> AsyncIterator[Gateway]:
    gateway = Gateway(settings)
    await gateway.start()
    async with asyncio.timeout(10):
        while not await _serves(gateway.bus):
            await asyncio.sleep(0.05)
    yield gateway
    await gateway.stop()


async def _serves(bus: Bus) -> bool:
    try:
        await ask(bus, "lease", {"gateway": bus.instance, "connections": 0, "load": {}}, partition=0)
    except Unavailable:
        return False
    return True


async def ask(bus: Bus, verb: str, message: dict[str, Any], *, partition: int | None = None) -> Any:
    at = partition_of(message.get("workspace", WS)) if partition is None else partition
    return await bus.request(role_verb("workspace", at, verb), {"partition": at, **message}, timeout=10)


async def connect(gateway: Gateway, principal: Principal, client_id: str = "c1", **options: Any) -> Any:
    message = {
        "workspace": f"ws-user-{principal.id}",
        "client_id": client_id,
        "user": principal.dump(),
        "gateway": gateway.bus.instance,
        "reconnect": False,
        **options,
    }
    return await ask(gateway.bus, "connect", message)


async def test_connect_and_disconnect(gateway: Gateway, stores: Stores) -> None:
    answer = await connect(gateway, user())
    assert set(answer) == {"workspace", "user", "permission", "generation", "instance", "moved_from"}
    assert (answer["workspace"], answer["permission"]) == (WS, "a")
    assert answer["user"]["scope"]["client_id"] == "c1"
    gone = {"workspace": WS, "client_id": "c1", "generation": answer["generation"], "reason": ""}
    assert await ask(gateway.bus, "disconnect", gone) == {"removed": True}
    assert await ask(gateway.bus, "disconnect", gone) == {"removed": False}
    assert await stores.clients.in_workspace(WS) == []


async def test_refusals(gateway: Gateway) -> None:
    with pytest.raises(NotFound, match=r"^Workspace ws-x does not exist or is not accessible$"):
        await connect(gateway, user(), workspace="ws-x")
    with pytest.raises(PermissionDenied, match=r"^Permission denied for workspace: public$"):
        await connect(gateway, user(), workspace="public")
    for workspace, client_id in (("*", "manager-x"), ("public", "hypha-auth"), ("ws-user-root", "hypha-workspace")):
        with pytest.raises(Conflict, match=r"^Client already exists and is active: "):
            await connect(gateway, user(), client_id, workspace=workspace)


async def test_ids_of_apps_are_reserved(gateway: Gateway) -> None:
    """Only a token that the apps service asked for makes a client an instance of an app."""
    with pytest.raises(PermissionDenied, match=r"^Client id _rapp_x is reserved for apps that this server starts$"):
        await connect(gateway, user(), "_rapp_x")
    answer = await connect(gateway, user().with_scope(extra_scopes=("app:my-app",)), "_rapp_x")
    assert answer["user"]["scope"]["extra_scopes"] == ["app:my-app"]


async def test_active_client_keeps_its_id(gateway: Gateway) -> None:
    client = await gateway.connect("c1", user(), WS)
    with pytest.raises(Conflict, match=rf"^Client already exists and is active: {WS}/c1$"):
        await connect(gateway, user())
    again = await connect(gateway, user(), reconnect=True)
    assert again["generation"] > client.link.generation
    await asyncio.wait_for(_superseded(client), 5)
    await client.leave()


async def test_silent_client_loses_its_id(gateway: Gateway, stores: Stores) -> None:
    client = await gateway.connect("c1", user(), WS)
    await client.leave()  # nobody listens at its subject: known at once, not after the 5 s of a ping
    answer = await asyncio.wait_for(connect(gateway, user()), 3)
    assert answer["generation"] > client.link.generation
    [row] = await stores.clients.in_workspace(WS)
    assert (row.generation, row.registered) == (answer["generation"], False)


async def _superseded(client: Any) -> None:
    # The rig's gateway reads the code of a kick, which only a deliberate one has.
    while (client.link.workspace, client.link.client_id) in client.link._gateway._links:
        await asyncio.sleep(0.01)


async def test_events(gateway: Gateway) -> None:
    watcher = await gateway.connect("watcher", user(), WS)
    events = await watcher.events("client_connected", "client_disconnected", "service_added")
    other = await gateway.connect("other", user(), WS)
    assert (await asyncio.wait_for(events.get(), 5))["data"] == {"id": f"{WS}/other", "workspace": WS}
    await other.leave()
    gone = {"workspace": WS, "client_id": "other", "generation": other.link.generation, "reason": ""}
    await ask(gateway.bus, "disconnect", gone)
    event = await asyncio.wait_for(events.get(), 5)
    assert {key: event[key] for key in ("type", "to", "data")} == {
        "type": "client_disconnected",
        "to": "*",
        "data": {"id": "other", "workspace": WS},
    }
    await watcher.leave()


async def test_clients_of_a_dead_gateway(gateway: Gateway, settings: Settings, database: Database) -> None:
    """The sweeper tells the others, once, within a second or two of the end of the lease."""
    watcher = await gateway.connect("watcher", user(), WS)
    events = await watcher.events("client_disconnected")
    doomed = Gateway(settings)
    await doomed.start()
    await doomed.connect("lost", user(), WS)
    await doomed.stop()
    expired = "UPDATE gateways SET expires_at = now() WHERE id = $1"
    assert await database.home.execute(expired, doomed.bus.instance) == 1
    event = await asyncio.wait_for(events.get(), 5)
    assert event["data"] == {"id": "lost", "workspace": WS}
    await asyncio.sleep(1.5)
    assert events.empty()
    await watcher.leave()


async def test_anonymous_workspace_goes_with_its_last_client(gateway: Gateway, stores: Stores) -> None:
    anonymous = Principal("anonymouz-x-1", ("anonymous",), is_anonymous=True, scope=Scope())
    answer = await connect(gateway, anonymous)
    gone = {"workspace": answer["workspace"], "client_id": "c1", "generation": answer["generation"], "reason": ""}
    await ask(gateway.bus, "disconnect", gone)
    async with asyncio.timeout(5):
        while await stores.workspaces.get(answer["workspace"]) is not None:
            await asyncio.sleep(0.05)


async def test_lease_and_reannounce(gateway: Gateway, database: Database) -> None:
    answer = await connect(gateway, user())
    lease = {"gateway": gateway.bus.instance, "connections": 1, "load": {}}
    assert await ask(gateway.bus, "lease", lease, partition=0) == {"known": True}
    await database.home.execute("TRUNCATE gateways, clients, services, loaded_workspaces")
    assert await ask(gateway.bus, "lease", lease, partition=0) == {"known": False}
    client = {"workspace": WS, "client_id": "c1", "generation": answer["generation"], "user": answer["user"]}
    announced = await ask(
        gateway.bus, "reannounce", {"gateway": gateway.bus.instance, "clients": [client]}, partition=0
    )
    assert announced == {"intact": 0, "restored": [[WS, "c1", answer["generation"]]], "superseded": []}
    assert await ask(gateway.bus, "lease", lease, partition=0) == {"known": True}


async def test_announce_and_resolve(gateway: Gateway) -> None:
    info = service("public", "hypha-auth", "hypha-login", visibility="public").info
    message = {"role": "auth", "client_id": "hypha-auth", "instance": "x", "services": [info]}
    assert await ask(gateway.bus, "announce", message) == {"services": 1}
    with pytest.raises(PermissionDenied):
        await ask(gateway.bus, "announce", {**message, "role": "apps"})
    query = {"service_id": "public/hypha-login", "mode": None, "user": user().dump(), "workspace": WS}
    found = await ask(gateway.bus, "resolve", query)
    assert (found["client"], found["service"]) == ("public/hypha-auth", "hypha-login")
    assert found["id"] == "public/hypha-auth:hypha-login"
    assert found["config"]["visibility"] == "public"
    with pytest.raises(NotFound, match=r"^Service not found: public/\*:nope@\*$"):
        await ask(gateway.bus, "resolve", {**query, "service_id": "public/nope"})


async def register(client: Any, name: str, **config: Any) -> None:
    await client.rpc.register_service(
        {"id": name, "load": lambda: len(client.link.client_id), "config": config}, {"notify": True}
    )


async def test_modes_and_visibility(gateway: Gateway) -> None:
    clients = [await gateway.connect(name, user(), WS) for name in ("c", "c22", "c1")]
    for client in clients:
        await register(client, "svc", authorized_workspaces=["ws-user-bob"])

    async def resolve(mode: str | None, who: str = "alice", service_id: str = f"{WS}/svc") -> str:
        message = {
            "service_id": service_id,
            "mode": mode,
            "user": user(who).dump(),
            "workspace": f"ws-user-{who}",
            "gateway": gateway.bus.instance,
        }
        found = await ask(gateway.bus, "resolve", message)
        if who != "alice":
            assert found["config"]["authorized_workspaces"] is None
        return str(found["client"]).partition("/")[2]

    assert await resolve("first") == "c"
    assert await resolve("last") == "c1"
    assert await resolve("select:max:load") == "c22"
    assert await resolve("select:min:load") == "c"
    assert await resolve("select:first_success:load") in {"c", "c22", "c1"}
    assert await resolve("select:min:missing") in {"c", "c22", "c1"}
    assert {await resolve("random") for _ in range(30)} == {"c", "c22", "c1"}
    assert await resolve("native:random") in {"c", "c22", "c1"}
    assert await resolve("min_load") in {"c", "c22", "c1"}
    assert await resolve("first", "bob") == "c"
    assert await resolve(None, service_id=f"{WS}/c22:svc") == "c22"
    with pytest.raises(BadRequest, match=r"^Multiple services found for ws-user-alice/\*:svc@\*, e.g. \[") as caught:
        await resolve(None)
    assert caught.value.rpc_type == "AssertionError"
    with pytest.raises(PermissionDenied, match=rf"^Permission denied for non-public service in workspace {WS}$"):
        await resolve("first", "eve")
    with pytest.raises(BadRequest, match=r"^You must specify a workspace for the service query"):
        await resolve("first", service_id="*/svc")
    for client in clients:
        await client.leave()


async def test_service_that_comes_while_it_is_looked_up(gateway: Gateway) -> None:
    """A stranger finds a public service or none, but is never told that it is hidden from him."""
    client = await gateway.connect("c1", user(), WS)
    query = {"service_id": f"{WS}/svc", "mode": None, "user": user("eve").dump(), "workspace": "ws-user-eve"}
    outcomes: list[str] = []
    done = asyncio.Event()

    async def look_up() -> None:
        while not done.is_set():
            try:
                outcomes.append((await ask(gateway.bus, "resolve", query))["service"])
            except NotFound:
                outcomes.append("none")

    looking = [asyncio.create_task(look_up()) for _ in range(8)]
    for _ in range(60):
        await client.manager.register_service({"id": "c1:svc", "config": {"visibility": "public"}})
        await client.manager.unregister_service("svc")
    done.set()
    await asyncio.gather(*looking)
    assert set(outcomes) == {"svc", "none"}
    await client.leave()


async def test_least_loaded_provider(gateway: Gateway) -> None:
    """By the frames a minute that gateways report of clients which are made for sharing; others count as idle."""
    clients = [await gateway.connect(client_id, user(), WS) for client_id in ("busy__rlb", "calm__rlb")]
    for client in clients:
        await client.rpc.register_service({"id": "svc"})
    query = {"service_id": f"{WS}/svc", "mode": "min_load", "user": user().dump(), "workspace": WS}

    async def chosen(**load: int) -> set[str]:
        reported = {f"{WS}/{client}": frames for client, frames in load.items()}
        lease = {"gateway": gateway.bus.instance, "connections": 2, "load": reported}
        await ask(gateway.bus, "lease", lease, partition=0)
        return {(await ask(gateway.bus, "resolve", query))["client"].partition("/")[2] for _ in range(5)}

    assert await chosen(busy__rlb=30, calm__rlb=2) == {"calm__rlb"}
    assert await chosen(busy__rlb=1, calm__rlb=2) == {"busy__rlb"}
    for client in clients:
        await client.leave()


async def test_info(gateway: Gateway, stores: Stores) -> None:
    async def info(workspace: str, principal: Principal) -> Any:
        return await ask(gateway.bus, "info", {"workspace": workspace, "user": principal.dump()})

    await stores.workspaces.create(Workspace(id="ws-team", owners=("alice",), environs={"SECRET": 1}))
    assert (await info("ws-team", user()))["config"]["environs"] == {"SECRET": 1}
    assert "environs" not in (await info("ws-team", user("eve", ws_team="r")))["config"]
    with pytest.raises(PermissionDenied, match=r"^eve has no permission to access ws-team$"):
        await info("ws-team", user("eve"))
    with pytest.raises(PermissionDenied):
        await info("ws-nowhere", user("eve"))
    with pytest.raises(NotFound):
        await info("ws-nowhere", user("eve", ws_nowhere="r"))
    assert (await info("ws-user-eve", user("eve")))["id"] == "ws-user-eve"
