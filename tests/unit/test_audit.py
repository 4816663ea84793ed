from __future__ import annotations

import time
from typing import Any

import pytest

from hypha_auth.audit_repository import AuditRows
from hypha_common import audit as module
from hypha_common.audit import Audit
from hypha_common.bus import Bus
from hypha_common.db import Database
from hypha_common.errors import BadRequest, Unavailable
from tests.fixtures.auth import auth_database, auth_settings, bus, eventually, nats_url, postgres

__all__ = ["auth_database", "auth_settings", "bus", "nats_url", "postgres"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FLUSH_S", 0.05)
    monkeypatch.setattr(module, "_RETRY_S", 0.05)


class Store:
    """Where events go; the errors in ``fails`` are raised first, after the events were taken or not."""

    def __init__(self, *fails: Exception) -> None:
        self.fails = list(fails)
        self.events: list[dict[str, Any]] = []
        self.batches = 0

    async def __call__(self, events: list[dict[str, Any]]) -> None:
        self.batches += 1
        if self.fails:
            raise self.fails.pop(0)
        self.events.extend(events)


async def test_counted_together(bus: Bus) -> None:
    """Equal events of one interval are one record with a number; different ones stay apart."""
    store = Store()
    audit = Audit(bus, store=store)
    for _ in range(1000):
        audit.record("denied", address="192.0.2.1", reason="no token")
    audit.record("denied", address="192.0.2.2", reason="no token")
    await eventually(lambda: len(store.events) == 2)
    assert [(event["address"], event["count"]) for event in store.events] == [("192.0.2.1", 1000), ("192.0.2.2", 1)]
    assert store.batches == 1
    audit.record("denied", address="192.0.2.1", reason="no token")
    await eventually(lambda: len(store.events) == 3)
    await audit.close()


async def test_kept_while_it_cannot_be_stored(bus: Bus) -> None:
    """What was sent without an answer is sent again under its key; what nobody can store is dropped and counted."""
    store = Store(Unavailable("away"), Unavailable("away"))
    audit = Audit(bus, store=store)
    audit.record("login", user="alice")
    await eventually(lambda: [event["user"] for event in store.events] == ["alice"])
    before = module.DROPPED._value.get()
    store.fails = [BadRequest("what is that?")]
    audit.record("login", user="bob")
    await eventually(lambda: module.DROPPED._value.get() == before + 1)
    audit.record("login", user="carol")
    await eventually(lambda: [event["user"] for event in store.events] == ["alice", "carol"])
    await audit.close()


async def test_bounded(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of different events fills neither the memory nor the record."""
    monkeypatch.setattr(module, "_MAX_KEPT", 10)
    store, before = Store(), module.DROPPED._value.get()
    audit = Audit(bus, store=store)
    for number in range(25):
        audit.record("denied", address=f"192.0.2.{number}")
    assert module.DROPPED._value.get() == before + 15
    await audit.close()
    assert len(store.events) == 10


async def test_sent_to_auth_and_stored_once(bus: Bus, auth_database: Database) -> None:
    """Through the bus into the database: whatever text it is, and once, however often it is sent."""
    rows = AuditRows(auth_database.home)

    async def store(message: dict[str, Any]) -> None:
        for _ in range(2):
            await rows.add(message["events"])

    await bus.serve("auth", "audit", store)
    await bus.flush()
    audit = Audit(bus)
    strange = "a\x00b\ud800" + "x" * 1000
    audit.record("denied", user=strange, workspace="ws", address="::1", reason=strange, tries=3, odd=float("nan"))
    await audit.close()
    [event] = await rows.select()
    assert (event.event, event.workspace, event.address, event.count) == ("denied", "ws", "::1", 1)
    assert event.user.startswith("a\ufffdb?xxx")
    assert len(event.user) == 256
    assert (event.details["tries"], event.details["odd"]) == (3, "nan")


async def test_select_and_retention(auth_database: Database) -> None:
    """The record is read by who, what, where and when, newest last, and forgotten in time."""
    rows = AuditRows(auth_database.home)
    await rows.add(
        [
            {"key": str(n), "at": 1e9 if n == 0 else time.time(), "event": event}
            | {"user": user, "workspace": "ws", "address": "", "details": {"n": n}, "count": 1}
            for n, (event, user) in enumerate(
                [("login", "old"), ("login", "alice"), ("denied", "eve"), ("login", "bob")]
            )
        ]
    )

    async def users(**wanted: Any) -> list[str]:
        return [event.user for event in await rows.select(**wanted)]

    assert await users() == ["old", "alice", "eve", "bob"]
    assert await users(limit=2) == ["eve", "bob"]
    assert await users(event="login", since_s=60) == ["alice", "bob"]
    assert await users(user="eve", workspace="ws") == ["eve"]
    assert await users(workspace="other") == []
    newest = (await rows.select())[-1].number
    assert await users(after=newest - 1) == ["bob"]
    assert await rows.delete_older(3600) == 1
    assert await users() == ["alice", "eve", "bob"]
