from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import httpx
from hypha_rpc import connect_to_server
from websockets.exceptions import WebSocketException

from hypha_common.ids import new_id, personal_workspace
from tests.chaos.history import Call, History, brief
from tests.chaos.members import KINDS, OBSERVED, OF_SEVERAL_STEPS, Member, settle
from tests.cluster.frame_client import FrameClient, RefusedError
from tests.cluster.running_cluster import RunningCluster

__all__ = ["Workload", "at_work"]

# The clients' own timer for what was on its way when their socket broke; nobody tells them earlier.
METHOD_TIMEOUT_S = 8.0
DEADLINE_S = 30.0  # several calls in a row, each with that timer
PAUSE_S = 0.08
TICK_S = 0.02
_LAST_FRAMES_S = 0.5  # a frame that nobody answers shows by nothing that it is lost
QUIET_S = 3.0  # without a failure: then the system has recovered


class Workload:
    """
    Members in several workspaces that make calls of every kind in turn, and streams of numbered frames.

    Each member goes through the kinds in an order of its own; after a failure it goes on with the next.

    """

    def __init__(self, members: list[Member], kinds: Sequence[str], history: History) -> None:
        self.members = members
        self.history = history
        self.stopping = False
        self.lag_s = 0.0  # the longest time in which this process itself did not get round to anything
        self._kinds = kinds

    async def run(self, member: Member) -> None:
        """Call until told to stop."""
        while not self.stopping:
            for kind in member.random.sample(self._kinds, len(self._kinds)):
                if self.stopping:
                    return
                others = [other for other in self.members if other is not member]
                await self.call(kind, member, member.random.choice(others))
                await asyncio.sleep(PAUSE_S * member.random.random())

    async def call(self, kind: str, member: Member, target: Member) -> Call:
        """Make one call and note what became of it."""
        observed = kind in OBSERVED
        to = target.address if observed else f"{target.address} by {kind}"
        call = self.history.sent(kind, member.address, to, deadline_s=DEADLINE_S, observed=observed)
        try:
            async with asyncio.timeout(2 * DEADLINE_S):
                await KINDS[kind](member, target, call)
        except Exception as error:  # noqa: BLE001 whatever it is, it is an answer
            self.history.failed(call, error, definite=False if kind in OF_SEVERAL_STEPS else None)
        return call

    async def watch_self(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(TICK_S)
            self.lag_s = max(self.lag_s, time.monotonic() - before - TICK_S)

    async def recovered(self, since: float, *, within_s: float, quiet_s: float = QUIET_S) -> float:
        """
        Wait until calls of every kind succeed for every member, and go on succeeding for ``quiet_s``.

        Returns the seconds from ``since`` to the first moment after which no call was sent in vain. Raises
        AssertionError where that moment is later than ``within_s``.

        """
        wanted = {(member.address, kind) for member in self.members for kind in self._kinds}
        while True:
            sent = [call for call in self.history.calls.values() if not call.one_way and call.sent >= since]
            failed = [call for call in sent if call.outcome == "failed" or call.is_wrong]
            start = max((call.sent for call in failed), default=since)
            late = "\n ".join(str(call) for call in failed[-12:])
            assert start - since <= within_s, f"not recovered within {within_s:g} s:\n {late}"
            good = {
                (call.caller, call.kind)
                for call in sent
                if call.outcome == "answered" and call.sent >= start and not call.is_wrong
            }
            now = time.monotonic()
            if now - start >= quiet_s and good >= wanted:
                return start - since
            missing = sorted(wanted - good)
            assert now - start < within_s + 2 * DEADLINE_S, f"nothing is heard of {missing[:12]}"
            await asyncio.sleep(0.1)

    def report(self, calls: list[Call]) -> str:
        """Return what a person wants to know of some calls."""
        failed = [call for call in calls if call.outcome == "failed"]
        slowest = sorted((call for call in calls if not call.one_way), key=lambda call: call.took_s)[-6:]
        errors: dict[tuple[str, str], int] = {}
        for call in failed:
            key = (call.kind, brief(call.error))
            errors[key] = errors.get(key, 0) + 1
        often = sorted(errors.items(), key=lambda item: -item[1])[:12]
        lines = [f"{len(calls)} calls, {len(failed)} failed, own lag {self.lag_s:.2f} s; slowest:", *map(str, slowest)]
        return "\n ".join([*lines, "errors:", *(f"{count} x {kind}: {text}" for (kind, text), count in often)])


class Stream:
    """Frames that want no answer, from one bare client to another; either comes back when its gateway dies."""

    def __init__(self, history: History, urls: tuple[str, str], token: str) -> None:
        self._history = history
        self._urls = urls
        self._token = token
        self._names = [f"stream-{new_id(6)}", f"stream-{new_id(6)}"]
        self._target = ""
        self.stopping = False

    async def run(self, ready: asyncio.Event) -> None:
        """Send and receive until cancelled."""
        there = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._stay(1, there))
            await there.wait()
            group.create_task(self._stay(0, ready))

    async def _stay(self, end: int, there: asyncio.Event) -> None:
        reconnection_token = None
        while True:
            with suppress(OSError, WebSocketException, TimeoutError, RefusedError):
                async with await FrameClient.connect(
                    self._urls[end], self._names[end], token=self._token, reconnection_token=reconnection_token
                ) as client:
                    reconnection_token = client.info["reconnection_token"]
                    self._target = f"{client.info['workspace']}/{self._names[1]}"
                    there.set()
                    await (self._receive(client) if end else self._send(client))
            await asyncio.sleep(0.1)

    async def _send(self, client: FrameClient) -> None:
        while not self.stopping:
            call = self._history.sent("stream", self._names[0], self._target, deadline_s=5, one_way=True)
            await client.send(self._target, {"call": call.id}, method="x")
            await asyncio.sleep(TICK_S)
        await asyncio.Event().wait()

    async def _receive(self, client: FrameClient) -> None:
        while True:
            _, extra = await client.receive(timeout=3600)
            self._history.executed(extra["call"])


