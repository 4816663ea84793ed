from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from hypha_rpc.rpc import RemoteException

from hypha_common.principal import Permission
from tests.manager.rig import Client, Gateway, user


def hello(name: str) -> str:
    """Greet."""
    return f"hello {name}"


def service(service_id: str, **extra: Any) -> dict[str, Any]:
    return {"id": service_id, "say_hello": hello, **extra}


async def register(client: Client, service_id: str, **extra: Any) -> Any:
    return await client.rpc.register_service(service(service_id, **extra), {"overwrite": True})


async def next_event(queue: asyncio.Queue[dict[str, Any]]) -> dict[str, Any]:
    return await asyncio.wait_for(queue.get(), 5)


async def test_register_call_and_events(gateway: Gateway) -> None:
    """A second client sees the service come and be replaced, finds it and calls it."""
    a = await gateway.connect("a", user("sam"), "ws-user-sam")
    b = await gateway.connect("b", user("sam"), "ws-user-sam")
    events = await b.events("service_added", "service_removed", "client_connected")
    info = await register(a, "greeter", description="Greets", config={"flags": ["x"], "my_key": 1})
    assert info["id"] == "ws-user-sam/a:greeter"
    added = await next_event(events)
    assert added["type"] == "service_added"
    assert added["data"] == {
        "config": {
            "visibility": "protected",
            "require_context": False,
            "workspace": "ws-user-sam",
            "flags": ["x"],
            "singleton": False,
            "created_by": {"id": "sam"},
            "service_embedding": None,
            "authorized_workspaces": None,
            "my_key": 1,
        },
        "id": "ws-user-sam/a:greeter",
        "name": "greeter",
        "type": "generic",
        "description": "Greets",
        "docs": None,
        "app_id": "*",
        "service_schema": added["data"]["service_schema"],
    }
    assert added["data"]["service_schema"]["say_hello"]["type"] == "function"
    found = await b.manager.get_service("greeter")
    assert found["id"] == "ws-user-sam/a:greeter"
    assert found["config"]["workspace"] == "ws-user-sam"
    assert found["config"]["url"] == "http://hub.example/ws-user-sam/services/a:greeter"
    assert await found["say_hello"]("you") == "hello you"
    await register(a, "greeter", description="Greets again")
    assert [(await next_event(events))["type"] for _ in range(2)] == ["service_removed", "service_added"]
    await gateway.connect("c", user("sam"), "ws-user-sam")
    connected = await next_event(events)
    assert connected["type"] == "client_connected"
    assert connected["data"] == {"id": "ws-user-sam/c", "workspace": "ws-user-sam"}


async def test_app_id_is_read_from_the_provider(gateway: Gateway) -> None:
    """Clients keep the `app_id` of a service map to themselves; the manager asks for it before it answers."""
    a = await gateway.connect("a", user("ann"), "ws-user-ann")
    events = await a.events("service_added", "service_removed")
    await register(a, "worker", app_id="my-app")
    assert (await next_event(events))["data"]["app_id"] == "my-app"
    assert (await a.manager.get_service("worker@my-app"))["id"] == "ws-user-ann/a:worker"
    assert (await a.manager.get_service_info("worker"))["app_id"] == "my-app"
    assert [s["id"] for s in await a.manager.list_services({"app_id": "my-app"})] == ["ws-user-ann/a:worker"]
    with pytest.raises(RemoteException, match="KeyError: 'Service not found: ws-user-ann/\\*:worker@other'"):
        await a.manager.get_service("worker@other")
    with pytest.raises(Exception, match="AssertionError: App id info must not contain '/'"):
        await register(a, "wrong", app_id="a/b")
    with pytest.raises(RemoteException, match="Service not found"):
        await a.manager.get_service("wrong")
    assert events.empty()


async def test_setup_of_the_default_service(gateway: Gateway) -> None:
    """The first registration of `default` sets it up; that takes its time, and a failure there is not the other's."""
    a = await gateway.connect("a", user("dan"), "ws-user-dan")
    calls: list[str] = []
    called, go = asyncio.Event(), asyncio.Event()

    async def setup() -> None:
        calls.append("setup")
        called.set()
        await go.wait()
        raise ValueError("not today")

    await register(a, "default", setup=setup)
    await asyncio.wait_for(called.wait(), 10)
    await register(a, "default", setup=setup)
    go.set()
    assert await a.manager.echo("still here") == "still here"
    assert calls == ["setup"]


