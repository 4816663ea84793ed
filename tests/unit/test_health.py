from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hypha_common import health
from hypha_common.errors import Unavailable
from hypha_common.process_metrics import LoopWatch
from hypha_common.service_process import Dependencies
from hypha_common.telemetry import StatusPage
from hypha_common.version import __version__


@pytest.fixture
async def watched(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """A loop that is watched, with less patience."""
    monkeypatch.setattr(health, "_STALLED_S", 0.3)
    monkeypatch.setattr(health, "_SLOW_S", 0.1)
    task = asyncio.create_task(LoopWatch().run())
    await asyncio.sleep(0)
    yield
    task.cancel()
    LoopWatch.last = None


async def test_liveness_is_the_loop(watched: None) -> None:
    """A loop that was stuck is told at once, and forgotten when it runs again."""
    assert health.liveness({"event_bus": "disconnected"})[0] == 200
    time.sleep(0.9)  # what must not happen
    status, body = health.liveness()
    assert (status, body["status"]) == (503, "DOWN")
    assert health.diagnosis("x", "1")[0] == 503
    async with asyncio.timeout(20):
        while health.liveness()[0] != 200:
            await asyncio.sleep(0.05)


async def test_diagnosis() -> None:
    """Nothing, something, everything is wrong."""
    for told, status, word, score in (
        ({}, 200, "HEALTHY", 100),
        ({"warnings": ["a"]}, 200, "WARNING", 80),
        ({"critical": ["b"], "warnings": ["a"]}, 503, "CRITICAL", 30),
        ({"critical": ["b"] * 9}, 503, "CRITICAL", 0),
    ):
        answered, body = health.diagnosis("role", "id", **told)  # type: ignore[arg-type]
        assert (answered, body["status"], body["health_score"]) == (status, word, score)
    assert (body["role"], body["instance"], body["version"]) == ("role", "id", __version__)
    assert body["memory"]["rss_mb"] > 10
    assert 0 < body["memory"]["percent"] <= 100
    assert body["memory"]["vms_mb"] >= body["memory"]["rss_mb"]
    assert body["tasks"]["total"] >= 1


def _page(missing: list[str]) -> StatusPage:
    return StatusPage(lambda: missing, role="auth", instance="abc")


async def test_status_page() -> None:
    """Each path tells what it is for."""

    def get(missing: list[str], path: str) -> tuple[int, Any]:
        status, content_type, body = _page(missing).answer(path)
        assert content_type == "application/json"
        return status, json.loads(body)

    assert get([], "/health/readiness") == (200, {"status": "OK", "detail": {"role": "auth", "version": __version__}})
    assert get(["a", "b"], "/health/readiness") == (503, {"status": "DOWN", "detail": "a; b"})
    for missing, status, word in (([], 200, "HEALTHY"), (["db"], 200, "WARNING"), ([health.BUS_AWAY], 503, "CRITICAL")):
        answered, body = get(missing, "/health")
        assert (answered, body["status"], body["issues"], body["role"]) == (status, word, missing, "auth")
        assert get(missing, "/health/liveness")[0] == 200
    assert get([], "/healthy")[0] == 404


class _Bus:
    missing: tuple[str, ...] = ()


class _Store:
    def __init__(self) -> None:
        self.answers = asyncio.Event()
        self.error: Exception | None = None

    async def ping(self) -> None:
        if self.error is not None:
            raise self.error
        await self.answers.wait()


async def test_what_hangs_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dependency that does not answer is away, as one that refuses is; it is back when it answers."""
    monkeypatch.setattr("hypha_common.service_process._PATIENCE_S", 0.05)
    monkeypatch.setattr("hypha_common.service_process._LOOK_INTERVAL_S", 0.01)
    store = _Store()
    dependencies = Dependencies(_Bus(), store)  # type: ignore[arg-type]
    assert dependencies.missing() == ["starting"]
    watching = asyncio.create_task(dependencies.watch())

    async def until(expected: list[str]) -> None:
        async with asyncio.timeout(10):
            while dependencies.missing() != expected:
                await asyncio.sleep(0.01)

    await until(["The _store does not answer"])
    store.answers.set()
    await until([])
    store.error = Unavailable("no store")
    await until(["no store"])
    watching.cancel()