@asynccontextmanager
async def at_work(
    cluster: RunningCluster,
    urls: Sequence[str],
    *,
    kinds: Sequence[str] = tuple(KINDS),
    members: int = 9,
    workspaces: int = 3,
    seed: int = 0,
    apps: str = "",
) -> AsyncIterator[Workload]:
    """Members spread over ``urls`` and workspaces, calling; each has made one good call of each kind."""
    history = History()
    users = [f"chaos-{new_id(6).lower()}" for _ in range(workspaces)]
    tokens = {user: cluster.user_token(user) for user in users}
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=METHOD_TIMEOUT_S))
        joined: list[Member] = []
        for number in range(members):
            user, url = users[number % workspaces], urls[number % len(urls)]
            options = {
                "server_url": url, "token": tokens[user], "client_id": f"member-{number}",
                "method_timeout": METHOD_TIMEOUT_S, "logger": None,
            }  # fmt: skip
            server = await stack.enter_async_context(connect_to_server(options))
            draw = random.Random(f"{seed} {number}")
            workspace = personal_workspace(user)
            joined.append(Member(f"member-{number}", workspace, url, tokens[user], server, http, history, draw, apps))
        await asyncio.gather(*(member.serve() for member in joined))
        workload = Workload(joined, kinds, history)
        flows = [Stream(history, ends, tokens[users[0]]) for ends in ((urls[0], urls[1]), (urls[1], urls[0]))]
        ready = [asyncio.Event() for _ in flows]
        background = [asyncio.create_task(flow.run(event)) for flow, event in zip(flows, ready, strict=True)]
        background.append(asyncio.create_task(workload.watch_self()))
        calling = [asyncio.create_task(workload.run(member)) for member in joined]
        try:
            async with asyncio.timeout(DEADLINE_S):
                for event in ready:
                    await event.wait()
            await workload.recovered(time.monotonic(), within_s=DEADLINE_S, quiet_s=0.5)
            yield workload
        finally:
            workload.stopping = True  # every call gets its outcome
            await asyncio.wait(calling)
            for flow in flows:
                flow.stopping = True
            await asyncio.sleep(_LAST_FRAMES_S)
            await settle(background)
