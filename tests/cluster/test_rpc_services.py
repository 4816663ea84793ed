from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.clients import Connect


@pytest.fixture
async def team(cluster: RunningCluster, connect: Connect) -> list[Any]:
    """Three clients in one workspace that each register the service ``work``."""
    token = cluster.user_token()
    members = [await connect(token=token, client_id=f"worker-{name}") for name in "abc"]
    for load, member in enumerate(members):
        await member.register_service(_work(member.config.client_id, load))
    return members


def _work(name: str, load: float, **more: Any) -> dict[str, Any]:
    async def run(x: int) -> list[Any]:
        return [name, x]

    return {"id": "work", "type": "worker", "run": run, "get_load": lambda: load, **more}


async def test_ids(team: list[Any]) -> None:
    """Each form of an id finds the service; the full one comes back."""
    a = team[0]
    workspace = a.config.workspace
    full = f"{workspace}/worker-b:work"
    for service_id in (full, "worker-b:work", f"{full}@*"):
        service = await a.get_service(service_id)
        assert service.id == full
        assert await service.run(1) == ["worker-b", 1]
    assert (await a.get_service_info(full)).id == full
    for service_id, error in [
        ("nobody", f"KeyError: 'Service not found: {workspace}/*:nobody@*'"),
        ("worker-x:work", "Service not found"),
        ("a/b/c", "must contain at most one '/'"),
        ("a:b:c", "must contain at most one ':'"),
        ("*", "AssertionError"),
    ]:
        with pytest.raises(Exception, match=error.replace("*", r"\*")):
            await a.get_service(service_id)


async def test_selection_modes(team: list[Any]) -> None:
    client = team[2]

    async def chosen(mode: str | None) -> str:
        service = await client.get_service("work", {"mode": mode} if mode else None)
        return str((await service.run(0))[0])

    assert await chosen("first") != await chosen("last")
    assert await chosen("select:min:get_load") == "worker-a"
    assert await chosen("select:max:get_load") == "worker-c"
    names = {"worker-a", "worker-b", "worker-c"}
    for mode in ("native:random", "min_load", "select:first_success:get_load"):
        assert await chosen(mode) in names
    picked = Counter(await asyncio.gather(*(chosen("random") for _ in range(40))))
    assert set(picked) == names
    for mode, error in [
        (None, "Multiple services found"),
        ("exact", "Multiple services found"),
        ("nonsense", "Invalid mode: nonsense"),
        ("select:min", "Invalid select mode format"),
    ]:
        with pytest.raises(Exception, match=error):
            await chosen(mode)


async def test_list_services(team: list[Any]) -> None:
    client = team[0]
    workspace = client.config.workspace
    await client.register_service({"id": "open", "type": "door", "config": {"visibility": "public"}})
    await client.register_service({"id": "secret", "config": {"visibility": "unlisted"}})

    async def ids(*args: Any, **kwargs: Any) -> list[str]:
        found = await client.list_services(*args, **kwargs)
        return sorted(service["id"].removeprefix(f"{workspace}/") for service in found)

    workers = [f"worker-{name}:work" for name in "abc"]
    builtins = [f"worker-{name}:built-in" for name in "abc"]
    assert await ids() == sorted([*workers, *builtins, "worker-a:open"])
    assert await ids(include_unlisted=True) == sorted([*workers, *builtins, "worker-a:open", "worker-a:secret"])
    assert await ids({"type": "worker"}) == workers
    assert await ids({"service_id": "work"}) == await ids({"id": "w*k"}) == workers
    assert await ids({"client_id": "worker-b", "type": "worker"}) == ["worker-b:work"]
    assert await ids({"visibility": "public", "type": "door"}) == ["worker-a:open"]
    assert await ids(workspace) == await ids()
    assert await ids(f"{workspace}/work") == await ids("*:work") == workers
    assert await ids("worker-c:work") == ["worker-c:work"]
    for query, error in [
        ({"colour": "red"}, "Invalid query keys"),
        ({"id": "a", "service_id": "b"}, "AssertionError"),
        ({"id": "a'; --"}, "Invalid characters in query part"),
    ]:
        with pytest.raises(Exception, match=error):
            await client.list_services(query)


async def test_other_workspaces_see_only_what_is_public(team: list[Any], connect: Connect) -> None:
    """Protected services are neither listed nor handed out nor callable; unlisted ones are not listed."""
    a = team[0]
    for visibility in ("public", "unlisted"):
        await a.register_service({"id": visibility, "config": {"visibility": visibility}, "f": lambda: 1})
    workspace = a.config.workspace
    stranger = await connect()

    listed = await stranger.list_services({"workspace": workspace, "visibility": "public", "client_id": "worker-a"})
    assert {service["id"].split(":")[1] for service in listed} == {"public", "built-in"}
    for name in ("public", "unlisted"):
        assert await (await stranger.get_service(f"{workspace}/worker-a:{name}")).f() == 1
    with pytest.raises(
        Exception, match=f"PermissionError: Permission denied for non-public service in workspace {workspace}"
    ):
        await stranger.get_service(f"{workspace}/worker-a:work")


