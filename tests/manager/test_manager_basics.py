from __future__ import annotations

import pytest
from hypha_rpc.rpc import RemoteException

from hypha_common.principal import Permission
from tests.manager.rig import Gateway, user

METHODS = {
    *("echo", "log", "log_event", "get_event_stats", "get_events", "register_service", "unregister_service"),
    *("list_workspaces", "list_services", "search_services", "list_clients", "register_service_type"),
    *("get_service_type", "list_service_types", "get_service_info", "get_service", "generate_token", "revoke_token"),
    *("parse_token", "create_workspace", "delete_workspace", "bookmark", "unbookmark", "get_workspace_info"),
    *("get_summary", "ping", "cleanup", "check_status", "set_env", "get_env", "subscribe", "unsubscribe"),
}


async def test_methods(gateway: Gateway) -> None:
    """The manager has exactly the 32 methods of contract 01 §3, each with a schema of its own name."""
    alice = await gateway.connect("c1", user("alice"), "ws-user-alice")
    found = {name: value for name, value in alice.manager.items() if callable(value)}
    assert set(found) == METHODS
    assert len(found) == 32
    for name, method in found.items():
        assert method.__schema__["name"] == name
        assert method.__schema__["description"]
        assert all("description" in schema for schema in method.__schema__["parameters"]["properties"].values())
    config = alice.manager.config
    assert config.require_context is True
    assert config.public_base_url == "http://hub.example"
    assert config.visibility == "public"


async def test_echo_and_status(gateway: Gateway) -> None:
    """Values come back as they went."""
    alice = await gateway.connect("c1", user("alice"), "ws-user-alice")
    assert await alice.manager.echo({"a": [1, None, "x", b"y"]}) == {"a": [1, None, "x", b"y"]}
    assert await alice.manager.check_status() == {"status": "ready", "errors": None, "user_permission": "a"}


async def test_a_reader_may_not_write(gateway: Gateway) -> None:
    """Each method asks for the permission it needs."""
    owner = await gateway.connect("owner", user("otto"), "ws-user-otto")
    assert owner
    reader = await gateway.connect("reader", user("rob", ws_user_otto=Permission.READ), "ws-user-otto")
    manager = reader.manager
    for call in (
        manager.echo(1),
        manager.set_env("A", 1),
        manager.get_env(),
        manager.log("x"),
        manager.cleanup(),
        manager.register_service_type({"id": "t"}),
    ):
        with pytest.raises(RemoteException, match="PermissionError: Permission denied for workspace"):
            await call
    assert await manager.list_clients() == [{"id": "ws-user-otto/owner", "user": owner.link.principal.dump()}]
    assert (await manager.check_status())["user_permission"] == "r"


async def test_search_is_not_enabled(gateway: Gateway) -> None:
    alice = await gateway.connect("c1", user("alice"), "ws-user-alice")
    with pytest.raises(RemoteException, match=r"RuntimeError: Service search is not enabled."):
        await alice.manager.search_services("x")


async def test_wrong_arguments(gateway: Gateway) -> None:
    alice = await gateway.connect("c1", user("alice"), "ws-user-alice")
    with pytest.raises(RemoteException, match="TypeError: got an unexpected keyword argument 'x'"):
        await alice.manager.echo(1, x=1)
    with pytest.raises(RemoteException, match="TypeError: Missing required argument: 'data'"):
        await alice.manager.echo()
    with pytest.raises(RemoteException, match="TypeError: got an unexpected keyword argument 'permission'"):
        await alice.manager.generate_token(permission="read")


async def test_environment(gateway: Gateway) -> None:
    """The calls of the getting-started text, in Python's and JavaScript's form."""
    alice = await gateway.connect("c1", user("alice"), "ws-user-alice")
    changes = await alice.events("workspace_changed")
    await alice.manager.set_env("DATABASE_URL", "postgres://localhost")
    await alice.manager.set_env(key="API_KEY", value={"nested": [1]})
    assert await alice.manager.get_env("DATABASE_URL") == "postgres://localhost"
    assert await alice.manager.get_env(key="API_KEY", value=None) == {"nested": [1]}
    await alice.manager.set_env("API_KEY", None)
    assert await alice.manager.get_env() == {"DATABASE_URL": "postgres://localhost"}
    event = await changes.get()
    assert event["data"]["id"] == "ws-user-alice"
    assert "environs" not in event["data"]["config"]
    text = "KeyError: \"Environment variable 'API_KEY' not found in workspace ws-user-alice\""
    with pytest.raises(RemoteException, match=text):
        await alice.manager.get_env("API_KEY")
    with pytest.raises(RemoteException, match="ValueError: Environment variable 'BIG' is larger than"):
        await alice.manager.set_env("BIG", "x" * 300_000)
    with pytest.raises(RemoteException, match="ValueError"):
        await alice.manager.set_env("A\x00B", 1)


async def test_event_log(gateway: Gateway) -> None:
    """Everybody reads only his own events, with naive ISO times."""
    alice = await gateway.connect("c1", user("eva"), "ws-user-eva")
    await alice.manager.log("hello")
    await alice.manager.log_event("job_done", {"n": 1})
    await alice.manager.log_event("job_done")
    events = await alice.manager.get_events("job_done")
    assert [event["data"] for event in events] == [{"n": 1}, None]
    assert events[0]["workspace"] == "ws-user-eva"
    assert events[0]["user_id"] == "eva"
    assert "+" not in events[0]["timestamp"]
    stats = await alice.manager.get_event_stats(start_time="2020-01-01T00:00:00")
    assert {row["event_type"]: row["count"] for row in stats} == {"log": 1, "job_done": 2}
    assert await alice.manager.get_events(end_time="2020-01-01T00:00:00") == []
    with pytest.raises(RemoteException, match="AssertionError: Event type must not contain spaces"):
        await alice.manager.log_event("a b")
    with pytest.raises(RemoteException, match="ValueError: Event data is larger than"):
        await alice.manager.log_event("big", "x" * 100_000)
    other = await gateway.connect("c2", user("otto", ws_user_eva=Permission.READ_WRITE), "ws-user-eva")
    assert await other.manager.get_events() == []


async def test_service_types(gateway: Gateway) -> None:
    alice = await gateway.connect("c1", user("tina"), "ws-user-tina")
    added = await alice.manager.register_service_type({"id": "model", "definition": {"run": {}}})
    assert added["id"] == "ws-user-tina/model"
    assert (await alice.manager.get_service_type("model"))["definition"] == {"run": {}}
    assert [info["id"] for info in await alice.manager.list_service_types()] == ["ws-user-tina/model"]
    with pytest.raises(RemoteException, match="KeyError: 'Service type already exists: model'"):
        await alice.manager.register_service_type({"id": "ws-user-tina/model"})
    with pytest.raises(RemoteException, match="KeyError: 'Service type not found: nope'"):
        await alice.manager.get_service_type("nope")
    with pytest.raises(RemoteException, match="PermissionError"):
        await alice.manager.register_service_type({"id": "ws-other/model"})
    await alice.manager.register_service_type({"id": "open", "config": {"visibility": "public"}})
    bob = await gateway.connect("c2", user("bob"), "ws-user-bob")
    assert (await bob.manager.get_service_type("ws-user-tina/open"))["id"] == "ws-user-tina/open"
    for hidden in ("ws-user-tina/model", "ws-user-tina/nope"):
        with pytest.raises(RemoteException, match="PermissionError"):
            await bob.manager.get_service_type(hidden)
