from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from hypha_common.envelope import Kind, open_envelope
from hypha_common.errors import DeadlineExceeded, HyphaError, NobodyServes
from hypha_common.rpc import probing
from hypha_common.rpc.probing import Owing, probe
from hypha_common.subjects import client_frames

CLIENT = ("ws", "callee")


class AnsweringBus:
    """Answers each probe with the age of the client's connection, or with an error."""

    instance_bytes = b"aaaaaaaa"
    is_connected = True

    def __init__(self, answer: float | HyphaError) -> None:
        self.answer = answer
        self.asked: list[str] = []

    async def ask(self, subject: str, *payload: bytes | memoryview, timeout: float) -> Any:
        assert open_envelope(bytes(payload[0])).kind is Kind.PROBE
        self.asked.append(subject)
        if isinstance(self.answer, HyphaError):
            raise self.answer
        return self.answer


async def lost_with(bus: AnsweringBus, owing: Owing, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Probe a few times; return the calls that were reported as lost."""
    monkeypatch.setattr(probing, "PROBE_INTERVAL_S", 0.01)
    found: list[Any] = []

    def lost(client: tuple[str, str], calls: list[Any]) -> None:
        assert client == CLIENT
        found.extend(calls)

    task = asyncio.create_task(probe(bus, lambda: owing, lost))
    async with asyncio.timeout(5):
        while len(bus.asked) < 2:
            await asyncio.sleep(0.005)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert set(bus.asked) == {client_frames(*CLIENT)}
    return found


async def test_a_callee_that_came_back_has_forgotten_what_was_sent_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection is younger than the call; what was sent to the new one, or while it came, is not given up."""
    now = time.monotonic()
    owing = {CLIENT: {"before": now - 3.0, "after": now - 0.5, "meanwhile": now - 1.05}}
    assert set(await lost_with(AnsweringBus(1.0), owing, monkeypatch)) == {"before"}


async def test_a_callee_that_stayed_is_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    owing = {CLIENT: {"long": time.monotonic() - 60}}
    assert await lost_with(AnsweringBus(3600.0), owing, monkeypatch) == []


async def test_nobody_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    owing = {CLIENT: {"one": time.monotonic(), "other": time.monotonic()}}
    assert set(await lost_with(AnsweringBus(NobodyServes("x")), owing, monkeypatch)) == {"one", "other"}


async def test_a_gateway_that_does_not_answer_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    owing = {CLIENT: {"one": time.monotonic() - 9}}
    assert await lost_with(AnsweringBus(DeadlineExceeded("x")), owing, monkeypatch) == []
