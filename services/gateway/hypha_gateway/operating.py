from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from hypha_common.errors import BadRequest, NobodyServes, NotFound
from hypha_common.operating import connections_at, gateways_there, operator_bus, print_rows, run
from hypha_common.subjects import gateway_verb

if TYPE_CHECKING:
    from hypha_common.bus import Bus
    from hypha_common.settings import Settings

__all__ = ["drain", "print_connections", "print_gateways"]

_COLUMNS = ("workspace", "client_id", "user", "gateway", "since", "transport", "remote", "queued_bytes")


def print_gateways(settings: Settings, parsed: argparse.Namespace) -> int | None:
    """Print each gateway that answers: id, address, connections, seconds since its lease was renewed, version."""

    async def work() -> None:
        async with operator_bus(settings) as bus:
            found = await gateways_there(bus)
        print_rows([_described(gateway) for gateway in found], parsed)

    return run(settings, work())


def print_connections(settings: Settings, parsed: argparse.Namespace) -> int | None:
    """Print the connections of all gateways, or of one."""

    async def work() -> None:
        if parsed.limit is not None and parsed.limit < 1:
            raise BadRequest("--limit must be at least 1")
        async with operator_bus(settings) as bus:
            rows: list[dict[str, Any]] = []
            for gateway in await _named(bus, parsed.gateway):
                left = None if parsed.limit is None else parsed.limit - len(rows)
                rows += await connections_at(bus, gateway, limit=left)
        print_rows([{name: _value(row, name) for name in _COLUMNS} for row in rows], parsed)

    return run(settings, work())


def drain(settings: Settings, parsed: argparse.Namespace) -> int | None:
    """Let gateways close their connections and end, as SIGTERM does; their clients connect elsewhere."""

    async def work() -> None:
        if bool(parsed.gateway) == parsed.all:
            raise BadRequest("Name one gateway, or --all of them")
        async with operator_bus(settings) as bus:
            for gateway in await _named(bus, parsed.gateway):
                try:
                    answer = await bus.request(gateway_verb(gateway, "drain"), {}, timeout=3.0)
                except NobodyServes:
                    raise NotFound(f"No gateway {gateway} is there") from None
                print(f"{gateway} drains {answer['connections']} connections")  # noqa: T201 it talks to a person

    return run(settings, work())


async def _named(bus: Bus, gateway: str | None) -> list[str]:
    """Return the ids of all gateways, or of the one that was named. Raises NotFound."""
    there = [str(found["id"]) for found in await gateways_there(bus)]
    if not gateway:
        return there
    if gateway not in there:
        raise NotFound(f"No gateway {gateway} is there; there are: {', '.join(there) or 'none'}")
    return [gateway]


def _described(gateway: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": gateway["id"],
        "address": gateway["address"],
        "connections": gateway["connections"],
        "lease_age_s": gateway["lease_age_s"],
        "version": gateway["version"],
        "state": "draining" if gateway["draining"] else "serving",
        "machine": gateway["machine"],
        "pid": gateway["pid"],
    }


def _value(row: dict[str, Any], name: str) -> Any:
    if name == "since":
        return datetime.fromtimestamp(row["connected_at"], UTC).isoformat(timespec="seconds")
    return row[name]
