from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from hypha_common.audit import Audit
from hypha_common.errors import BadRequest, DeadlineExceeded, HyphaError
from hypha_common.ids import Address
from hypha_common.operating import print_rows

from .events import Events
from .inspection import presence_row, with_stores_and_bus
from .kicking import all_closed, kick
from .lifetime import Lifetime
from .presence import State, find_ghosts, remove_ghost

if TYPE_CHECKING:
    import argparse

    from hypha_common.bus import Bus
    from hypha_common.settings import Settings

    from .stores import Stores

__all__ = ["ghosts", "kick_client", "unload"]


def kick_client(settings: Settings, parsed: argparse.Namespace) -> int | None:
    """Disconnect a client."""

    async def work(stores: Stores, bus: Bus) -> None:
        client = Address.parse(parsed.client)
        lifetime = _lifetime(settings, stores, bus)
        await kick(stores.clients, lifetime, bus, client.workspace, client.client, parsed.code, parsed.reason)
        audit = Audit(bus)
        audit.record("kicked", user="operator", workspace=client.workspace, client=client.client, code=parsed.code)
        await audit.close()
        _say(f"kicked {client}")

    return with_stores_and_bus(settings, work)


def unload(settings: Settings, parsed: argparse.Namespace) -> int | None:
    """Close a workspace, and wait until its connections are closed if asked to."""

    async def work(stores: Stores, bus: Bus) -> None:
        if not parsed.timeout > 0:
            raise BadRequest("--timeout must be greater than 0")
        clients = await _lifetime(settings, stores, bus).unload_workspace(parsed.workspace)
        if parsed.wait and not await all_closed(bus, clients, timeout_s=parsed.timeout):
            raise DeadlineExceeded(
                f"Connections of workspace {parsed.workspace} are still open after {parsed.timeout:g} s"
            )
        _say(f"unloaded {parsed.workspace}: {len(clients)} clients")

    return with_stores_and_bus(settings, work)


def ghosts(settings: Settings, parsed: argparse.Namespace) -> int | None:
    """Print, and remove if asked to, what only a gateway or only the registry knows."""

    async def work(stores: Stores, bus: Bus) -> int:
        found = await find_ghosts(stores.clients, bus)
        print_rows([presence_row(ghost) for ghost in found], parsed)
        failed = 0
        for ghost in found if parsed.remove else ():
            try:
                removed = await remove_ghost(ghost, stores.clients, bus, grace_s=settings.workspace_unload_grace_period)
                if removed and ghost.state is State.NO_SOCKET:
                    Events(bus).client_disconnected(ghost.workspace, ghost.client_id)
            except HyphaError as error:
                failed += 1
                print(f"not removed: {ghost.workspace}/{ghost.client_id}: {error}", file=sys.stderr)  # noqa: T201
        return 1 if failed else 0

    return with_stores_and_bus(settings, work)


def _lifetime(settings: Settings, stores: Stores, bus: Bus) -> Lifetime:
    return Lifetime(stores, Events(bus), bus, grace_s=settings.workspace_unload_grace_period)


def _say(text: str) -> None:
    print(text)  # noqa: T201 it talks to a person
