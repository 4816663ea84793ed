from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from hypha_common.audit import Audit
from hypha_common.errors import BadRequest
from hypha_common.operating import operator_bus, print_rows, run
from hypha_common.partition_map import Phase
from hypha_common.subjects import PARTITIONS
from hypha_workspace.inspection import open_stores

from .findings import findings
from .mover import Mover
from .survey import Survey, survey

if TYPE_CHECKING:
    import argparse

    from hypha_common.bus import Bus
    from hypha_common.settings import Settings

__all__ = ["check", "move", "show"]


def show(settings: Settings, parsed: argparse.Namespace) -> int | None:
    """Print each partition: its database, how many workspaces and rows it has, its state, and who serves it."""

    async def command(found: Survey) -> None:
        where = found.database.map
        numbers = {name: number for number, name in enumerate(found.held, 1)}
        rows = []
        for partition in range(PARTITIONS):
            name, place = where.place(partition), where.places.get(partition)
            held = found.held.get(name)
            known = held is not None and not held.lost
            state = "here" if place is None else str(place.phase)
            if place is not None and place.phase is not Phase.HERE:
                state += f" ({place.other})"
            serving = [f"{one.role}:{one.id}" for one in found.replicas if partition in one.serves]
            rows.append(
                {
                    "partition": partition,
                    "database": name,
                    "number": numbers.get(name),
                    "workspaces": len(held.workspaces.get(partition, ())) if held is not None and known else None,
                    "rows": held.rows[partition] if held is not None and known else None,
                    "state": state if known else "away",
                    "served_by": serving,
                }
            )
        print_rows(rows, parsed)

    return run(settings, _surveyed(settings, command))


def check(settings: Settings, parsed: argparse.Namespace) -> int | None:
    """Say what is wrong with partitions, and what to do; status 1 where something is."""

    async def command(found: Survey) -> int:
        wrong = findings(found)
        print_rows([{"finding": sentence} for sentence in wrong], parsed)
        return 1 if wrong else 0

    return run(settings, _surveyed(settings, command))


def move(settings: Settings, parsed: argparse.Namespace) -> int | None:
    """Move one partition to another database while the others are served, or undo a move that is not over."""

    async def command() -> None:
        if bool(parsed.to) == parsed.abort:
            raise BadRequest("Say where it goes, --to a database, or --abort")
        if parsed.partition is None or not 0 <= parsed.partition < PARTITIONS:
            raise BadRequest(f"Partitions are 0 to {PARTITIONS - 1}")
        if not parsed.wait > 0:
            raise BadRequest("--wait must be greater than 0")
        settings.require("database_url")
        async with operator_bus(settings) as bus:
            mover = Mover(settings, bus, patience_s=parsed.wait)
            steps = (
                mover.abort(parsed.partition)
                if parsed.abort
                else mover.move(parsed.partition, mover.database(parsed.to))
            )
            if await _tell(steps):
                verb = "partition_move_aborted" if parsed.abort else "partition_moved"
                await _record(bus, verb, partition=parsed.partition, to=parsed.to or "", rows=mover.rows)
            else:
                _say(f"partition {parsed.partition} is there already")
            if mover.ended:
                _say(f"{mover.ended} connections of processes that did not hear in time were ended")

    return run(settings, command())


async def _tell(steps: AsyncIterator[str]) -> int:
    """Say each step as it is done, with the seconds since the first; return how many there were."""
    began, number = time.monotonic(), 0
    async for step in steps:
        number += 1
        _say(f"{time.monotonic() - began:6.2f} s  {step}")
    return number


async def _record(bus: Bus, event: str, **details: Any) -> None:
    audit = Audit(bus)
    audit.record(event, user="operator", **details)
    await audit.close()


async def _surveyed(settings: Settings, command: Callable[[Survey], Coroutine[Any, Any, int | None]]) -> int | None:
    async with operator_bus(settings) as bus, open_stores(settings) as stores:
        return await command(await survey(settings, stores.database, bus))


def _say(text: str) -> None:
    print(text, file=sys.stdout, flush=True)  # noqa: T201 it talks to a person
