from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.clients import Connect


@pytest.fixture
async def user(cluster: RunningCluster, connect: Connect) -> Any:
    return await connect(token=cluster.user_token())


async def test_environment(user: Any, connect: Connect, cluster: RunningCluster) -> None:
    assert await user.get_env() == {}
    for key, value in {"A": "1", "B": {"nested": [1, None]}, "C": b"\x00"}.items():
        assert await user.set_env(key, value) is None
    assert await user.get_env() == {"A": "1", "B": {"nested": [1, None]}, "C": b"\x00"}
    await user.set_env("B", None)
    assert await user.get_env("A") == "1"
    with pytest.raises(Exception, match="Environment variable 'B' not found in workspace"):
        await user.get_env("B")
    reader = await connect(token=await user.generate_token({"permission": "read"}))
    with pytest.raises(Exception, match="PermissionError: Permission denied"):
        await reader.get_env()


async def test_environment_outlives_its_clients(cluster: RunningCluster, connect: Connect) -> None:
    token = cluster.user_token()
    first = await connect(token=token)
    await first.set_env("KEPT", "yes")
    await first.disconnect()
    second = await connect(token=token)
    assert await second.get_env("KEPT") == "yes"


async def test_bookmarks(user: Any, connect: Connect) -> None:
    provider = await connect()
    service = await provider.register_service({"id": "s", "name": "S", "config": {"visibility": "public"}})
    await user.bookmark({"bookmark_type": "service", "id": service.id})
    await user.bookmark({"bookmark_type": "workspace", "id": user.config.workspace})

    async def bookmarks() -> set[str]:
        info = await user.get_workspace_info(user.config.workspace)
        return {bookmark["id"] for bookmark in info.config.get("bookmarks", [])}

    assert await bookmarks() == {service.id, user.config.workspace}
    await user.unbookmark({"bookmark_type": "service", "id": service.id})
    assert await bookmarks() == {user.config.workspace}
    for item, error in [
        ({"id": "x"}, "Bookmark type must be provided"),
        ({"bookmark_type": "x", "id": "y"}, "Invalid"),
    ]:
        with pytest.raises(Exception, match=error):
            await user.bookmark(item)


async def test_service_types(user: Any) -> None:
    definition = {"id": "imager", "name": "Imager", "definition": {"snap": {"type": "function"}}}
    await user.register_service_type(definition)
    with pytest.raises(Exception, match="Service type already exists"):
        await user.register_service_type(definition)
    found = await user.get_service_type("imager")
    assert found["id"] == f"{user.config.workspace}/imager"
    assert found["definition"] == definition["definition"]
    assert [kind["name"] for kind in await user.list_service_types()] == ["Imager"]
    with pytest.raises(Exception, match="Service type not found: nothing"):
        await user.get_service_type("nothing")


async def test_event_log(user: Any) -> None:
    await user.log("one")
    await user.log_event("saved", {"file": "a"})
    await user.log_event("saved")
    events = await user.get_events()
    assert [(event["event_type"], event["data"]) for event in events] == [
        ("log", "one"), ("saved", {"file": "a"}), ("saved", None),
    ]  # fmt: skip
    assert events[0]["workspace"] == user.config.workspace
    assert [event["data"] for event in await user.get_events(event_type="log")] == ["one"]
    assert await user.get_events(start_time="2100-01-01T00:00:00") == []
    stats = {stat["event_type"]: stat["count"] for stat in await user.get_event_stats()}
    assert stats == {"log": 1, "saved": 2}
    with pytest.raises(Exception, match="Event type must not contain spaces"):
        await user.log_event("no blanks")


