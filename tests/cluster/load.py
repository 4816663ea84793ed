from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import jwt
from hypha_rpc import connect_to_server
from websockets.exceptions import WebSocketException

from hypha_common.ids import new_id
from tests.cluster.frame_client import FrameClient, RefusedError
from tests.cluster.running_cluster import RunningCluster

__all__ = ["KINDS", "Call", "Load", "Stream", "under_load"]

KINDS = ("peer", "peer", "peer", "lookup", "set_env", "get_env", "generate", "parse", "http")
# The clients' own timer for what was on its way when their socket broke; they tell nobody earlier.
METHOD_TIMEOUT_S = 6.0
GIVE_UP_S = 20.0
PAUSE_S = 0.05
TICK_S = 0.02


class WrongAnswerError(AssertionError):
    """A call was answered with what belongs to another one, or to none."""


@dataclass
class Call:
    """One call in the history."""

    kind: str
    caller: int
    target: int
    started: float
    ended: float = 0.0
    error: str | None = None

    @property
    def took_s(self) -> float:
        return self.ended - self.started

    def __str__(self) -> str:
        outcome = "answered" if self.error is None else _brief(self.error)
        return f"{self.kind} {self.caller}->{self.target} at {self.started:.2f} took {self.took_s:.2f}: {outcome}"


@dataclass
class Member:
    """A hypha-rpc client that offers a service, and calls everybody else's."""

    number: int
    gateway: int
    server: Any
    token: str
    http: httpx.AsyncClient
    peers: dict[int, Any] = field(default_factory=dict)
    env: str | None = None
    maybe: set[str] = field(default_factory=set)  # what failed calls may have set, or may still set
    made: tuple[str, str] | None = None

    @property
    def client_id(self) -> str:
        return f"member-{self.number}"

    @property
    def service_id(self) -> str:
        return f"{self.server.config.workspace}/{self.client_id}:work"

    async def join(self) -> None:
        name = self.client_id
        await self.server.register_service({"id": "work", "type": "work", "echo": lambda value: [name, value]})


