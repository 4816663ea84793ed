"""Somebody at a hub: an unmodified hypha-rpc client that serves others, and one call of each kind that it makes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import httpx
import jwt

from tests.chaos.history import Call, History

__all__ = ["KINDS", "OBSERVED", "OF_SEVERAL_STEPS", "Kind", "Member", "settle"]

# How much one call of `large` carries each way; hypha-rpc cuts it into pieces.
_LARGE_BYTES = 600_000
_ITEMS = 5


@dataclass
class Member:
    """A client at one address of the hub, which may be that of a balancer."""

    name: str
    workspace: str
    url: str
    token: str
    server: Any
    http: httpx.AsyncClient
    history: History
    random: random.Random
    apps: str = ""  # the workspace whose apps are looked up
    services: dict[str, Any] = field(default_factory=dict)
    # What a variable of ours may hold: the last value that was acknowledged, and all that failed since it was.
    env: set[str] = field(default_factory=set)
    pushed: list[str] = field(default_factory=list)  # acknowledged tasks in our queue, in order
    unsure: set[str] = field(default_factory=set)  # tasks whose push failed: they may turn up, also late
    lost_pops: int = 0  # pops that failed: each may take a task, also late
    files: dict[str, str] = field(default_factory=dict)  # content of committed artifacts, by alias
    made: tuple[str, str] | None = None  # a token, and who it is

    @property
    def address(self) -> str:
        return f"{self.workspace}/{self.name}"

    async def serve(self) -> None:
        """Register the service that the others call; hypha-rpc registers it again when it is back."""
        executed = self.history.executed

        def echo(call: str) -> str:
            executed(call)
            return call

        def large(call: str, data: bytes) -> list[Any]:
            executed(call)
            return [call, data]

        async def back(call: str, callback: Callable[[str], Awaitable[str]]) -> str:
            executed(call)
            return await callback(call)

        async def items(call: str) -> AsyncIterator[str]:
            executed(call)
            for number in range(_ITEMS):
                yield f"{call} {number}"

        await self.server.register_service(
            {
                "id": "work", "type": "work", "config": {"visibility": "public"},
                "echo": echo, "large": large, "back": back, "items": items,
            }
        )  # fmt: skip

    async def service(self, service_id: str) -> Any:
        """Return a service, looked up once."""
        if service_id not in self.services:
            self.services[service_id] = await self.server.get_service(service_id)
        return self.services[service_id]

    async def work_of(self, target: Member) -> Any:
        return await self.service(f"{target.address}:work")


async def _peer(member: Member, target: Member, call: Call) -> None:
    service = await member.work_of(target)
    member.history.answered(call, await service.echo(call.id))


async def _callback(member: Member, target: Member, call: Call) -> None:
    service = await member.work_of(target)
    answer = await service.back(call.id, lambda text: f"called {text}")
    member.history.answered(call, answer, allowed=(f"called {call.id}",))


async def _generator(member: Member, target: Member, call: Call) -> None:
    service = await member.work_of(target)
    found = [item async for item in await service.items(call.id)]
    member.history.answered(call, found, allowed=([f"{call.id} {number}" for number in range(_ITEMS)],))


async def _large(member: Member, target: Member, call: Call) -> None:
    service = await member.work_of(target)
    data = call.id.encode() * (_LARGE_BYTES // len(call.id))
    name, answer = await service.large(call.id, data)
    member.history.answered(call, name if answer == data else "other bytes")


async def _lookup(member: Member, target: Member, call: Call) -> None:
    info = await member.server.get_service_info(f"{target.address}:work")
    member.history.answered(call, info["id"], allowed=(f"{target.address}:work",))


async def _register(member: Member, target: Member, call: Call) -> None:
    """Whoever has registered a service finds it, and whoever has unregistered it does not."""
    name = f"t-{call.id.lower()}"
    await member.server.register_service({"id": name, "type": "temporary", "hello": lambda: call.id})
    found = await (await member.server.get_service(f"{member.address}:{name}")).hello()
    await member.server.unregister_service(name)
    member.history.answered(call, found)


async def _listed(member: Member, target: Member, call: Call) -> None:
    services = await member.server.list_services({"type": "work"})
    mine = f"{member.address}:work"
    member.history.answered(call, next((s["id"] for s in services if s["id"] == mine), "nothing"), allowed=(mine,))


async def _env(member: Member, target: Member, call: Call) -> None:
    """Read your writes: the last acknowledged value, or one of those that failed since."""
    if member.env:
        value = await member.server.get_env(member.name)
        if value not in member.env:
            member.history.answered(call, value, allowed=sorted(member.env))
            return
    member.env.add(call.id)
    await member.server.set_env(member.name, call.id)
    member.env = {call.id}
    member.history.answered(call, call.id)


async def _token(member: Member, target: Member, call: Call) -> None:
    token = await member.server.generate_token({"expires_in": 120, "client_id": call.id})
    claims = jwt.decode(token, options={"verify_signature": False})
    parsed = await member.server.parse_token(token)
    right = f"cid:{call.id}" in claims["scope"] and parsed["id"] == claims["sub"]
    member.history.answered(call, call.id if right else claims)


async def _http(member: Member, target: Member, call: Call) -> None:
    answer = await member.http.get(
        f"{member.url}/{target.workspace}/services/{target.name}:work/echo",
        params={"call": call.id},
        headers={"Authorization": f"Bearer {member.token}"},
    )
    if answer.status_code != 200:
        raise RuntimeError(f"{answer.status_code} {answer.text}")
    member.history.answered(call, answer.json())


async def _queue(member: Member, target: Member, call: Call) -> None:
    """A queue of one's own: what comes out went in, once, in that order, and nothing acknowledged is passed over."""
    queue, name = await member.service("public/queue"), f"q-{member.name}"
    member.unsure.add(call.id)
    await queue.push(name, {"call": call.id})
    member.unsure.discard(call.id)
    member.pushed.append(call.id)
    member.lost_pops += 1
    task = await queue.pop(name, timeout=0)
    member.lost_pops -= 1
    waiting = member.pushed[: member.lost_pops + 1]
    allowed = {*member.unsure, *waiting}
    if len(waiting) <= member.lost_pops:
        allowed.add("nothing")
    value = task["call"] if task is not None else "nothing"
    if value in member.unsure:
        member.unsure.discard(value)
    elif value in allowed:
        passed = waiting.index(value) if value in waiting else len(waiting)
        member.lost_pops -= passed
        del member.pushed[: passed + 1]
    member.history.answered(call, value, allowed=sorted(allowed))


