"""Clients that work without pause in one workspace, and note what was acknowledged and what failed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from typing import Any

import httpx
from hypha_rpc import connect_to_server

from hypha_common.principal import Principal
from tests.cluster.running_cluster import RunningCluster

__all__ = ["MovingLoad", "moving_load"]

_PAUSE_S = 0.05
_METHOD_TIMEOUT_S = 15.0


class MovingLoad:
    """
    One workspace with two clients, which do everything that leaves rows, over and over, each thing one after another.

    Times are of ``time.monotonic()``. :attr:`acknowledged` has (time, number) for each kind of work, :attr:`failures`
    (time, text).

    """

    def __init__(
        self, hub: RunningCluster, who: Principal, server: Any, friend: Any, http: httpx.AsyncClient, *, artifacts: bool
    ) -> None:
        self._hub, self._who, self._server, self._friend, self._http = hub, who, server, friend, http
        self._with_artifacts = artifacts
        self.workspace: str = server.config.workspace
        self.acknowledged: dict[str, list[tuple[float, int]]] = {}
        self.failures: dict[str, list[tuple[float, str]]] = {}
        self.popped: list[int] = []
        self._stopping = False
        self._running = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Begin nothing more, and wait for what was begun. The clients stay connected."""
        self._stopping = True
        await self._running

    def pause_s(self, kind: str) -> float:
        """Return the longest time between two acknowledgements of a kind."""
        times = [moment for moment, _ in self.acknowledged[kind]]
        return max(later - earlier for earlier, later in pairwise(times))

    def count(self) -> int:
        """Return how many pieces of the rarest kind of work were acknowledged."""
        return min(map(len, self.acknowledged.values())) if len(self.acknowledged) == 7 + self._with_artifacts else 0

    async def check_all_there(self) -> None:
        """Find everything that was acknowledged, where it belongs and once."""
        there = {service["id"].rpartition(":")[2] for service in await self._server.list_services()}
        assert {f"s{number}" for _, number in self.acknowledged["register"]} <= there
        for _, number in self.acknowledged["set_env"]:
            assert await self._server.get_env(f"E{number}") == str(number)
        if self._with_artifacts:
            artifacts = await self._server.get_service("public/artifact-manager")
            for _, number in self.acknowledged["artifact"]:
                assert (await artifacts.read(f"a{number}"))["manifest"] == {"name": str(number)}
        queue = await self._server.get_service("public/queue")
        while (task := await queue.pop("q", timeout=0)) is not None:
            self.popped.append(task["n"])
        assert self.popped == sorted(set(self.popped)), "tasks came twice, or in another order"
        assert {number for _, number in self.acknowledged["push"]} <= set(self.popped)

    async def _run(self) -> None:
        queue, taken = [await one.get_service("public/queue") for one in (self._server, self._friend)]
        await self._server.register_service(
            {"id": "echo", "config": {"visibility": "public"}, "echo": lambda value: value}
        )
        echo = await self._friend.get_service(f"{self._server.config.client_id}:echo")

        async def call(number: int) -> None:
            assert await echo.echo(number) == number

        async def http(number: int) -> None:
            url = f"{self._hub.url}/{self.workspace}/services/echo/echo?value={number}"
            answer = await self._http.get(url)
            assert answer.status_code == 200, f"{answer.status_code} {answer.text}"
            assert answer.json() == number

        async def pop(number: int) -> None:
            task = await taken.pop("q", timeout=1)
            if task is not None:
                self.popped.append(task["n"])

        async def connect(number: int) -> None:
            config = {"server_url": self._hub.url, "token": self._hub.token_of(self._who), "logger": None}
            async with connect_to_server({**config, "client_id": f"guest-{number}"}) as guest:
                assert guest.config.workspace == self.workspace

        kinds: dict[str, Callable[[int], Awaitable[Any]]] = {
            "call": call,
            "http": http,
            "pop": pop,
            "connect": connect,
            "register": lambda number: self._server.register_service({"id": f"s{number}", "n": lambda: number}),
            "set_env": lambda number: self._server.set_env(f"E{number}", str(number)),
            "push": lambda number: queue.push("q", {"n": number}),
        }
        if self._with_artifacts:
            artifacts = await self._server.get_service("public/artifact-manager")
            kinds["artifact"] = lambda number: artifacts.create(alias=f"a{number}", manifest={"name": str(number)})
        async with asyncio.TaskGroup() as group:
            for kind, act in kinds.items():
                group.create_task(self._repeat(kind, act))

    async def _repeat(self, kind: str, act: Callable[[int], Awaitable[Any]]) -> None:
        number = 0
        while not self._stopping:
            number += 1
            try:
                await act(number)
            except Exception as error:  # noqa: BLE001 the test looks whether it may have been
                self.failures.setdefault(kind, []).append((time.monotonic(), f"{type(error).__name__}: {error}"))
            else:
                self.acknowledged.setdefault(kind, []).append((time.monotonic(), number))
            await asyncio.sleep(_PAUSE_S)


@asynccontextmanager
async def moving_load(
    hub: RunningCluster, *users: Principal, artifacts: bool = True
) -> AsyncIterator[list[MovingLoad]]:
    """Work in the personal workspaces of users."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=_METHOD_TIMEOUT_S))
        loads = []
        for who in users:
            config = {
                "server_url": hub.url, "token": hub.token_of(who), "method_timeout": _METHOD_TIMEOUT_S, "logger": None
            }  # fmt: skip
            server, friend = [await stack.enter_async_context(connect_to_server(config)) for _ in range(2)]
            loads.append(MovingLoad(hub, who, server, friend, http, artifacts=artifacts))
        try:
            yield loads
        finally:
            for load in loads:
                await load.stop()