class Load:
    """Members that call without pause, and the history of their calls."""

    def __init__(self, members: list[Member], kinds: Sequence[str], *, pause_s: float = PAUSE_S) -> None:
        self.members = members
        self._kinds = kinds
        self._pause_s = pause_s
        self.history: list[Call] = []
        self.wrong: list[str] = []
        self.stopping = False
        self.lag_s = 0.0  # the longest time in which this process itself did not get round to anything

    async def run(self, member: Member, seed: int) -> None:
        """Call until told to stop."""
        rng = random.Random(seed)
        while not self.stopping:
            target = rng.choice([other for other in self.members if other is not member])
            await self.call(rng.choice(self._kinds), member, target)
            await asyncio.sleep(self._pause_s * rng.random())

    async def call(self, kind: str, member: Member, target: Member) -> Call:
        """Make one call and note what became of it."""
        call = Call(kind, member.number, target.number, time.monotonic())
        try:
            async with asyncio.timeout(GIVE_UP_S):
                await _CALLS[kind](member, target, new_id(12))
        except WrongAnswerError as error:
            call.ended = time.monotonic()
            self.wrong.append(f"{call}: {error}")
        except Exception as error:  # noqa: BLE001 whatever it is, it is an answer
            call.error = f"{type(error).__name__}: {error}"
        call.ended = time.monotonic()
        self.history.append(call)
        return call

    async def watch_self(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(TICK_S)
            self.lag_s = max(self.lag_s, time.monotonic() - before - TICK_S)

    async def settled(self, timeout: float) -> float:
        """Wait until everybody reaches clients of both gateways; return how long that took."""
        started = time.monotonic()
        await asyncio.gather(
            *(
                self._reaches(member, self.members[member.number - step], started + timeout)
                for member in self.members
                for step in (1, 2)
            )
        )
        return time.monotonic() - started

    async def _reaches(self, member: Member, target: Member, deadline: float) -> None:
        while (call := await self.call("peer", member, target)).error is not None:
            assert time.monotonic() < deadline, f"{call}\n{self.report(self.history)}"
            await asyncio.sleep(0.2)

    async def answered(self, count: int = 100) -> None:
        """Wait until so many more calls were answered well."""
        start = len(self.history)
        async with asyncio.timeout(GIVE_UP_S):
            while sum(call.error is None for call in self.history[start:]) < count:
                await asyncio.sleep(TICK_S)

    def since(self, moment: float) -> list[Call]:
        """Return the calls that ended after a moment."""
        return [call for call in self.history if call.ended > moment]

    def report(self, calls: list[Call]) -> str:
        """Return what a person wants to know of some calls."""
        slowest = sorted(calls, key=lambda call: call.took_s)[-8:]
        failed = [call for call in calls if call.error is not None]
        kinds = Counter((call.kind, _brief(call.error or "")) for call in failed)
        lines = [f"{len(calls)} calls, {len(failed)} failed, own lag {self.lag_s:.2f} s", "slowest:"]
        return "\n ".join([*lines, *map(str, slowest), "errors:", *(f"{n} x {key}" for key, n in kinds.most_common(9))])


async def _peer(member: Member, target: Member, unique: str) -> None:
    service = member.peers.get(target.number)
    if service is None:
        service = member.peers[target.number] = await member.server.get_service(target.service_id)
    _expect(await service.echo(unique), [target.client_id, unique])


async def _lookup(member: Member, target: Member, unique: str) -> None:
    info = await member.server.get_service_info(target.service_id)
    _expect(info["id"], target.service_id)


async def _set_env(member: Member, target: Member, unique: str) -> None:
    member.maybe.add(unique)
    await member.server.set_env(member.client_id, unique)
    member.maybe.discard(unique)
    member.env = unique


async def _get_env(member: Member, target: Member, unique: str) -> None:
    if member.env is not None:
        value = await member.server.get_env(member.client_id)
        if value not in member.maybe:
            _expect(value, member.env)


async def _generate(member: Member, target: Member, unique: str) -> None:
    token = await member.server.generate_token({"expires_in": 60, "client_id": unique})
    claims = jwt.decode(token, options={"verify_signature": False})
    _expect(f"cid:{unique}" in claims["scope"], True)
    member.made = (token, claims["sub"])


async def _parse(member: Member, target: Member, unique: str) -> None:
    if member.made is not None:
        token, user = member.made
        _expect((await member.server.parse_token(token))["id"], user)


async def _http(member: Member, target: Member, unique: str) -> None:
    workspace, _, service = target.service_id.partition("/")
    answer = await member.http.get(
        f"/{workspace}/services/{service}/echo", params={"value": unique}, headers={"Authorization": member.token}
    )
    if answer.status_code != 200:
        raise RuntimeError(answer.text)
    _expect(answer.json(), [target.client_id, unique])


_CALLS: dict[str, Callable[[Member, Member, str], Awaitable[None]]] = {
    "peer": _peer,
    "lookup": _lookup,
    "set_env": _set_env,
    "get_env": _get_env,
    "generate": _generate,
    "parse": _parse,
    "http": _http,
}


def _brief(error: str) -> str:
    return " … ".join(error.strip().splitlines()[:: max(1, error.strip().count("\n"))])[:200]


def _expect(value: object, expected: object) -> None:
    if value != expected:
        raise WrongAnswerError(f"{value!r} instead of {expected!r}")


class Stream:
    """Numbered frames from one bare client to another; either comes back when its gateway dies."""

    def __init__(self, urls: tuple[str, str], token: str) -> None:
        self._urls = urls
        self._token = token
        self._names = [f"stream-{new_id(6)}", f"stream-{new_id(6)}"]
        self._target = ""
        self.stopping = False
        self.sent = 0
        self.received: list[int] = []

    async def run(self, ready: asyncio.Event) -> None:
        """Send and receive until cancelled."""
        there = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._stay(self._urls[1], self._names[1], self._receive, there))
            await there.wait()
            group.create_task(self._stay(self._urls[0], self._names[0], self._send, ready))

    async def _stay(
        self, url: str, name: str, work: Callable[[FrameClient], Awaitable[None]], there: asyncio.Event
    ) -> None:
        reconnection_token = None
        while not self.stopping:
            with suppress(OSError, WebSocketException, TimeoutError, RefusedError):
                async with await FrameClient.connect(
                    url, name, token=self._token, reconnection_token=reconnection_token
                ) as client:
                    reconnection_token = client.info["reconnection_token"]
                    self._target = f"{client.info['workspace']}/{self._names[1]}"
                    there.set()
                    await work(client)
            await asyncio.sleep(0.1)

    async def _send(self, client: FrameClient) -> None:
        while True:
            await client.send(self._target, {"number": self.sent}, method="x")
            self.sent += 1
            await asyncio.sleep(TICK_S)

    async def _receive(self, client: FrameClient) -> None:
        while True:
            _, extra = await client.receive(timeout=3600)
            self.received.append(extra["number"])


@asynccontextmanager
async def under_load(
    cluster: RunningCluster, *, members: int = 24, kinds: Sequence[str] = KINDS
) -> AsyncIterator[tuple[Load, list[Stream]]]:
    """Half of the members at each gateway, calling; and a stream in both directions."""
    token = cluster.user_token()
    urls = cluster.gateway_urls
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=GIVE_UP_S)) for url in urls]
        joined: list[Member] = []
        for number in range(members):
            config = {
                "server_url": urls[number % 2], "token": token, "client_id": f"member-{number}",
                "method_timeout": METHOD_TIMEOUT_S, "logger": None,
            }  # fmt: skip
            server = await stack.enter_async_context(connect_to_server(config))
            joined.append(Member(number, number % 2, server, f"Bearer {token}", clients[number % 2]))
        await asyncio.gather(*(member.join() for member in joined))
        load = Load(joined, kinds)
        streams = [Stream((urls[0], urls[1]), token), Stream((urls[1], urls[0]), token)]
        ready = [asyncio.Event() for _ in streams]
        tasks = [asyncio.create_task(stream.run(event)) for stream, event in zip(streams, ready, strict=True)]
        tasks.append(asyncio.create_task(load.watch_self()))
        calling = [asyncio.create_task(load.run(member, member.number)) for member in joined]
        try:
            for event in ready:
                await asyncio.wait_for(event.wait(), GIVE_UP_S)
            await load.answered()
            yield load, streams
        finally:
            load.stopping = True  # every call gets its outcome
            await asyncio.wait(calling)
            for stream in streams:
                stream.stopping = True
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
