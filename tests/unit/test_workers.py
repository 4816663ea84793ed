from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from hypha_apps.workers import Worker, worker_address
from hypha_apps.workers.descriptions import Descriptions
from hypha_apps.workers.logs import log_entries
from hypha_apps.workers.registrations import Registration
from hypha_common.errors import BadRequest, PeerNotFound
from hypha_common.ids import Address, ServiceId

WORKER = ServiceId("ws-a", "client", "worker")


def function(*parameters: str) -> dict[str, Any]:
    schema = {"parameters": {"properties": {name: {} for name in parameters}}}
    return {"_rtype": "method", "_rmethod": "services.worker.f", **({"_rschema": schema} if parameters else {})}


def test_a_worker_is_read_from_what_its_client_answers() -> None:
    worker = Worker.of(
        WORKER,
        {
            "name": "W", "supported_types": ["a", 1, "b"], "use_local_url": True, "start": function(),
            "get_logs": function("session_id", "type"), "state": {"load": function()}, "title": "text",
        },
    )  # fmt: skip
    assert (worker.id, worker.supported_types, worker.use_local_url) == ("ws-a/client:worker", ("a", "b"), True)
    assert worker.has("start") and worker.has("state.load")
    assert not worker.has("compile") and not worker.has("title") and not worker.has("state")
    assert worker.parameters("get_logs") == {"session_id", "type"}
    assert worker.parameters("start") == worker.parameters("compile") == frozenset()
    assert Worker.of(WORKER, {"supported_types": "a", "name": None, "use_local_url": 3}) == Worker(
        WORKER, "worker", "", (), False
    )


@pytest.mark.parametrize(
    ("answer", "kind", "entries"),
    [
        ({"items": [{"type": "out", "content": "a"}], "total": 1, "offset": 0}, None, [("out", "a")]),
        ({"items": ["a"], "log": ["b"]}, None, [("items", "a"), ("log", "b")]),
        ({"log": ["a", 1], "error": ["b"], "count": 3}, None, [("log", "a"), ("log", "1"), ("error", "b")]),
        (["a", {"type": "x", "content": "b"}], "error", [("error", "a"), ("x", "b")]),
        (["a"], None, [("log", "a")]),
        ("a screen", "screen", [("screen", "a screen")]),
        ("", None, []),
        (None, None, []),
    ],
)
def test_logs_of_all_generations(answer: Any, kind: str | None, entries: list[tuple[str, str]]) -> None:
    assert [(entry["type"], entry["content"]) for entry in log_entries(answer, type=kind)] == entries


def test_ids_of_workers() -> None:
    assert worker_address("client:worker", "ws-a") == worker_address("ws-a/client:worker", "ws-b") == WORKER
    for wrong in ("worker", "ws-a/*:worker", "ws-a/client:worker@app", "ws-a/client", "", 3):
        with pytest.raises(BadRequest):
            worker_address(wrong, "ws-a")  # type: ignore[arg-type]


class Clients:
    """Counts who is asked, and answers for those that are there."""

    def __init__(self, **services: Any) -> None:
        self.services = services
        self.asked: list[str] = []

    async def call(self, to: str, method: str, service: str, **options: Any) -> Any:
        self.asked.append(service)
        await asyncio.sleep(0)
        if service not in self.services:
            raise PeerNotFound("it is gone")
        return self.services[service]


def descriptions(clients: Clients) -> Descriptions:
    async def sender_in(workspace: str) -> Address:
        return Address(workspace, "client-role-x")

    return Descriptions(SimpleNamespace(peer=clients, sender_in=sender_in))  # type: ignore[arg-type]


def registration(service: str, version: str) -> Registration:
    return Registration(ServiceId("ws-a", "client", service), version, "*", "protected", ())


async def test_a_worker_is_asked_once_per_registration() -> None:
    clients = Clients(one={"supported_types": ["a"]})
    known = descriptions(clients)
    found = await asyncio.gather(*(known.of(registration("one", "1")) for _ in range(5)))
    assert {worker.supported_types for worker in found if worker} == {("a",)}
    await known.of(registration("one", "1"))
    assert clients.asked == ["one"]
    clients.services["one"] = {"supported_types": ["b"]}
    again = await known.of(registration("one", "2"))
    assert again is not None and again.supported_types == ("b",)
    assert clients.asked == ["one", "one"]


async def test_one_that_does_not_answer_is_left_alone_until_it_registers_again() -> None:
    clients = Clients()
    known = descriptions(clients)
    assert [await known.of(registration("gone", "1")) for _ in range(3)] == [None] * 3
    assert clients.asked == ["gone"]
    clients.services["gone"] = {"supported_types": []}
    assert await known.of(registration("gone", "2")) is not None


async def test_one_that_did_not_answer_is_asked_again_where_nobody_else_is_there() -> None:
    clients = Clients()
    known = descriptions(clients)
    assert await known.of(registration("slow", "1")) is None
    clients.services["slow"] = {"supported_types": ["a"]}
    assert await known.of(registration("slow", "1")) is None
    assert await known.of(registration("slow", "1"), again=True) is not None
    assert await known.of(registration("slow", "1")) is not None
    assert clients.asked == ["slow", "slow"]
