from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from hypha_common.ids import new_id
from hypha_common.principal import Permission
from hypha_common.settings import Settings
from hypha_common.wire import pack
from hypha_workspace.main import WorkspaceService
from hypha_workspace.queues.repository import Queues
from tests.manager.rig import Client, Gateway, child, user

WS = "ws-user-worker"


@pytest.fixture
async def replicas(stack: Settings) -> AsyncIterator[list[WorkspaceService]]:
    """Two replicas of the workspace service."""
    async with AsyncExitStack() as started:
        services = [WorkspaceService(stack, on_fatal=pytest.fail) for _ in range(2)]
        for service in services:
            await service.start(started)
        yield services


@pytest.fixture
async def both(stack: Settings, replicas: list[WorkspaceService]) -> AsyncIterator[Gateway]:
    gateway = Gateway(stack)
    await gateway.start()
    yield gateway
    await gateway.stop()


async def _join(gateway: Gateway, client_id: str = "", workspace: str = WS, name: str = "worker") -> tuple[Client, Any]:
    client = await gateway.connect(client_id or f"c-{new_id(6)}", user(name), workspace)
    return client, await client.manager.get_service("public/queue")


async def test_first_in_first_out(gateway: Gateway) -> None:
    """Each workspace has queues of its own; `pop` of nothing returns at once or after its timeout."""
    _, queue = await _join(gateway)
    _, other = await _join(gateway, workspace="ws-user-else", name="else")
    await asyncio.gather(*(queue.push("jobs", {"n": n}) for n in range(5)))  # sent in order, not waited for
    assert await queue.get_length("jobs") == 5
    assert await queue.peek("jobs") == [{"n": 0}]
    assert await queue.peek("jobs", 3) == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert await other.get_length("jobs") == 0
    assert await other.pop("jobs", timeout=0) is None
    assert [await queue.pop("jobs", timeout=0) for _ in range(6)] == [*({"n": n} for n in range(5)), None]
    began = asyncio.get_running_loop().time()
    assert await queue.pop("jobs", timeout=0.3) is None
    assert 0.25 < asyncio.get_running_loop().time() - began < 1


async def test_whoever_waits_is_told(both: Gateway) -> None:
    """On two replicas, woken by pushes at either."""
    poppers = [(await _join(both))[1] for _ in range(4)]
    _, pusher = await _join(both)
    for round_number in range(5):
        waiting = [asyncio.ensure_future(popper.pop("fair", timeout=20)) for popper in poppers]
        await asyncio.sleep(0.05)
        began = asyncio.get_running_loop().time()
        for n in range(4):
            await pusher.push("fair", {"n": n})
        got = sorted(task["n"] for task in await asyncio.gather(*waiting))
        assert got == [0, 1, 2, 3]
        assert asyncio.get_running_loop().time() - began < 0.8, (
            f"round {round_number}: found by looking, not by being told"
        )


async def test_whoever_waits_first_is_served_first(gateway: Gateway) -> None:
    """At one replica; between replicas there is no order."""
    _, queue = await _join(gateway)
    first, second = (asyncio.ensure_future(queue.pop("line", timeout=20)) for _ in range(2))
    await asyncio.sleep(0.1)
    await queue.push("line", {"n": 1})
    assert await first == {"n": 1}
    await queue.push("line", {"n": 2})
    assert await second == {"n": 2}


async def test_a_lost_hint_costs_a_second(both: Gateway, replicas: list[WorkspaceService]) -> None:
    """What is in the database is found although nobody told."""
    _, queue = await _join(both)
    waiting = asyncio.ensure_future(queue.pop("quiet", timeout=20))
    await asyncio.sleep(0.1)
    await Queues(replicas[0]._database).push(WS, "quiet", pack({"n": 1}))
    assert await asyncio.wait_for(waiting, 3) == {"n": 1}


async def test_a_task_is_not_given_to_a_client_that_left(both: Gateway) -> None:
    """Without a word, while its call waited at the head of the line: the next one gets the task."""
    client, queue = await _join(both, "leaves")
    lost = asyncio.ensure_future(queue.pop("careful", timeout=60))
    await asyncio.sleep(0.1)
    _, next_queue = await _join(both)
    waiting = asyncio.ensure_future(next_queue.pop("careful", timeout=20))
    await asyncio.sleep(0.1)
    await client.leave()
    lost.cancel()
    _, pusher = await _join(both)
    await pusher.push("careful", {"n": 1})
    assert await asyncio.wait_for(waiting, 5) == {"n": 1}
    assert await pusher.get_length("careful") == 0


async def test_a_replica_that_stops_lets_its_waiters_go(stack: Settings) -> None:
    """They get nothing, as after their timeout, and no task is lost."""
    async with AsyncExitStack() as started:
        service = WorkspaceService(stack, on_fatal=pytest.fail)
        await service.start(started)
        gateway = Gateway(stack)
        await gateway.start()
        _, queue = await _join(gateway)
        waiting = asyncio.ensure_future(queue.pop("stopping", timeout=60))
        await asyncio.sleep(0.1)
        await started.aclose()
        assert await asyncio.wait_for(waiting, 5) is None
        await gateway.stop()


@pytest.mark.parametrize(
    ("method", "arguments", "text"),
    [
        ("push", ("", {}), "ValueError: Invalid queue name:"),
        ("pop", ("-x",), "ValueError: Invalid queue name: -x"),
        ("get_length", ("a b",), "ValueError: Invalid queue name: a b"),
        ("peek", ("a" * 129,), "ValueError: Invalid queue name: aaa"),
        ("pop", ("q\n", 0), "ValueError: Invalid queue name"),
        ("pop", ("q", -1), "ValueError: timeout must be between 0 and 300 seconds"),
        ("pop", ("q", 300.5), "ValueError: timeout must be between 0 and 300 seconds"),
        ("pop", ("q", float("nan")), "ValueError: timeout must be between"),
        ("peek", ("q", 0), "ValueError: n must be between 1 and 100"),
        ("peek", ("q", 101), "ValueError: n must be between 1 and 100"),
        ("push", ("q", [1]), "TypeError|ValueError|map|object"),
        ("push", ("q", {"a": [{"b": b"bytes"}]}), r"task.a\[0\].b is of type bytes"),
        ("push", ("q", {"a": float("inf")}), "task.a is inf"),
        ("push", ("q", {"a": "x" * 2**20}), "The task is larger than 1048576 bytes"),
    ],
)
async def test_what_makes_no_sense_is_refused(gateway: Gateway, method: str, arguments: Any, text: str) -> None:
    _, queue = await _join(gateway, "strange")
    with pytest.raises(Exception, match=text):
        await getattr(queue, method)(*arguments)


async def test_readers_may_look_only(gateway: Gateway) -> None:
    _, queue = await _join(gateway)
    await queue.push("seen", {"n": 1})
    reader = await gateway.connect("reader", child("worker", WS, Permission.READ), WS)
    seen = await reader.manager.get_service("public/queue")
    assert await seen.get_length("seen") == 1
    assert await seen.peek("seen") == [{"n": 1}]
    for call in (seen.push("seen", {}), seen.pop("seen", 0)):
        with pytest.raises(Exception, match="PermissionError: Permission denied for workspace ws-user-worker"):
            await call
