from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypha_rpc.rpc import RemoteException

from hypha_artifacts.main import ArtifactsService
from hypha_common.ids import new_id
from hypha_common.principal import Principal
from hypha_common.subjects import broadcast
from hypha_common.wire import unpack
from tests.manager.rig import Gateway, user

from .applications import MANIFEST, found, home, publish, register, someone

__all__ = ["someone"]


async def test_unknown_application_is_refused(gateway: Gateway, services: ArtifactsService, someone: Principal) -> None:
    """Nothing of the registration stays, and nobody is told of a service; once it is published, it works."""
    a = await gateway.connect("a", someone, home(someone))
    events = await a.events("service_added", "service_removed")
    refused = f"KeyError: 'Application id `my-app` not found in workspace {home(someone)}'"
    with pytest.raises(Exception, match=refused):
        await register(a, "worker")
    await publish(services, home(someone), "my-app", MANIFEST, committed=False)
    with pytest.raises(Exception, match=refused):  # a draft is not published
        await register(a, "worker")
    assert [info["id"] for info in await a.manager.list_services()] == [f"{home(someone)}/a:built-in"]
    assert events.empty()
    await register(a, "worker", config={"skip_app_id_validation": True})
    assert (await events.get())["data"]["app_id"] == "my-app"


async def test_refused_registration_takes_the_place_of_none(
    gateway: Gateway, services: ArtifactsService, someone: Principal
) -> None:
    """A service that is registered again with a wrong application is gone, and members are told so."""
    a = await gateway.connect("a", someone, home(someone))
    await register(a, "worker", app="*")
    events = await a.events("service_removed")
    with pytest.raises(Exception, match="Application id `other` not found"):
        await register(a, "worker", app="other")
    assert (await asyncio.wait_for(events.get(), 5))["data"]["id"] == f"{home(someone)}/a:worker"


async def test_application_sent_with_the_registration(
    gateway: Gateway, services: ArtifactsService, someone: Principal
) -> None:
    """As clients that connect for an application do; `built-in`, and the instances of apps are exempt."""
    workspace = home(someone)
    a = await gateway.connect("a", someone, workspace)
    with pytest.raises(RemoteException, match="KeyError: 'Application id `x` not found"):
        await a.manager.register_service({"id": "a:svc", "app_id": "x"})
    await a.manager.register_service({"id": "a:built-in", "app_id": "x"})
    runner = await gateway.connect("_rapp_x__rlb", someone.with_scope(extra_scopes=("app:x",)), workspace)
    await runner.manager.register_service({"id": "_rapp_x__rlb:svc", "app_id": "my-app"})
    assert (await a.manager.get_service_info("svc@x"))["id"] == f"{workspace}/_rapp_x__rlb:svc"


async def test_instances_by_name(gateway: Gateway, services: ArtifactsService, someone: Principal) -> None:
    """The very name first, then `<name>-…` unless that stands for a longer name; the manifest says which of several."""
    workspace = home(someone)
    await publish(services, workspace, "my-app", MANIFEST)
    await publish(services, workspace, "other-app", MANIFEST)
    a = await gateway.connect("a", someone, workspace)
    b = await gateway.connect("b", someone, workspace)
    await register(b, "worker-0", app="other-app")
    await register(a, "worker-gpu-1")
    await register(a, "worker-1")
    await register(b, "worker-2")
    assert {await found(b, "worker@my-app") for _ in range(5)} == {"worker-1"}
    assert await found(b, "worker@my-app", "last") == "worker-2"
    assert {await found(b, "worker@my-app", "random") for _ in range(30)} == {"worker-1", "worker-2"}
    assert await found(b, "worker-gpu@my-app") == "worker-gpu-1"
    assert await found(b, "b:worker@my-app") == "worker-2"
    with pytest.raises(RemoteException, match="AssertionError: Multiple services found for"):
        await found(b, "worker@my-app", "exact")
    await register(b, "worker")
    assert await found(b, "worker@my-app") == "worker"
    await register(a, "worker")  # two of the very name: the manifest decides
    assert (await b.manager.get_service_info("worker@my-app"))["id"] == f"{workspace}/b:worker"
    assert (await b.manager.get_service_info("worker@my-app", {"mode": "last"}))["id"] == f"{workspace}/a:worker"