async def test_authorized_workspaces(team: list[Any], connect: Connect) -> None:
    """A protected service opens to the workspaces that it names, and to no others."""
    friend, stranger = await connect(), await connect()
    config = {"visibility": "protected", "authorized_workspaces": [friend.config.workspace]}
    registered = await team[0].register_service({"id": "shared", "config": config, "f": lambda: 1})
    service = await friend.get_service(registered.id)
    assert await service.f() == 1
    assert "authorized_workspaces" not in service.config
    with pytest.raises(Exception, match="Permission denied"):
        await stranger.get_service(registered.id)


async def test_register_again_and_unregister(connect: Connect) -> None:
    server = await connect()
    registered = await server.register_service({"id": "s", "f": lambda: 1})
    with pytest.raises(Exception, match="already exists"):
        await server.register_service({"id": "s", "f": lambda: 2})
    await server.register_service({"id": "s", "f": lambda: 2}, {"overwrite": True})
    assert await (await server.get_service(registered.id)).f() == 2
    await server.unregister_service("s")
    with pytest.raises(Exception, match="Service not found"):
        await server.get_service("s")


async def test_singleton(team: list[Any]) -> None:
    a, b, _ = team
    single = {"id": "one", "config": {"singleton": True}}
    await a.register_service(single)
    with pytest.raises(Exception, match="singleton service with the same name"):
        await b.register_service(single)
    assert [service["id"] for service in await b.list_services({"id": "one"})] == [f"{a.config.workspace}/worker-a:one"]


async def test_what_a_proxy_says_about_itself(cluster: RunningCluster, connect: Connect) -> None:
    """Names, documentation and schemas of functions arrive; so does where to call them by HTTP."""

    def add(a: int, b: int = 2) -> int:
        """Add two numbers."""
        return a + b

    server = await connect()
    config = {"visibility": "public", "custom": {"key": 1}}
    registered = await server.register_service(
        {"id": "math", "name": "Mathematics", "description": "Numbers", "docs": "# How", "config": config, "add": add}
    )
    service = await (await connect()).get_service(registered.id)
    assert (service.name, service.description, service.docs) == ("Mathematics", "Numbers", "# How")
    assert service.config.custom == {"key": 1}
    workspace, name = registered.id.split("/")
    assert service.config.url == f"{cluster.url}/{workspace}/services/{name}"
    assert service.add.__name__ == "add"
    assert service.add.__doc__ == "Add two numbers."
    schema = (await server.get_service_info(registered.id)).service_schema
    assert schema.add.function.name == "add"
    assert schema.add.function.parameters.required == ["a"]


async def test_case_conversion(connect: Connect) -> None:
    server = await connect()
    registered = await server.register_service({"id": "cases", "do_it": lambda: 1})
    service = await server.get_service(registered.id, {"case_conversion": "camel"})
    assert await service.doIt() == 1


async def test_apps_and_shortcuts(cluster: RunningCluster, connect: Connect) -> None:
    """``export``, ``get_app`` and ``list_apps`` build on plain services."""
    token = cluster.user_token()
    one, two = await connect(token=token), await connect(token=token)
    await one.export({"config": {"visibility": "public"}, "hello": lambda: "hi"})
    assert await (await two.get_app(one.config.client_id)).hello() == "hi"
    assert [app["id"] for app in await two.list_apps()] == [f"{one.config.workspace}/{one.config.client_id}:default"]


async def test_context(cluster: RunningCluster, connect: Connect) -> None:
    """The callee learns who calls, from where, and cannot be told otherwise."""
    contexts: list[dict[str, Any]] = []
    provider = await connect()
    config = {"visibility": "public", "require_context": True}
    registered = await provider.register_service(
        {"id": "who", "config": config, "ask": lambda x, context=None: contexts.append(context)}
    )
    caller = await connect(token=cluster.user_token("ada"))
    service = await caller.get_service(registered.id)
    await service.ask(1)
    await service.ask(1, context={"user": {"id": "root"}})
    assert [context["user"]["id"] for context in contexts] == ["ada", "ada"]
    assert contexts[0]["from"] == f"ws-user-ada/{caller.config.client_id}"
    assert contexts[0]["to"] == f"{provider.config.workspace}/{provider.config.client_id}"
    assert contexts[0]["ws"] == "ws-user-ada"


async def test_the_manager_as_a_service(connect: Connect) -> None:
    """Every method of the manager says what it is called, and is reached under ``~`` too."""
    server = await connect()
    for name, value in server.items():
        if callable(value) and hasattr(value, "__schema__"):
            assert value.__schema__["name"] == name
    manager = await server.get_service("~")
    assert await manager.echo("x") == "x"
    with pytest.raises(Exception, match="got an unexpected keyword argument 'colour'"):
        await server.list_services(colour="red")
    with pytest.raises(Exception, match="Missing required argument: 'data'"):
        await server.echo()
