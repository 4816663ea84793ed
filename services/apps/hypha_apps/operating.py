from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import asyncpg

from hypha_common.audit import Audit
from hypha_common.db import Database
from hypha_common.errors import ConfigurationError, HyphaError, NobodyServes, Unavailable
from hypha_common.ids import Address
from hypha_common.operating import operator_bus, print_rows, run
from hypha_common.partition_keeper import find_partitions
from hypha_common.subjects import PARTITIONS, partition_of, role_verb

from .keeping.daemon_rows import DaemonRows

if TYPE_CHECKING:
    import argparse

    from hypha_common.bus import Bus
    from hypha_common.settings import Settings

__all__ = ["print_daemons", "print_sessions", "print_workers", "stop"]

_STOP_TIMEOUT_S = 40.0
_WORKERS_TIMEOUT_S = 15.0
_NOBODY = "No apps service runs in this cluster"

_SESSIONS = """
    SELECT *, extract(epoch FROM now() - last_active)::float8 AS idle FROM app_sessions
    WHERE ($1::text IS NULL OR workspace = $1) AND ($2 OR status IN ('starting', 'running', 'stopping'))
    ORDER BY workspace, started_at
"""


def print_sessions(settings: Settings, parsed: argparse.Namespace) -> int | None:
    """Print the sessions of apps that start, run or stop; with ``--all`` those that have just ended, too."""

    async def rows(database: Database) -> None:
        shards = database.all() if parsed.workspace is None else [database.for_workspace(parsed.workspace)]
        found = await database.gather(shards, _SESSIONS, parsed.workspace, parsed.all)
        print_rows(
            [
                {
                    "id": f"{row['workspace']}/{row['client_id']}",
                    "app": row["app_id"] + (" (draft)" if row["stage"] else ""),
                    "status": row["status"],
                    "worker": row["worker_id"],
                    "since": _time(row["started_at"]),
                    "idle_s": max(0, int(row["idle"])),
                    "load": round(row["load"], 1),
                    "reason": " ".join(row["reason"].split())[:200],
                }
                for row in found
            ],
            parsed,
        )

    return _with_database(settings, rows)


def print_daemons(settings: Settings, parsed: argparse.Namespace) -> int | None:
    """Print the apps that are to run always, whether they do, and why not."""

    async def rows(database: Database) -> None:
        found = await DaemonRows(database).all(parsed.workspace)
        print_rows(
            [
                {
                    "app": f"{row['workspace']}/{row['app_id']}",
                    "state": _state(row),
                    "tries": row["tries"],
                    "next_try": None if row["instances"] or row["held"] else _time(row["next_try_at"]),
                }
                for row in found
            ],
            parsed,
        )

    return _with_database(settings, rows)


def print_workers(settings: Settings, parsed: argparse.Namespace) -> int | None:
    """Print the workers that answer: id, name, types of apps, how many sessions they run."""

    async def command() -> None:
        # Any replica knows all of them, whatever the partitions are whose calls it takes.
        first = range(PARTITIONS) if parsed.workspace is None else [partition_of(parsed.workspace)]
        async with operator_bus(settings) as bus:
            for partition in first:
                subject = role_verb("apps", partition, "workers")
                with suppress(NobodyServes):
                    print_rows(
                        await bus.request(subject, {"workspace": parsed.workspace}, timeout=_WORKERS_TIMEOUT_S), parsed
                    )
                    return
        raise Unavailable(_NOBODY)

    return run(settings, command())


def stop(settings: Settings, parsed: argparse.Namespace) -> int | None:
    """Stop sessions; status 1 where one could not be stopped."""

    async def command() -> int:
        failed = 0
        async with operator_bus(settings) as bus:
            audit = Audit(bus)
            for session in parsed.sessions:
                try:
                    place = Address.parse(session)
                    message = {"workspace": place.workspace, "client_id": place.client}
                    subject = role_verb("apps", partition_of(place.workspace), "stop_session")
                    await _ask(bus, subject, message, _STOP_TIMEOUT_S)
                except HyphaError as error:
                    failed += 1
                    print(f"not stopped: {session}: {error}", file=sys.stderr)  # noqa: T201 it talks to a person
                    continue
                audit.record("app_stopped", user="operator", workspace=place.workspace, client=place.client)
                print(f"stopped {session}")  # noqa: T201
            await audit.close()
        return 1 if failed else 0

    return run(settings, command())


async def _ask(bus: Bus, subject: str, message: dict[str, Any], timeout_s: float) -> Any:
    try:
        return await bus.request(subject, message, timeout=timeout_s)
    except NobodyServes:
        raise Unavailable(_NOBODY) from None


def _state(row: asyncpg.Record) -> str:
    if row["instances"]:
        return "runs"
    if row["held"]:
        return "stopped by hand"
    return "no worker" if row["no_worker"] else "waits"


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def _with_database(settings: Settings, work: Callable[[Database], Awaitable[None]]) -> int | None:
    async def command() -> None:
        async with _open_database(settings) as database:
            await work(database)

    return run(settings, command())


@asynccontextmanager
async def _open_database(settings: Settings) -> AsyncIterator[Database]:
    """Open the databases of the settings. Raises ConfigurationError where they cannot be used."""
    settings.require("database_url")
    database = Database.from_settings(settings, "hypha-apps-operator")
    await database.connect()
    try:
        await find_partitions(database)
        yield database
    except asyncpg.UndefinedTableError:
        raise ConfigurationError("The database has not the current schema; run `hypha-apps migrate`") from None
    except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
        raise ConfigurationError(f"The database cannot be used: {error}") from None
    finally:
        await database.close()
