from __future__ import annotations

from typing import Any

import pytest
from hypha_rpc.rpc import RemoteException

from tests.manager.rig import Gateway, user

STRANGE = ["a\x00b", "", "x" * 3000, "a b>c*.|", "../..", "a'; DROP TABLE services; --", "\n", "é" * 200]
TYPED = ("ValueError", "AssertionError", "KeyError", "PermissionError", "TypeError", "RuntimeError", "ConnectionError")


async def untyped(calls: list[Any]) -> list[str]:
    """Await all calls and return the refusals that are of no type a caller knows."""
    found = []
    for call in calls:
        try:
            await call
        except RemoteException as error:
            # Lines, because what a caller sent may be quoted, line breaks included.
            if not any(line.startswith(TYPED) for line in str(error).splitlines()):
                found.append(str(error))
    return found


async def test_strange_text(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever text arrives, the answer is a value or a typed refusal, and no fault of the server is logged."""
    a = await gateway.connect("a", user("odd"), "ws-user-odd")
    m = a.manager
    for text in STRANGE:
        calls: list[Any] = [
            m.set_env(text, 1),
            m.get_env(text),
            m.log_event(text),
            m.get_events(text),
            m.get_events(start_time=text),
            m.get_service(text),
            m.get_service(f"ws-user-odd/{text}"),
            m.get_service("x", {"mode": text}),
            m.get_service_info(f"{text}@{text}"),
            m.list_services(text),
            m.list_services({"type": text, "id": text}),
            m.unregister_service(text),
            m.list_clients(text),
            m.ping(text, 0.2),
            m.ping(f"{text}/x", 0.2),
            m.cleanup(text, 0.2),
            m.subscribe(text),
            m.unsubscribe([text]),
            m.create_workspace({"name": text}),
            m.create_workspace({"name": "odd-ok", "description": text, "owners": [text], "icon": text}),
            m.delete_workspace(text),
            m.list_workspaces({"name": text, "description": text}),
            m.get_workspace_info(text),
            m.bookmark({"bookmark_type": "workspace", "id": text}),
            m.bookmark({"bookmark_type": "service", "id": text}),
            m.unbookmark({"bookmark_type": "service", "id": text}),
            m.register_service_type({"id": text, "name": text}),
            m.get_service_type(text),
            m.list_service_types(text),
            m.register_service({"id": f"a:{text}"}),
            m.register_service({"id": "a:s", "type": text, "name": text, "app_id": text, "docs": text}),
            m.register_service({"id": "a:s", "config": {"authorized_workspaces": [text], text: text}}),
        ]
        assert await untyped(calls) == []
        assert await m.check_status() == {"status": "ready", "errors": None, "user_permission": "a"}
    assert "rpc_method_failed" not in capsys.readouterr().out


async def test_strange_values(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    """The same for values of other types."""
    a = await gateway.connect("a", user("vals"), "ws-user-vals")
    m = a.manager
    deep: Any = None
    for _ in range(100):
        deep = [deep]
    for value in (None, 3, -1, 1e300, float("nan"), True, [], {}, ["x"], {"a": 1}, b"\x00\xff", deep, 2**63):
        calls: list[Any] = [
            m.set_env("k", value),
            m.set_env(value, 1),
            m.log_event("e", value),
            m.get_events(value, value, value),
            m.get_service(value, value),
            m.get_service("x", {"timeout": value, "mode": value, "case_conversion": value, "select_timeout": value}),
            m.list_services(value, value, value, value),
            m.list_services({"workspace": value}),
            m.ping("a", value if isinstance(value, int) and value < 5 else -1),
            m.list_workspaces(value, value, value),
            m.list_workspaces({"owners": value, "read_only": value}),
            m.create_workspace(value),
            m.create_workspace({"id": "vals-1", "config": value, "owners": value, "service_types": value}),
            m.create_workspace({"id": "vals-2", "covers": value, "docs": value, "persistent": value}),
            m.bookmark(value),
            m.bookmark({"bookmark_type": value, "id": value}),
            m.register_service_type({"id": "t", "definition": value, "config": value}),
            m.register_service(value),
            m.register_service({"id": "a:s", "config": value, "service_schema": value}),
            m.register_service({"id": "a:s", "config": {"visibility": value, "flags": value, "singleton": value}}),
            m.register_service({"id": value, "app_id": value, "type": value, "name": value}),
            m.subscribe(value),
            m.generate_token(value),
        ]
        assert await untyped(calls) == []
    assert "rpc_method_failed" not in capsys.readouterr().out