async def test_what_a_client_may_not_register(gateway: Gateway) -> None:
    a = await gateway.connect("a", user("max"), "ws-user-max")
    for info, text in (
        ({"id": "svc"}, "AssertionError: Service id info must contain ':'"),
        ({"id": "ws-other/a:svc"}, "PermissionError: Service ID workspace prefix 'ws-other' does not match"),
        ({"id": "ws-user-max/b:svc"}, "PermissionError: Service ID client 'b' does not match"),
        ({"id": "a:svc", "config": {"visibility": "secret"}}, "ValueError: Invalid visibility: secret"),
    ):
        with pytest.raises(RemoteException, match=text):
            await a.manager.register_service(info)
    assert await a.manager.register_service({"id": "a:_rintf_1"}) is None
    assert [s["id"] for s in await a.manager.list_services()] == ["ws-user-max/a:built-in"]


async def test_quota_and_singletons(gateway: Gateway) -> None:
    a = await gateway.connect("a", user("quin"), "ws-user-quin")
    b = await gateway.connect("b", user("quin"), "ws-user-quin")
    await register(a, "one", config={"singleton": True})
    await register(a, "one", config={"singleton": True})
    text = r"ValueError: A singleton service with the same name \(one\) has already exists in the workspace"
    with pytest.raises(Exception, match=text):
        await register(b, "one")
    await register(b, "two")
    with pytest.raises(Exception, match=r"ValueError: A singleton service with the same name \(two\) already exists"):
        await register(a, "two", config={"singleton": True})
    for number in range(29):
        await register(a, f"s{number}")
    with pytest.raises(Exception, match="RuntimeError: Service quota exceeded"):
        await register(a, "more")


async def test_unregister(gateway: Gateway) -> None:
    """A client's own service is meant; those of others need an administrator, those of others' workspaces are safe."""
    a = await gateway.connect("a", user("una"), "ws-user-una")
    b = await gateway.connect("b", user("bea", ws_user_una=Permission.READ_WRITE), "ws-user-una")
    events = await a.events("service_removed", "client_disconnected")
    await register(a, "svc", config={"visibility": "public"})
    await register(b, "svc")
    await b.rpc.unregister_service("svc")
    assert (await next_event(events))["data"]["id"] == "ws-user-una/b:svc"
    with pytest.raises(RemoteException, match="PermissionError: Permission denied for workspace"):
        await b.manager.unregister_service("svc")
    stranger = await gateway.connect("x", user("eve"), "ws-user-eve")
    with pytest.raises(RemoteException, match="PermissionError: Permission denied for workspace ws-user-una"):
        await stranger.manager.unregister_service("ws-user-una/a:svc")
    with pytest.raises(RemoteException, match="KeyError: 'Service not found: ws-user-una/\\*:nope@\\*'"):
        await a.manager.unregister_service("nope")
    await a.manager.unregister_service("b:built-in")
    assert (await next_event(events))["data"] == {"id": "b", "workspace": "ws-user-una"}


async def test_provider_that_is_gone(gateway: Gateway) -> None:
    """Nobody waits for a provider that is not connected; one that is silent costs the timeout that was asked for."""
    a = await gateway.connect("a", user("gus"), "ws-user-gus")
    b = await gateway.connect("b", user("gus"), "ws-user-gus")
    await register(b, "svc")
    b.link.silent = True
    with pytest.raises(RemoteException, match="TimeoutError"):
        await a.manager.get_service("svc", {"timeout": 0.3})
    await b.leave()
    started = time.monotonic()
    with pytest.raises(RemoteException, match="Target peer ws-user-gus/b is not connected"):
        await a.manager.get_service("svc")
    assert time.monotonic() - started < 0.5


async def test_selection(gateway: Gateway) -> None:
    """Modes, forms of ids, and what they raise."""
    a = await gateway.connect("a", user("sel"), "ws-user-sel")
    b = await gateway.connect("b", user("sel"), "ws-user-sel")
    await register(a, "svc", load=lambda: 2)
    await register(b, "svc", load=lambda: 1)
    manager = a.manager
    with pytest.raises(RemoteException, match="AssertionError: Multiple services found for ws-user-sel/\\*:svc"):
        await manager.get_service("svc")
    assert (await manager.get_service("svc", {"mode": "first"}))["id"] == "ws-user-sel/a:svc"
    assert (await manager.get_service("svc", config={"mode": "last"}))["id"] == "ws-user-sel/b:svc"
    assert (await manager.get_service_info("svc", {"mode": "select:min:load"}))["id"] == "ws-user-sel/b:svc"
    assert (await manager.get_service("b:svc"))["id"] == "ws-user-sel/b:svc"
    with pytest.raises(RemoteException, match="ValueError: Invalid mode: best"):
        await manager.get_service("svc", {"mode": "best"})
    with pytest.raises(RemoteException, match="KeyError: 'Service not found: ws-user-sel/\\*:nope@\\*'"):
        await manager.get_service("nope")
    with pytest.raises(RemoteException, match="AssertionError: Service id must contain at most one ':'"):
        await manager.get_service("a:b:c")
    camel = await manager.get_service("a:svc", {"case_conversion": "camel", "unknown": 1})
    assert await camel["sayHello"]("you") == "hello you"


