from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypha_rpc import connect_to_server

from hypha_gateway.websocket.events import GONE_AFTER_S
from tests.cluster.operations import registry_is_what_has_sockets
from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.link import Link, link

__all__ = ["link"]

_SLACK_S = 10.0  # the hub looks every few seconds
_BACK_S = 60.0  # an unmodified client waits longer and longer between its attempts
_AWAY = """
import asyncio, sys
from hypha_rpc import connect_to_server

async def main():
    url, token = sys.argv[1:]
    server = await connect_to_server({"server_url": url, "token": token, "client_id": "away"})
    await server.register_service({"id": "work", "echo": lambda value: value})
    print("ready", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@asynccontextmanager
async def _client_behind(link: Link, url: str, token: str) -> AsyncIterator[None]:
    """An unmodified client at the other end of the link, with a service ``work``."""
    process = await asyncio.create_subprocess_exec(
        "ip", "netns", "exec", link.away, sys.executable, "-c", _AWAY, url, token,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        async with asyncio.timeout(30):
            assert await process.stdout.readline() == b"ready\n"
        yield
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.slow
async def test_a_client_behind_a_link_that_goes_dead(link: Link) -> None:
    """
    The hub drops it within the documented time and tells its callers; when the link is up, the client is back.

    """
    with link.in_hub():
        cluster = await asyncio.to_thread(RunningCluster, "--host=0.0.0.0", "--gateways=2")
        try:
            token = cluster.user_token()
            far = cluster.gateway_urls[1].replace("127.0.0.1", link.HUB)
            async with (
                _client_behind(link, far, token),
                connect_to_server({"server_url": cluster.url, "token": token, "method_timeout": 120}) as near,
            ):
                await _cut_off(link, cluster, near)
            assert cluster.errors() == []
        finally:
            await asyncio.to_thread(cluster.stop)


async def _cut_off(link: Link, cluster: RunningCluster, near: object) -> None:
    work = await near.get_service("away:work")  # type: ignore[attr-defined]
    assert await work.echo(1) == 1
    workspace = near.config.workspace  # type: ignore[attr-defined]
    link.down()
    cut = time.monotonic()
    with pytest.raises(Exception, match=r"Client disconnected|is not connected any more"):
        await work.echo(2)
    told_s = time.monotonic() - cut
    assert told_s < GONE_AFTER_S + _SLACK_S
    assert f"{workspace}/away" not in await registry_is_what_has_sockets(cluster, workspace)
    link.up()
    up = time.monotonic()
    async with asyncio.timeout(_BACK_S):
        while True:
            try:
                back = await (await near.get_service("away:work")).echo(3)  # type: ignore[attr-defined]
            except Exception:  # noqa: BLE001 not there yet
                await asyncio.sleep(0.2)
            else:
                break
    assert back == 3
    print(f"told after {told_s:.1f} s, back {time.monotonic() - up:.1f} s after the link was", file=sys.stderr)
