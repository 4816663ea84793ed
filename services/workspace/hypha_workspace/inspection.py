from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import asyncpg

from hypha_common.bus import Bus
from hypha_common.db import Database
from hypha_common.errors import ConfigurationError, NotFound
from hypha_common.operating import operator_bus, print_rows, run
from hypha_common.partition_keeper import find_partitions
from hypha_common.principal import Principal, root_principal
from hypha_common.scopes import app_of

from .manager.service_query import ServiceQuery
from .presence import Presence, everybody
from .stores import Stores

if TYPE_CHECKING:
    import argparse

    from hypha_common.settings import Settings

__all__ = [
    "open_stores",
    "presence_row",
    "print_clients",
    "print_presences",
    "print_services",
    "print_workspace",
    "print_workspaces",
    "with_stores",
]

Row = dict[str, Any]

_PAGE = 500


def print_workspaces(settings: Settings, parsed: argparse.Namespace) -> int | None:
    """Print each workspace: id, whether it is loaded, whether it is persistent, owners."""

    async def rows(stores: Stores) -> None:
        found: list[Row] = []
        while page := await stores.workspaces.list_visible(root_principal(), offset=len(found), limit=_PAGE):
            found += [
                {
                    "id": record.id,
                    "state": "loaded" if record.loaded else "idle",
                    "kept": "persistent" if record.persistent else "temporary",
                    "owners": list(record.owners),
                }
                for record in page
            ]
        print_rows(found, parsed)

    return with_stores(settings, rows)


def print_workspace(settings: Settings, parsed: argparse.Namespace) -> int | None:
    """Print what is known of one workspace; of environment variables only the names."""

    async def rows(stores: Stores) -> None:
        workspace: str = parsed.workspace
        record = await stores.workspaces.get_full(workspace)
        if record is None:
            raise NotFound(f"Workspace not found: {workspace}")
        clients = await stores.clients.in_workspace(workspace)
        services = await _services(stores, workspace)
        about: Row = {
            "id": record.id,
            "name": record.name,
            "description": record.description,
            "state": "loaded" if record.loaded else "idle",
            "kept": "persistent" if record.persistent else "temporary",
            "read_only": record.read_only,
            "owners": list(record.owners),
            "created_by": record.created_by,
            "clients": len(clients),
            "services": len([info for info in services if info["type"] != "built-in"]),
            "environment": sorted(record.environs or {}),
            "bookmarks": len(record.bookmarks or []),
            "service_types": sorted(record.service_types or {}),
            "queues": [f"{name}:{length}" for name, length in await stores.queues.lengths(workspace)],
        }
        if parsed.json:
            print_rows([about], parsed)
        else:
            print_rows([{"key": key, "value": value} for key, value in about.items()], parsed)

    return with_stores(settings, rows)


def print_clients(settings: Settings, parsed: argparse.Namespace) -> int | None:
    """Print each connected client of a workspace: id, gateway, generation, user, state, whose instance it is."""

    async def rows(stores: Stores) -> None:
        found = await stores.clients.in_workspace(parsed.workspace)
        print_rows(
            [
                {
                    "id": f"{row.workspace}/{row.client_id}",
                    "gateway": row.gateway,
                    "generation": row.generation,
                    "user": row.user["id"],
                    "state": "registered" if row.registered else "unregistered",
                    "app_id": app_of(Principal.load(row.user).scope.extra_scopes) or "*",
                }
                for row in found
            ],
            parsed,
        )

    return with_stores(settings, rows)


def print_services(settings: Settings, parsed: argparse.Namespace) -> int | None:
    """Print each registered service of a workspace: id, type, visibility, application."""

    async def rows(stores: Stores) -> None:
        print_rows(await _services(stores, parsed.workspace), parsed)

    return with_stores(settings, rows)


def print_presences(settings: Settings, parsed: argparse.Namespace) -> int | None:
    """Print who is connected where, of one user or workspace or of all."""

    async def rows(stores: Stores, bus: Bus) -> None:
        found = await everybody(stores.clients, bus, workspace=parsed.workspace)
        print_rows([presence_row(one) for one in found if parsed.user in (None, one.user, one.parent)], parsed)

    return with_stores_and_bus(settings, rows)


def presence_row(presence: Presence) -> Row:
    """Return a presence as it is printed."""
    since = datetime.fromtimestamp(presence.connected_at, UTC).isoformat(timespec="seconds")
    row = {**asdict(presence), "since": since, "state": str(presence.state)}
    return {name: row[name] for name in _PRESENCE}


_PRESENCE = ("workspace", "client_id", "user", "gateway", "since", "transport", "remote", "state")


async def _services(stores: Stores, workspace: str) -> list[Row]:
    everything = ServiceQuery(workspace, include_unlisted=True)
    infos = await stores.services.select(everything, own_workspace=workspace, readable=True)
    return [
        {"id": info["id"], "type": info["type"], "visibility": info["config"]["visibility"], "app_id": info["app_id"]}
        for info in infos
    ]


def with_stores(settings: Settings, work: Callable[[Stores], Awaitable[int | None]]) -> int | None:
    """Run an operator's command on the databases."""

    async def command() -> int | None:
        async with open_stores(settings) as stores:
            return await work(stores)

    return run(settings, command())


def with_stores_and_bus(settings: Settings, work: Callable[[Stores, Bus], Awaitable[int | None]]) -> int | None:
    """Run an operator's command on the databases and the bus."""

    async def command() -> int | None:
        async with operator_bus(settings) as bus, open_stores(settings) as stores:
            return await work(stores, bus)

    return run(settings, command())


@asynccontextmanager
async def open_stores(settings: Settings) -> AsyncIterator[Stores]:
    """Open the databases of the settings. Raises ConfigurationError where they cannot be used."""
    settings.require("database_url")
    database = Database.from_settings(settings, "hypha-workspace-operator")
    await database.connect()
    try:
        await find_partitions(database)
        yield Stores.of(database, settings)
    except asyncpg.UndefinedTableError:
        raise ConfigurationError("The database has not the current schema; run `hypha-workspace migrate`") from None
    except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
        raise ConfigurationError(f"The database cannot be used: {error}") from None
    finally:
        await database.close()
