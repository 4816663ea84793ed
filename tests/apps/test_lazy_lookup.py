from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypha_rpc import connect_to_server
from hypha_rpc.rpc import RemoteException

from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.app_worker import app_worker, create_app
from tests.fixtures.scripts import StartScript

from .conftest import ConnectUser

PUBLIC = [{"id": "default", "config": {"visibility": "public"}}]
PROTECTED = [{"id": "default"}]


async def test_looking_up_a_service_starts_its_app(connect_user: ConnectUser) -> None:
    """Once; afterwards the running one is found. What says nothing of starting does not."""
    server = await connect_user()
    async with app_worker(server) as worker:
        await create_app(server, "sleeper", service_selection_mode="last")
        with pytest.raises(RemoteException, match=r"KeyError: 'Service not found: ws-user-.*/\*:default@sleeper'"):
            await server.get_service_info("default@sleeper")
        assert worker.started == []
        service = await server.get_service("default@sleeper")
        assert await service.hello("Ada") == "hello Ada"
        assert service.id == f"{worker.started[0]}:default"
        assert (await server.get_service_info("default@sleeper")).app_id == "sleeper"
        again = await server.get_service(f"{server.config.workspace}/default@sleeper", {"mode": "random"})
        assert again.id == service.id
        assert len(worker.started) == 1


@pytest.mark.node
async def test_javascript_starts_an_app(
    connect_user: ConnectUser, apps_cluster: RunningCluster, start_script: StartScript
) -> None:
    """An unmodified client, from another workspace."""
    server = await connect_user()
    async with app_worker(server) as worker:
        await create_app(server, "from-js", services=PUBLIC)
        script = await start_script(
            f"""
            const server = await hyphaWebsocketClient.connectToServer({{server_url: "{apps_cluster.url}"}});
            const service = await server.getService("{server.config.workspace}/default@from-js", {{mode: "random"}});
            console.log(await service.hello("Node"));
            process.exit(0);
            """,
            language="js",
        )
        assert "hello Node" in await script.end()
        assert len(worker.started) == 1


async def test_what_instances_register_belongs_to_their_app(connect_user: ConnectUser) -> None:
    """Whatever they say; and nobody else comes to a name that is kept for them."""
    server = await connect_user()

    async def behave(client: Any, config: Any) -> None:
        await client.register_service({"id": "default", "app_id": "another"})
        await client.register_service({"id": "second", "type": "two"})

    async with app_worker(server, behaviour=behave):
        await create_app(server, "modest", services=[{"id": "default"}, {"id": "second"}])
        await server.get_service("default@modest")
        found = await server.list_services({"app_id": "modest"})
        assert [info["id"].partition(":")[2] for info in found] == ["built-in", "default", "second"]
        with pytest.raises(Exception, match="Client id _rapp_me is reserved for apps"):
            await connect_user(client_id="_rapp_me")


async def test_however_many_look_it_up_one_instance_starts(connect_user: ConnectUser) -> None:
    """Twenty at once, from two gateways, with the mode that would refuse two instances."""
    servers = [await connect_user("lazy-many", gateway=gateway) for gateway in (0, 1)]
    async with app_worker(servers[0]) as worker:
        await create_app(servers[0], "wanted", service_selection_mode="exact")
        found = await asyncio.gather(*(servers[n % 2].get_service("default@wanted") for n in range(20)))
        assert {service.id for service in found} == {f"{worker.started[0]}:default"}
        assert len(worker.started) == 1


async def test_from_another_workspace(connect_user: ConnectUser, apps_cluster: RunningCluster) -> None:
    """Where the manifest says public anybody may have it started, also without a token."""
    owner, stranger = await connect_user(), await connect_user()
    home = owner.config.workspace
    async with app_worker(owner) as worker:
        await create_app(owner, "open", services=PUBLIC)
        async with connect_to_server({"server_url": apps_cluster.url}) as nobody:
            service = await nobody.get_service(f"{home}/default@open")
            assert await service.hello("you") == "hello you"
        assert (await stranger.get_service(f"{home}/default@open")).id == f"{worker.started[0]}:default"
        assert len(worker.started) == 1


async def test_protected_app_is_not_started_for_others(connect_user: ConnectUser, apps_cluster: RunningCluster) -> None:
    """Neither for somebody without a token nor for a stranger; those are let in whose workspace is named."""
    owner, friend, stranger = [await connect_user() for _ in range(3)]
    home = owner.config.workspace
    shared = [{"id": "default", "config": {"authorized_workspaces": [friend.config.workspace]}}]

    async def behave(client: Any, config: Any) -> None:
        authorized = {"visibility": "protected", "authorized_workspaces": [friend.config.workspace]}
        await client.register_service({"id": "default", "config": authorized, "ping": lambda: "pong"})

    async with app_worker(owner, behaviour=behave) as worker:
        await create_app(owner, "shut", services=PROTECTED)
        await create_app(owner, "shared", services=shared)
        async with connect_to_server({"server_url": apps_cluster.url}) as nobody:
            for server in (nobody, stranger):
                for app in ("shut", "shared"):
                    with pytest.raises(RemoteException, match="PermissionError: Permission denied for non-public"):
                        await server.get_service(f"{home}/default@{app}")
        with pytest.raises(RemoteException, match="PermissionError"):
            await friend.get_service(f"{home}/default@shut")
        assert worker.started == []
        service = await friend.get_service(f"{home}/default@shared")
        assert service.config.get("authorized_workspaces") is None
        assert len(worker.started) == 1


async def test_permission_is_checked_again_when_it_runs(connect_user: ConnectUser) -> None:
    """A manifest may say public of what turns out to be protected."""
    owner, stranger = await connect_user(), await connect_user()

    async def behave(client: Any, config: Any) -> None:
        await client.register_service({"id": "default", "config": {"visibility": "protected"}})

    async with app_worker(owner, behaviour=behave):
        await create_app(owner, "promising", services=PUBLIC)
        with pytest.raises(RemoteException, match="PermissionError: Permission denied for non-public service"):
            await stranger.get_service(f"{owner.config.workspace}/default@promising")


async def test_two_tenants_with_the_same_alias(connect_user: ConnectUser) -> None:
    """Each has his own instance, and none is found in the other's workspace."""
    ada, bob = await connect_user(), await connect_user()
    async with app_worker(ada) as adas, app_worker(bob) as bobs:
        for server in (ada, bob):
            await create_app(server, "twin", services=PUBLIC)
        found = await asyncio.gather(ada.get_service("default@twin"), bob.get_service("default@twin"))
        assert [service.id for service in found] == [f"{worker.started[0]}:default" for worker in (adas, bobs)]
        assert found[0].config.workspace == ada.config.workspace
        assert found[1].config.workspace == bob.config.workspace
        assert (len(adas.started), len(bobs.started)) == (1, 1)


async def test_unknown_names(connect_user: ConnectUser) -> None:
    """A service the manifest does not list, an app that is none, and one that only groups services, start nothing."""
    server = await connect_user()
    async with app_worker(server, "custom", "application") as worker:
        await create_app(server, "known")
        await create_app(server, "group", type="application")
        for query, text in (
            ("other@known", r"Service not found: .*\(Service id `other` not found in application `known`\)"),
            ("default@nothing", r"Service not found: .*\(Application id `nothing` not found in workspace ws-user-"),
            ("default@group", r"Service not found: ws-user-.*/\*:default@group'"),
            ("somebody:default@known", r"Service not found: ws-user-.*/somebody:default@known'"),
        ):
            with pytest.raises(RemoteException, match=f"KeyError: ['\"]{text}"):
                await server.get_service(query)
        assert worker.started == []
