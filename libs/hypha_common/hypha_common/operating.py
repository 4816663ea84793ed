"""
What the command lines of operators share: a bus, and rows that people and machines read.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from .bus_permissions import role_of_user
from .errors import HyphaError, NotPermitted, Unavailable
from .subjects import gateway_verb

if TYPE_CHECKING:
    from .bus import Bus
    from .settings import Settings

__all__ = ["add_json", "ask_each", "connections_at", "gateways_there", "operator_bus", "print_rows", "run"]

_PAGE = 1000
_REMEDY = "give this command the user and password of an operator (HYPHA_NATS_USER, HYPHA_NATS_PASSWORD_FILE)"
_TIMEOUT_S = 3.0
_CONNECT_TIMEOUT_S = 3.0


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON list, for programs")


def print_rows(rows: Iterable[Mapping[str, Any]], parsed: argparse.Namespace) -> None:
    """Print rows that all have the same keys: values parted by tabs, or one JSON list."""
    if parsed.json:
        print(json.dumps(list(rows), indent=2))  # noqa: T201 it talks to a program
        return
    for row in rows:
        print(*map(_shown, row.values()), sep="\t")  # noqa: T201 it talks to a person


def run(settings: Settings, work: Coroutine[Any, Any, int | None]) -> int | None:
    """Run an operator's command to its end. What goes wrong is said in one sentence; logs only where asked for."""
    from .telemetry import configure_logging

    if "log_level" not in settings.sources:
        settings = settings.replace(log_level="CRITICAL")
    configure_logging(settings, "operator")
    return asyncio.run(work)


@asynccontextmanager
async def operator_bus(settings: Settings) -> AsyncIterator[Bus]:
    """
    Connect to the bus of the settings. Raises ConfigurationError or Unavailable.

    With a service's user (commands that are run in its container) it can do what that service may, no more; then
    NotPermitted says so, at the latest when the work is done.

    """
    from .bus import Bus

    settings.require("nats_url")
    lost: list[str] = []
    bus = Bus.from_settings(settings, role_of_user(settings.nats_user), on_fatal=lost.append)
    await bus.connect(_CONNECT_TIMEOUT_S)
    try:
        try:
            yield bus
        except HyphaError:
            # What was not found, say, may be there and not have been asked.
            await _check_permissions(bus)
            raise
        await _check_permissions(bus)
    finally:
        await bus.close()
    if lost:
        raise Unavailable(lost[0])


async def gateways_there(bus: Bus) -> list[dict[str, Any]]:
    """Return what each gateway that is there tells of itself."""
    from .roll_call import call_roll

    return [process for process in await call_roll(bus) if process["role"] == "gateway"]


async def connections_at(bus: Bus, gateway: str, **wanted: Any) -> list[dict[str, Any]]:
    """Return the connections of a gateway, page by page; ``wanted``: ``workspace``, ``user``, ``limit``."""
    limit = wanted.pop("limit", None)
    rows: list[dict[str, Any]] = []
    after = 0
    while limit is None or len(rows) < limit:
        page = _PAGE if limit is None else min(_PAGE, limit - len(rows))
        answer = await bus.request(
            gateway_verb(gateway, "connections"), {**wanted, "after": after, "limit": page}, timeout=_TIMEOUT_S
        )
        rows += [{**row, "gateway": gateway} for row in answer["connections"]]
        if len(answer["connections"]) < page:
            break
        after = rows[-1]["number"]
    return rows


async def ask_each(bus: Bus, gateways: Iterable[str], verb: str, message: Mapping[str, Any]) -> dict[str, Any]:
    """Ask gateways at the same time; those that do not answer are left out of what is returned."""
    ids = list(gateways)
    requests = [bus.request(gateway_verb(gateway, verb), message, timeout=_TIMEOUT_S) for gateway in ids]
    answers = await asyncio.gather(*requests, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, HyphaError):
            raise answer
    return {gateway: answer for gateway, answer in zip(ids, answers, strict=True) if not isinstance(answer, HyphaError)}


async def _check_permissions(bus: Bus) -> None:
    with suppress(HyphaError):
        await bus.flush()
    if bus.refused:
        raise NotPermitted(f"{'; '.join(bus.refused)}; {_REMEDY}")


def _shown(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ",".join(map(str, value)) or "-"
    return str(value)
