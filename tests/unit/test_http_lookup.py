"""Services of apps that do not run: what a request has started, and what it is told meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from http_support import World

from hypha_common.bus import Bus
from hypha_common.errors import StartFailed
from hypha_common.ids import new_id
from hypha_gateway.http import lookup
from hypha_gateway.http.lookup import Attentive


@pytest.fixture
def idle(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The workspace service says of one service that its app has to be started."""
    resolve = world.registry.resolve

    async def lazily(message: dict[str, Any]) -> dict[str, Any]:
        if message["service_id"] == "public/default@app" and message["lazy"]:
            return {"idle": {"workspace": "public", "app_id": "app", "service": "default"}}
        return await resolve(message)

    monkeypatch.setattr(world.registry, "answer", lazily)
    return world


async def apps_service(nats_url: str, answer: Any) -> Bus:
    """Stand for the apps service."""
    bus = Bus(urls=[nats_url], role="apps", instance=new_id(8), on_fatal=lambda reason: None)
    await bus.connect()

    async def ensure(message: dict[str, Any]) -> Any:
        await asyncio.sleep(0.05)
        if isinstance(answer, Exception):
            raise answer
        return answer

    await bus.serve("apps", "ensure", ensure)
    await bus.flush()
    return bus


async def test_nobody_starts_apps(idle: World) -> None:
    for path in ("services/default@app/f", "apps/default@app/"):
        answer = await idle.http.get(f"/public/{path}")
        assert answer.status_code == 404
        assert "Service not found: public/default@app (this server starts no apps)" in answer.text


async def test_a_start_that_takes_too_long(idle: World, nats_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks may come again."""
    monkeypatch.setattr(lookup, "START_TIMEOUT_S", 0.3)
    bus = await apps_service(nats_url, {"state": "starting"})
    for path in ("services/default@app/f", "apps/default@app/"):
        answer = await idle.http.get(f"/public/{path}")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert "App 'app' is being started, please retry" in answer.text
    await bus.close()


async def test_an_app_without_the_service(idle: World, nats_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "_MISSING_S", 0.1)
    bus = await apps_service(nats_url, {"state": "running"})
    answer = await idle.http.get("/public/services/default@app/f")
    assert (answer.status_code, "its application runs without it" in answer.text) == (404, True)
    await bus.close()


async def test_logs_are_for_members(idle: World, nats_url: str) -> None:
    bus = await apps_service(nats_url, StartFailed("Failed to start app 'app', error: no, logs:\n[log] secret"))
    answer = await idle.http.get("/public/apps/default@app/")
    assert answer.status_code == 500
    assert answer.text.endswith("Failed to start app 'app', error: no")
    await bus.close()


async def test_what_is_read_while_waiting_is_not_lost() -> None:
    """The body comes later all the same, and that the client has left as well."""
    messages = [{"type": "http.request", "body": b"a", "more_body": True}, {"type": "http.disconnect"}]
    waiting = list(messages)

    async def receive() -> Any:
        return waiting.pop(0)

    attentive = Attentive(receive)
    await attentive.gone()
    assert [await attentive(), await attentive()] == messages


async def test_a_large_body_is_not_read_ahead() -> None:
    """Beyond some size nobody can tell whether the client is still there."""
    asked = 0

    async def receive() -> Any:
        nonlocal asked
        asked += 1
        return {"type": "http.request", "body": b"x" * 100_000, "more_body": True}

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await Attentive(receive).gone()
    assert asked == 3
