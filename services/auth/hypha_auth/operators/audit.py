from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from hypha_auth.audit_repository import AuditEvent
from hypha_common.errors import BadRequest
from hypha_common.settings import Settings
from hypha_common.token_flags import seconds_of

from .desk import open_desk
from .output import print_rows, when

__all__ = ["print_events"]

_POLL_S = 1.0
_FOLLOWED = 1000  # at most this many a second are shown


def print_events(settings: Settings, parsed: argparse.Namespace) -> None:
    """Print security events, the newest last; with ``--follow`` go on as they come, until interrupted."""
    if parsed.limit < 1:
        raise BadRequest("--limit must be greater than 0")
    with suppress(KeyboardInterrupt):
        asyncio.run(_print_events(settings, parsed))


async def _print_events(settings: Settings, parsed: argparse.Namespace) -> None:
    wanted = {"event": parsed.event, "user": parsed.user, "workspace": parsed.workspace}
    since_s = seconds_of(parsed.since, "--since") if parsed.since else None
    async with open_desk(settings) as desk:
        events = await desk.events.select(**wanted, since_s=since_s, limit=parsed.limit)
        _print(events, parsed)
        last = events[-1].number if events else 0
        while parsed.follow:
            await asyncio.sleep(_POLL_S)
            events = await desk.events.select(**wanted, after=last, limit=_FOLLOWED)
            _print(events, parsed)
            last = events[-1].number if events else last


def _print(events: Iterable[AuditEvent], parsed: argparse.Namespace) -> None:
    print_rows(map(_row, events), as_json=parsed.json)


def _row(event: AuditEvent) -> dict[str, Any]:
    return {
        "at": when(event.at.timestamp()),
        "event": event.event,
        "user": event.user,
        "workspace": event.workspace,
        "address": event.address,
        "count": event.count,
        "details": dict(sorted(event.details.items())),
    }