async def test_visibility(gateway: Gateway) -> None:
    """Protected services are for their workspace and for those named."""
    a = await gateway.connect("a", user("vic"), "ws-user-vic")
    eve = await gateway.connect("x", user("eve"), "ws-user-eve")
    await register(a, "open", config={"visibility": "public"})
    await register(a, "hidden", config={"visibility": "unlisted"})
    await register(a, "shut")
    await register(a, "shared", config={"authorized_workspaces": ["ws-user-eve"]})
    assert await (await eve.manager.get_service("ws-user-vic/open"))["say_hello"]("x") == "hello x"
    assert await (await eve.manager.get_service("ws-user-vic/hidden"))["say_hello"]("x") == "hello x"
    shared = await eve.manager.get_service_info("ws-user-vic/shared")
    assert shared["config"]["authorized_workspaces"] is None
    text = "PermissionError: Permission denied for non-public service in workspace ws-user-vic"
    with pytest.raises(RemoteException, match=text):
        await eve.manager.get_service("ws-user-vic/shut")

    def names(found: list[dict[str, Any]]) -> list[str]:
        return sorted(s["id"].partition(":")[2] for s in found)

    assert names(await eve.manager.list_services("ws-user-vic")) == ["built-in", "open", "shared"]
    assert names(await a.manager.list_services()) == ["built-in", "open", "shared", "shut"]
    assert "hidden" in names(await a.manager.list_services(include_unlisted=True))
    assert names(await a.manager.list_services({"visibility": "public", "service_id": "o*"})) == ["open"]
    everywhere = await eve.manager.list_services("*")
    assert "ws-user-vic/a:open" in {s["id"] for s in everywhere}
    assert "ws-user-vic/a:shut" not in {s["id"] for s in everywhere}
    with pytest.raises(RemoteException, match="ValueError: Invalid query keys"):
        await a.manager.list_services({"nope": 1})
    with pytest.raises(RemoteException, match="PermissionError"):
        await eve.manager.list_services("ws-user-vic", include_unlisted=True)


async def test_the_manager_itself(gateway: Gateway) -> None:
    a = await gateway.connect("a", user("mia"), "ws-user-mia")
    for service_id in ("~", "ws-user-mia/~"):
        manager = await a.manager.get_service(service_id)
        assert manager["id"] == "~"
        assert await manager["echo"](5) == 5
    assert (await a.manager.get_service_info("~"))["id"] == "~"


async def test_summary_and_probes(gateway: Gateway) -> None:
    """Probes are an ordinary public service."""
    a = await gateway.connect("a", user("sue"), "ws-user-sue")
    await register(a, "probes", type="probes", config={"visibility": "public"}, readiness=lambda: {"status": "ok"})
    eve = await gateway.connect("x", user("eve"), "ws-user-eve")
    probes = await eve.manager.get_service("ws-user-sue/probes")
    assert await probes["readiness"]() == {"status": "ok"}
    summary = await a.manager.get_summary()
    assert (summary["name"], summary["client_count"], summary["service_count"]) == ("ws-user-sue", 1, 2)
    assert summary["clients"] == ["ws-user-sue/a"]
    assert {s["id"] for s in summary["services"]} == {"ws-user-sue/a:built-in", "ws-user-sue/a:probes"}
    assert set(summary["services"][0]) == {"id", "name", "type", "description", "config"}


async def test_a_large_service_goes_through(gateway: Gateway) -> None:
    """An answer beyond 256 KiB travels in chunks, from the provider and on to the caller."""
    a = await gateway.connect("a", user("big"), "ws-user-big")
    b = await gateway.connect("b", user("big"), "ws-user-big")
    await register(a, "big", blob=b"x" * 700_000)
    found = await b.manager.get_service("big", {"timeout": 20})
    assert len(found["blob"]) == 700_000
