from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias

from hypha_common.db import Database
from hypha_common.principal import root_principal

from .manager.service_query import ServiceQuery
from .stores import Stores

if TYPE_CHECKING:
    from hypha_common.settings import Settings

__all__ = ["print_clients", "print_services", "print_workspaces"]

Rows: TypeAlias = AsyncIterator[tuple[object, ...]]

_PAGE = 500


def print_workspaces(settings: Settings, parsed: argparse.Namespace) -> None:
    """Print each workspace: id, whether it is loaded, whether it is persistent, owners."""
    asyncio.run(_print(settings, _workspaces))


def print_clients(settings: Settings, parsed: argparse.Namespace) -> None:
    """Print each connected client of a workspace: id, gateway, generation, user, whether it has registered itself."""
    asyncio.run(_print(settings, lambda stores: _clients(stores, parsed.workspace)))


def print_services(settings: Settings, parsed: argparse.Namespace) -> None:
    """Print each registered service of a workspace: id, type, visibility, application."""
    asyncio.run(_print(settings, lambda stores: _services(stores, parsed.workspace)))


async def _workspaces(stores: Stores) -> Rows:
    offset = 0
    while page := await stores.workspaces.list_visible(root_principal(), offset=offset, limit=_PAGE):
        for record in page:
            kept = "persistent" if record.persistent else "temporary"
            yield record.id, "loaded" if record.loaded else "idle", kept, ",".join(record.owners)
        offset += _PAGE


async def _clients(stores: Stores, workspace: str) -> Rows:
    for row in await stores.clients.in_workspace(workspace):
        state = "registered" if row.registered else "unregistered"
        yield f"{workspace}/{row.client_id}", row.gateway, row.generation, row.user["id"], state


async def _services(stores: Stores, workspace: str) -> Rows:
    everything = ServiceQuery(workspace, include_unlisted=True)
    for info in await stores.services.select(everything, own_workspace=workspace, readable=True):
        yield info["id"], info["type"], info["config"]["visibility"], info["app_id"]


async def _print(settings: Settings, rows: Callable[[Stores], Rows]) -> None:
    settings.require("database_url")
    async with _stores(settings) as stores:
        async for row in rows(stores):
            print(*row, sep="\t")  # noqa: T201 it talks to a person


@asynccontextmanager
async def _stores(settings: Settings) -> AsyncIterator[Stores]:
    database = Database.from_settings(settings, "hypha-workspace-inspection")
    await database.connect()
    try:
        yield Stores.of(database, settings)
    finally:
        await database.close()