async def _artifact(member: Member, target: Member, call: Call) -> None:
    """Commit a file, and read it and an older one."""
    artifacts, alias = await member.service("public/artifact-manager"), f"a-{call.id.lower()}"
    older = member.random.choice(list(member.files.items())) if member.files else None
    await artifacts.create(alias=alias, type="dataset", manifest={"name": alias}, version="stage")
    url = await artifacts.put_file(alias, "file.txt")
    (await member.http.put(_here(member, url), content=call.id.encode())).raise_for_status()
    await artifacts.commit(alias)
    member.files[alias] = call.id
    found = [(await artifacts.read_file(alias, "file.txt"))["content"]]
    if older is not None:
        found.append((await artifacts.read_file(older[0], "file.txt"))["content"])
    member.history.answered(call, found, allowed=([call.id, older[1]] if older else [call.id],))


async def _app(member: Member, target: Member, call: Call) -> None:
    await _look_up_app(member, "chaos", call)


async def _browser(member: Member, target: Member, call: Call) -> None:
    await _look_up_app(member, "page", call)


async def _look_up_app(member: Member, app: str, call: Call) -> None:
    """Look up an app, which starts it where it does not run, and call it."""
    service = await member.server.get_service(f"{member.apps}/default@{app}", {"mode": "random"})
    member.history.answered(call, await service.hello(call.id), allowed=(f"hello {call.id}",))


def _here(member: Member, url: str) -> str:
    """Return an address of the hub as this member reaches it."""
    path = url.split("/", 3)[3]
    return f"{member.url}/{path}"


Kind: TypeAlias = Callable[[Member, Member, Call], Awaitable[None]]

KINDS: dict[str, Kind] = {
    "peer": _peer,
    "callback": _callback,
    "generator": _generator,
    "large": _large,
    "lookup": _lookup,
    "register": _register,
    "list": _listed,
    "env": _env,
    "token": _token,
    "http": _http,
    "queue": _queue,
    "artifact": _artifact,
    "app": _app,  # in a worker of its own
    "browser": _browser,  # in the browser worker
}
OBSERVED = frozenset({"peer", "callback", "generator", "large", "http"})  # whose execution the target notes
# More than one message: that one of them reached nobody says nothing of those before it.
OF_SEVERAL_STEPS = frozenset({"callback", "generator", "large"})


async def settle(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait for their ends."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
