from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import psutil
import pytest
from hypha_rpc import connect_to_server

from hypha_common.ids import new_id
from tests.cluster.running_cluster import RunningCluster


async def _drained(queue: Any, name: str) -> list[int]:
    """Pop until there is nothing."""
    got: list[int] = []
    while (task := await queue.pop(name, timeout=0)) is not None:
        got.append(task["n"])
    return got


async def test_http_callers_share_the_queues(two_gateways: RunningCluster) -> None:
    """`curl` pushes at one gateway and pops at the other, with waiting and without; what is wrong is said."""
    name = f"ws-user-http-{new_id(5).lower()}"
    token = two_gateways.user_token(name.removeprefix("ws-user-"))
    headers = {"Authorization": f"Bearer {token}"}
    first, second = (
        httpx.AsyncClient(base_url=f"{url}/public/services/queue", headers=headers, timeout=20)
        for url in two_gateways.gateway_urls
    )
    # A token without a workspace acts in the workspace of the address; this one is bound by its user's own.
    async with connect_to_server({"server_url": two_gateways.url, "token": token}) as server:
        bound = {"Authorization": f"Bearer {await server.generate_token({'permission': 'read_write'})}"}
    async with first, second:
        first.headers.update(bound)
        second.headers.update(bound)
        assert (await first.post("/push", json={"queue_name": "q", "task": {"n": 1}})).status_code == 200
        assert (await second.get("/get_length?queue_name=q")).json() == 1
        assert (await second.get("/peek?queue_name=q&n=5")).json() == [{"n": 1}]
        assert (await second.get("/pop?queue_name=q&timeout=0")).json() == {"n": 1}
        assert (await second.get("/pop?queue_name=q&timeout=0")).json() is None
        waiting = asyncio.create_task(second.get("/pop?queue_name=q&timeout=15"))
        await asyncio.sleep(0.2)
        await first.post("/push", json={"queue_name": "q", "task": {"n": 2}})
        assert (await waiting).json() == {"n": 2}
        for query, text in (
            ("queue_name=-&timeout=0", "Invalid queue name: -"),
            ("queue_name=q&timeout=301", "timeout"),
        ):
            refused = await first.get(f"/pop?{query}")
            assert refused.status_code == 400
            assert text in refused.json()["detail"]
        anonymous = await first.get("/pop?queue_name=q", headers={"Authorization": ""})
        assert anonymous.status_code == 403


async def test_a_caller_that_hung_up_takes_nothing(two_gateways: RunningCluster) -> None:
    """Neither one that gave up a request nor one whose socket is gone."""
    token = two_gateways.user_token(f"hang-{new_id(5).lower()}")
    async with connect_to_server({"server_url": two_gateways.url, "token": token}) as server:
        queue = await server.get_service("public/queue")
        bound = {"Authorization": f"Bearer {await server.generate_token({'permission': 'read_write'})}"}
        url = f"{two_gateways.gateway_urls[1]}/public/services/queue/pop?queue_name=q&timeout=60"
        async with httpx.AsyncClient(headers=bound) as http:
            with pytest.raises(httpx.ReadTimeout):
                await http.get(url, timeout=1)
        leaving = await connect_to_server({"server_url": two_gateways.gateway_urls[1], "token": token})
        lost = asyncio.ensure_future((await leaving.get_service("public/queue")).pop("q", timeout=60))
        await asyncio.sleep(0.3)
        await leaving.disconnect()
        lost.cancel()
        await asyncio.sleep(0.1)
        await queue.push("q", {"n": 1})
        await asyncio.sleep(0.3)
        assert await queue.peek("q") == [{"n": 1}]
        assert await asyncio.wait_for(queue.pop("q", timeout=30), 5) == {"n": 1}


@pytest.mark.slow
async def test_no_task_is_lost_or_done_twice_while_replicas_are_killed(
    start_cluster: Callable[..., RunningCluster],
) -> None:
    """Several poppers and pushers, who try again what failed; every replica of the service is killed once."""
    cluster = start_cluster("--workspace-replicas=2")
    token = cluster.user_token("busy")
    pushed: set[int] = set()
    doubtful: set[int] = set()  # the replica died with the push in its hands: it may have been stored
    popped: list[int] = []
    lost_calls = 0
    done = asyncio.Event()

    async def push(queue: Any, start: int) -> None:
        for n in range(start, start + 100):
            try:
                await queue.push("work", {"n": n})
                pushed.add(n)
            except Exception:  # noqa: BLE001 - clients raise whatever the server says
                doubtful.add(n)
            await asyncio.sleep(0.02)

    async def pop(queue: Any) -> None:
        nonlocal lost_calls
        while not done.is_set():
            try:
                task = await queue.pop("work", timeout=0.5)
            except Exception:  # noqa: BLE001 - as above
                lost_calls += 1
                continue
            if task is not None:
                popped.append(task["n"])

    async with connect_to_server({"server_url": cluster.url, "token": token, "method_timeout": 10}) as server:
        queue = await server.get_service("public/queue")
        poppers = []
        async with asyncio.TaskGroup() as group:
            poppers = [group.create_task(pop(queue)) for _ in range(3)]
            pushers = [group.create_task(push(queue, start)) for start in (0, 100)]
            for pid in cluster.pids["workspace"]:
                await asyncio.sleep(0.7)
                psutil.Process(pid).kill()
                await asyncio.sleep(1.5)
            await asyncio.wait(pushers)
            await asyncio.sleep(1)
            done.set()
        popped += await _drained(queue, "work")
        assert await queue.get_length("work") == 0
    assert len(poppers) == 3
    assert len(popped) == len(set(popped)), "a task was delivered twice"
    assert set(popped) <= pushed | doubtful
    # A task that a killed replica had taken is gone with it: at most one for each call that failed.
    assert len(pushed - set(popped)) <= lost_calls
    assert len(pushed) > 150
