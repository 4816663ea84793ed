"""What a gateway tells the apps service of the instances that are connected to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any, cast

import pytest

from hypha_apps.keeping.idle import ASKED
from hypha_common.bus import Bus
from hypha_common.ids import Address, new_id
from hypha_gateway.activity import Activity
from hypha_gateway.connection import Connection
from hypha_gateway.table import ConnectionTable

_numbers = count(1)


@dataclass(eq=False)
class Instance:
    """What is asked of a connection."""

    address: Address
    number: int = field(default_factory=lambda: next(_numbers))
    last_sent: float = 0.0
    frames_sent: int = 0


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Bus]:
    bus = Bus(urls=[nats_url], role="gateway", instance=new_id(8), on_fatal=lambda reason: None)
    await bus.connect()
    yield bus
    await bus.close()


async def test_reports_of_instances(bus: Bus) -> None:
    """Of instances of apps, how long ago they sent something and how much a minute; without any, nothing."""
    reports: list[dict[str, Any]] = []

    async def take(message: dict[str, Any]) -> dict[str, Any]:
        reports.append(message)
        return {}

    await bus.serve("apps", "activity", take)
    await bus.flush()
    table = ConnectionTable()
    activity = Activity(bus=bus, table=table)
    table.add(cast("Connection", Instance(Address("ws-a", "client"))))
    await activity.report()
    assert reports == []
    app = Instance(Address("ws-a", "_rapp_calm-fox-1__rlb"), last_sent=time.monotonic() - 7)
    table.add(cast("Connection", app))
    await activity.report()
    (report,) = reports
    assert report["gateway"] == bus.instance
    assert set(report["clients"]) == {"ws-a/_rapp_calm-fox-1__rlb"}
    told = report["clients"]["ws-a/_rapp_calm-fox-1__rlb"]
    assert told["idle"] == pytest.approx(7, abs=1)
    assert told["load"] == 0
    app.frames_sent, app.last_sent = 30, time.monotonic()
    await activity.report()
    told = reports[1]["clients"]["ws-a/_rapp_calm-fox-1__rlb"]
    assert told["idle"] == pytest.approx(0, abs=1)
    assert told["load"] == pytest.approx(30, abs=1)


async def test_load_is_that_of_the_last_minute(bus: Bus) -> None:
    """A burst counts for a minute, and then less and less; one that is long past not at all."""
    loads: list[float] = []

    async def take(message: dict[str, Any]) -> dict[str, Any]:
        loads.extend(about["load"] for about in message["clients"].values())
        return {}

    await bus.serve("apps", "activity", take)
    await bus.flush()
    table = ConnectionTable()
    app = Instance(Address("ws-a", "_rapp_calm-fox-1__rlb"))
    table.add(cast("Connection", app))
    clock = [0.0]
    activity = Activity(bus=bus, table=table, now=lambda: clock[0])
    for now, frames in ((0, 0), (30, 60), (60, 60), (90, 60), (120, 60), (150, 90), (300, 90)):
        clock[0], app.frames_sent = now, frames
        await activity.report()
    assert loads == [0, 60, 60, 30, 0, 30, 0]


async def test_nobody_runs_apps(bus: Bus) -> None:
    """An instance may be left in a cluster that has no apps service any more."""
    table = ConnectionTable()
    table.add(cast("Connection", Instance(Address("ws-a", "_rapp_calm-fox-1__rlb"))))
    activity = Activity(bus=bus, table=table)
    async with asyncio.timeout(5):
        await activity.report()


async def test_it_is_told_at_once_when_somebody_asks(bus: Bus) -> None:
    """The apps service does, before it stops what seems to be idle."""
    reported = asyncio.Event()

    async def take(message: dict[str, Any]) -> dict[str, Any]:
        reported.set()
        return {}

    await bus.serve("apps", "activity", take)
    table = ConnectionTable()
    table.add(cast("Connection", Instance(Address("ws-a", "_rapp_calm-fox-1__rlb"))))
    activity = Activity(bus=bus, table=table)
    running = asyncio.create_task(activity.run())
    async with asyncio.timeout(2):  # by itself it would take longer
        while not reported.is_set():
            bus.publish(ASKED, b"")
            await asyncio.sleep(0.02)
    running.cancel()