async def test_instances_by_type(gateway: Gateway, services: ArtifactsService, someone: Principal) -> None:
    """Where no name fits it is the type, but never a service that stands for another one of the manifest."""
    workspace = home(someone)
    await publish(services, workspace, "my-app", MANIFEST)
    a = await gateway.connect("a", someone, workspace)
    await register(a, "worker-gpu-1", type="compute")
    await register(a, "disk", type="storage")
    assert await found(a, "store@my-app") == "disk"
    with pytest.raises(RemoteException, match=rf"KeyError: 'Service not found: {workspace}/\*:worker@my-app'"):
        await found(a, "worker@my-app")
    await register(a, "anything", type="compute")
    assert await found(a, "worker@my-app") == "anything"


async def test_services_without_application(gateway: Gateway, services: ArtifactsService, someone: Principal) -> None:
    """A client that keeps its `app_id` to itself and does not answer is found by the name that the manifest lists."""
    workspace = home(someone)
    await publish(services, workspace, "my-app", MANIFEST)
    a = await gateway.connect("a", someone, workspace)
    await register(a, "worker", app="*")
    assert await found(a, "worker@my-app") == "worker"


async def test_lookups_that_find_nothing(gateway: Gateway, services: ArtifactsService, someone: Principal) -> None:
    """Those who may read the workspace are told why."""
    workspace = home(someone)
    await publish(services, workspace, "my-app", MANIFEST)
    a = await gateway.connect("a", someone, workspace)
    other = user(f"s{new_id(8).lower()}")
    stranger = await gateway.connect("s", other, home(other))
    for query, why in (
        ("x@my-app", r" \(Service id `x` not found in application `my-app`\)"),
        ("x@none", rf" \(Application id `none` not found in workspace {workspace}\)"),
    ):
        with pytest.raises(RemoteException, match=rf"KeyError: .Service not found: {workspace}/\*:{query}{why}"):
            await found(a, query)
        with pytest.raises(RemoteException, match=rf"KeyError: 'Service not found: {workspace}/\*:{query}'"):
            await found(stranger, f"{workspace}/{query}")
    await register(a, "worker-1")
    assert await found(stranger, f"{workspace}/worker@my-app") == "worker-1"  # public


async def test_wrong_mode_in_the_manifest(gateway: Gateway, services: ArtifactsService, someone: Principal) -> None:
    workspace = home(someone)
    await publish(services, workspace, "my-app", {**MANIFEST, "service_selection_mode": ["first"]})
    a = await gateway.connect("a", someone, workspace)
    await register(a, "worker-1")
    with pytest.raises(RemoteException, match="ValueError: Invalid mode"):
        await found(a, "worker@my-app")


async def test_manifests_of_any_shape(gateway: Gateway, services: ArtifactsService, someone: Principal) -> None:
    """What is no list of services lists none; full ids mean their name."""
    workspace = home(someone)
    for alias, listed in (("a", "worker"), ("b", [1, {"name": "worker"}, {"id": 5}]), ("c", None)):
        await publish(services, workspace, alias, {"services": listed})
    await publish(services, workspace, "d", {"services": [{"id": "ws/c:worker@d", "type": 7}, {"id": "x*"}]})
    a = await gateway.connect("a", someone, workspace)
    for alias in "abcd":
        await register(a, f"worker-{alias}", app=alias)
        if alias != "d":
            with pytest.raises(RemoteException, match="Service not found"):
                await found(a, f"worker@{alias}")
    assert await found(a, "worker@d") == "worker-d"
    with pytest.raises(RemoteException, match="Service not found"):
        await found(a, "x*@d")


async def test_workspace_deletion_is_announced(gateway: Gateway, someone: Principal) -> None:
    """To every process of the cluster, by `hy.b.workspace_deleted`."""
    heard: asyncio.Queue[Any] = asyncio.Queue()
    await gateway.bus.subscribe(
        broadcast("workspace_deleted"), lambda subject, reply, payload: heard.put_nowait(unpack(payload))
    )
    await gateway.bus.flush()
    a = await gateway.connect("a", someone, home(someone))
    name = f"lab-{new_id(8).lower()}"
    await a.manager.create_workspace({"name": name, "persistent": True})
    await a.manager.delete_workspace(name)
    assert await asyncio.wait_for(heard.get(), 5) == {"workspace": name}