async def test_clients(cluster: RunningCluster, connect: Connect) -> None:
    token = cluster.user_token("eva")
    one, two = await connect(token=token, client_id="one"), await connect(token=token, client_id="two")
    clients = await one.list_clients()
    assert {client["id"] for client in clients} == {"ws-user-eva/one", "ws-user-eva/two"}
    assert {client["user"]["id"] for client in clients} == {"eva"}
    assert await one.ping("two") == await one.ping("ws-user-eva/two") == "pong"
    summary = await one.get_summary()
    assert (summary["client_count"], summary["service_count"]) == (2, 2)

    await two.disconnect()
    assert (
        await one.ping("two") == "Failed to ping client ws-user-eva/two: Target peer ws-user-eva/two is not connected"
    )
    while {client["id"] for client in await one.list_clients()} != {"ws-user-eva/one"}:
        await asyncio.sleep(0.02)  # the socket is gone at once, its row a moment later
    assert await one.cleanup() == {}
    assert (await one.check_status())["status"] == "ready"


async def test_client_id_in_use(cluster: RunningCluster, connect: Connect) -> None:
    token = cluster.user_token()
    first = await connect(token=token, client_id="same")
    workspace = first.config.workspace
    with pytest.raises(ConnectionAbortedError, match=f"Client already exists and is active: {workspace}/same"):
        await connect(token=token, client_id="same")
    assert await first.echo(1) == 1
    await first.disconnect()
    assert await (await connect(token=token, client_id="same")).echo(1) == 1


async def test_events(cluster: RunningCluster, connect: Connect) -> None:
    """Clients of a workspace that have subscribed to it hear what happens there; nobody else does."""
    token = cluster.user_token("uma")
    listener, outsider = await connect(token=token, client_id="listener"), await connect()
    heard: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
    overheard: list[Any] = []
    types = ["client_connected", "client_disconnected", "service_added", "service_removed", "workspace_changed"]
    for kind in types:
        listener.on(kind, lambda message, kind=kind: heard.put_nowait((kind, message["data"])))
        outsider.on(kind, overheard.append)
    await listener.subscribe(types)
    await outsider.subscribe(types)

    async def next_event() -> tuple[str, Any]:
        return await asyncio.wait_for(heard.get(), 5)

    actor = await connect(token=token, client_id="actor")
    assert await next_event() == ("client_connected", {"id": "ws-user-uma/actor", "workspace": "ws-user-uma"})
    await actor.register_service({"id": "s"})
    kind, service = await next_event()
    assert (kind, service["id"]) == ("service_added", "ws-user-uma/actor:s")
    await actor.unregister_service("s")
    kind, service = await next_event()
    assert (kind, service["id"]) == ("service_removed", "ws-user-uma/actor:s")
    await actor.set_env("A", "1")
    kind, workspace = await next_event()
    assert (kind, workspace["id"]) == ("workspace_changed", "ws-user-uma")
    await listener.unsubscribe(["workspace_changed"])
    await actor.set_env("A", "2")
    await actor.disconnect()
    assert await next_event() == ("client_disconnected", {"id": "actor", "workspace": "ws-user-uma"})
    assert [message for message in overheard if message["data"].get("workspace") == "ws-user-uma"] == []


async def test_own_events(cluster: RunningCluster, connect: Connect) -> None:
    """Clients tell each other what they like, within their workspace."""
    token = cluster.user_token()
    one, two, outsider = await connect(token=token), await connect(token=token), await connect()
    heard: asyncio.Queue[Any] = asyncio.Queue()
    for client in (two, outsider):
        client.on("snapped", lambda message, client=client: heard.put_nowait((client, message)))
        await client.subscribe("snapped")
    await one.emit({"type": "snapped", "to": "*", "data": {"n": 1}})
    client, message = await asyncio.wait_for(heard.get(), 5)
    assert client is two
    assert message["data"] == {"n": 1}
    assert message["from"] == f"{one.config.workspace}/{one.config.client_id}"
    with pytest.raises(Exception, match="forbidden"):
        await one.subscribe(f"{outsider.config.workspace}/private")
    await outsider.echo(1)
    assert heard.empty()


async def test_search_is_not_part_of_this(user: Any) -> None:
    with pytest.raises(Exception, match="Service search is not enabled"):
        await user.search_services("anything")
