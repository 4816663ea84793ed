"""
The limits of contract 01 §1.10, as clients of both transports run into them.

Limits of frames, idle time and connections on websockets are in test_frames.py and test_handshake.py.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import httpx
import pytest
from hypha_rpc import connect_to_server
from websockets.frames import Opcode

from hypha_common.ids import new_id
from tests.cluster.raw_client import encoded, knock, raw_client
from tests.cluster.raw_socket import raw_socket, upgrade_request, ws_frame
from tests.cluster.running_cluster import RunningCluster
from tests.cluster.stream_client import RawStream, raw_stream
from tests.fixtures.errors_told import told

_ENVIRON = {
    "HYPHA_WS_MSG_RATE_LIMIT": "5",
    "HYPHA_WS_MSG_BURST_LIMIT": "40",
    "HYPHA_MAX_CONNECTIONS_PER_USER": "3",
    "HYPHA_MAX_CLIENTS_PER_WORKSPACE": "2",
    "HYPHA_MAX_SERVICES_PER_CLIENT": "3",
    "HYPHA_MAX_WORKSPACES_PER_USER": "3",
    "HYPHA_MAX_CONCURRENT_CONNECTIONS": "1",
    "HYPHA_MAX_HANDSHAKE_WAIT": "1",
}
_BUSY = "Server busy, please retry"


@pytest.fixture(scope="module")
def small() -> Iterator[RunningCluster]:
    cluster = RunningCluster(environ=_ENVIRON)
    yield cluster
    errors = cluster.errors()
    cluster.stop()
    assert errors == []


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def _refused(cluster: RunningCluster, token: str, **query: str) -> tuple[int, str]:
    """Ask for a stream that is not given; return status and detail."""
    async with httpx.AsyncClient(base_url=cluster.url, timeout=15) as http:
        headers = {"Authorization": f"Bearer {token}"}
        response = await http.get("/rpc", params={"client_id": new_id(8), **query}, headers=headers)
        assert "retry-after" in response.headers
        return response.status_code, response.json()["detail"]


@pytest.mark.parametrize("transport", ["websocket", "http"])
async def test_services_of_a_client(small: RunningCluster, transport: str) -> None:
    """The built-in one does not count; one that is replaced or removed makes no difference, or room."""
    async with connect_to_server({"server_url": small.url, "transport": transport}) as client:
        for name in ("a", "b", "c", "c"):
            await client.register_service({"id": name, "f": lambda: 1}, overwrite=True)
        with pytest.raises(Exception, match=r"RuntimeError: Service quota exceeded: client .* has 3/3 services"):
            await client.register_service({"id": "d"})
        await client.unregister_service("a")
        await client.register_service({"id": "d", "f": lambda: 1}, overwrite=True)  # the client has noted it already


async def test_workspaces_of_a_user(small: RunningCluster) -> None:
    """Root has no such limit."""
    async with raw_client(small.url, token=small.user_token("wim")) as user:
        for name in ("wim-1", "wim-2"):
            await user.manager("create_workspace", {"name": name})
        with pytest.raises(Exception, match="RuntimeError: Workspace quota exceeded"):
            await user.manager("create_workspace", {"name": "wim-3"})
        await user.manager("delete_workspace", "wim-1")
        await user.manager("create_workspace", {"name": "wim-3"})
    async with raw_client(small.url, token=small.root_token) as root:
        for number in range(5):
            await root.manager("create_workspace", {"name": f"root-{number}"})


async def test_streams_count_as_connections(small: RunningCluster, stack: AsyncExitStack) -> None:
    """Of their user and their workspace, together with websockets; a stream that ends makes room."""
    token, url = small.user_token("sven"), small.url
    stream: RawStream = await stack.enter_async_context(raw_stream(url, token=token))
    await stream.manager("create_workspace", {"name": "sven-lab"})
    socket = await stack.enter_async_context(raw_client(url, token=token))
    full = "Connection limit exceeded: workspace ws-user-sven has 2/2 clients"
    assert await _refused(small, token) == (429, full)
    ended = await knock(url, {"client_id": "c", "token": token})
    assert (ended.code, ended.error) == (1008, full)
    await stack.enter_async_context(raw_stream(url, token=token, workspace="sven-lab"))
    assert await _refused(small, token, workspace="sven-lab") == (
        429,
        "Connection limit exceeded: user sven has 3/3 connections",
    )
    await stream.close()
    await asyncio.sleep(0.2)
    again = await stack.enter_async_context(raw_stream(url, token=token))
    assert await again.manager("echo", 1) == await socket.manager("echo", 1) == 1


async def test_frames_of_a_stream(small: RunningCluster) -> None:
    """Who POSTs too fast is told, each time, and stays; what was refused was not passed on; control is not counted."""
    async with raw_stream(small.url) as stream, raw_client(small.url) as other:
        answers = [await stream.post(encoded({"type": "x", "to": other.address})) for _ in range(60)]
        accepted = sum(answer.status_code == 200 for answer in answers)
        assert 40 <= accepted < 60
        refused = next(answer for answer in answers if answer.status_code != 200)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert told(refused) == {
            "success": False,
            "detail": "Rate limit exceeded: too many messages per second",
        }
        for _ in range(50):
            assert (await stream.post(encoded({"type": "ping"}))).status_code == 200
        for _ in range(accepted):
            await other.frame()
        await asyncio.sleep(1)
        assert await stream.manager("echo", 1) == 1
        assert other.frames.empty()


async def test_turn_in_the_handshake(small: RunningCluster) -> None:
    """Who waits for its turn for too long is asked to come again, in a way that clients do."""
    [workspace] = small.pids["workspace"]
    os.kill(workspace, signal.SIGSTOP)
    try:
        first = asyncio.create_task(knock(small.url, {"client_id": "first"}))
        await asyncio.sleep(0.2)
        started = time.monotonic()
        ended, refused = await asyncio.gather(
            knock(small.url, {"client_id": "second"}), _refused(small, small.user_token())
        )
        assert 0.8 < time.monotonic() - started < 2.5
        assert (ended.code, ended.reason, ended.texts) == (1013, _BUSY, [])
        assert refused == (503, "No free slot for a handshake")
        assert not first.done()
        ended = await first
        assert (ended.code, ended.reason, ended.texts) == (1013, _BUSY, [])
    finally:
        os.kill(workspace, signal.SIGCONT)
    async with raw_client(small.url) as client:
        assert await client.manager("echo", 1) == 1


async def test_address_of_a_websocket(small: RunningCluster) -> None:
    """Only what our own proxies say of it counts: a client cannot choose the address that is judged."""
    root = {"server_url": small.url, "token": small.root_token}
    async with connect_to_server(root) as server:
        admin = await server.get_service("ws-user-root/admin-utils")
        await admin.block_ip("198.51.100.7", 60, "test")
        for forwarded, kept_out in (
            ("198.51.100.7", True),
            ("203.0.113.1, 198.51.100.7", True),  # the first entry is the client's own claim
            ("203.0.113.1, 198.51.100.7, 10.0.0.9", True),
            ("198.51.100.7, 203.0.113.1", False),
            ("::ffff:198.51.100.7", True),
            ("rubbish", False),
        ):
            async with raw_socket(small.url) as socket:
                await socket.send(upgrade_request(X_Forwarded_For=forwarded))
                assert " 101 " in await socket.head()
                await socket.send(ws_frame(Opcode.TEXT, b'{"client_id": "c"}'))
                _, answer = await socket.frame()
                assert (b"IP is blocked: test" in answer) is kept_out, forwarded
        await admin.unblock_ip("198.51.100.7")
