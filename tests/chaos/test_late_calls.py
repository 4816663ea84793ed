from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

import psutil

from tests.cluster.frame_client import FrameClient
from tests.cluster.running_cluster import RunningCluster

_CLIENTS = 8
_WATCHED_S = 2.0


async def test_what_was_reported_as_failed_is_not_done_later(start_cluster: Callable[..., RunningCluster]) -> None:
    """
    A replica that stood still finds calls that its gateway has given up: it does not run them.

    Otherwise it would undo what their callers did in the meantime, when they had been told that it failed.

    """
    cluster = start_cluster("--workspace-replicas=2")
    token = cluster.user_token()
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(await FrameClient.connect(cluster.url, f"c-{number}", token=token))
            for number in range(_CLIENTS)
        ]

        async def write(number: int, value: str) -> str:
            """Set a variable; returns why that failed, nothing where it did not."""
            method = "services.default.set_env"
            try:
                await clients[number].call("*/manager-hypha", method, f"k{number}", value, promise="*", session=value)
            except RuntimeError as error:
                return str(error)
            return ""

        async def insist(number: int, value: str) -> None:
            while await write(number, value):  # perhaps it is given that replica again
                pass

        replica = psutil.Process(cluster.pids["workspace"][0])
        replica.suspend()
        try:
            told = await asyncio.gather(*(write(number, f"first-{number}") for number in range(_CLIENTS)))
            failed = [number for number, text in enumerate(told) if text]
            assert failed, "nobody was given the replica that stands still"
            assert {told[number] for number in failed} == {
                "ConnectionError: The workspace replica that was executing the call is gone"
            }
            await asyncio.gather(*(insist(number, f"second-{number}") for number in failed))
        finally:
            replica.resume()
        async with asyncio.timeout(20):
            while "process_stood_still" not in cluster.log:
                await asyncio.sleep(0.05)
        await asyncio.sleep(_WATCHED_S)  # that something does not happen can only be watched
        for number in range(_CLIENTS):
            wanted = f"second-{number}" if number in failed else f"first-{number}"
            value = await clients[number].call(
                "*/manager-hypha", "services.default.get_env", f"k{number}", promise="*", session="read"
            )
            assert value == wanted
    assert cluster.errors() == []
