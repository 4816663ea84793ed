"""Processes that die while a web service answers."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.cluster.asgi_app import application, serving
from tests.cluster.running_cluster import RunningCluster


async def test_the_gateway_of_the_application_dies(start_cluster: Callable[..., RunningCluster]) -> None:
    """Visitors at another gateway notice within seconds, and are served again when the application is back."""
    cluster = start_cluster("--gateways=2")
    here, there = cluster.gateway_urls
    async with (
        serving(here, token=cluster.user_token()) as (_, path),
        httpx.AsyncClient(base_url=there, timeout=30) as http,
    ):
        socket = await connect(f"{there.replace('http', 'ws', 1)}{path}/echo")
        await socket.send("hello")
        assert await socket.recv() == "hello"
        async with http.stream("GET", f"{path}/stream") as answer:
            pieces = answer.aiter_bytes()
            assert await anext(pieces) == b"chunk 0\n"
            os.kill(cluster.pids["gateway"][0], signal.SIGKILL)
            async with asyncio.timeout(10):
                with pytest.raises(httpx.RemoteProtocolError):
                    await anext(pieces)
                with pytest.raises(ConnectionClosed) as end:
                    await socket.recv()
        assert end.value.rcvd is not None
        assert end.value.rcvd.code == 1012
        while (await http.get(f"{path}/")).status_code != 200:  # 404 or 503 until it has connected again
            await asyncio.sleep(0.2)


async def test_the_gateway_of_the_visitor_dies(start_cluster: Callable[..., RunningCluster]) -> None:
    """The application hears of it: what it sends, and what it waits for, fails."""
    failed: asyncio.Queue[str] = asyncio.Queue()

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while True:
                await send({"type": "http.response.body", "body": b"tick", "more_body": True})
                await asyncio.sleep(0.05)
        except Exception as error:  # noqa: BLE001  # whatever it is
            failed.put_nowait(str(error))

    cluster = start_cluster("--gateways=2")
    here, there = cluster.gateway_urls
    async with (
        application(here, app) as path,
        httpx.AsyncClient(base_url=there, timeout=30) as http,
        http.stream("GET", path) as answer,
    ):
        assert (await anext(answer.aiter_bytes())).startswith(b"tick")
        os.kill(cluster.pids["gateway"][1], signal.SIGKILL)
        async with asyncio.timeout(20):
            assert "is not connected" in await failed.get()
