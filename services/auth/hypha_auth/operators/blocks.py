from __future__ import annotations

import argparse
import asyncio

from hypha_auth.blocking import BlockVerbs
from hypha_common.errors import NotFound
from hypha_common.settings import Settings
from hypha_common.token_flags import seconds_of

from .desk import Desk, open_desk
from .output import print_fields, print_rows, when

__all__ = ["block", "print_blocked", "unblock"]


def block(settings: Settings, parsed: argparse.Namespace) -> None:
    """Keep a user or an address out."""
    asyncio.run(_block(settings, parsed))


def unblock(settings: Settings, parsed: argparse.Namespace) -> None:
    """Let a user or an address in again."""
    asyncio.run(_unblock(settings, parsed))


def print_blocked(settings: Settings, parsed: argparse.Namespace) -> None:
    """Print who is kept out: kind, id, until when, why."""
    asyncio.run(_print_blocked(settings, parsed))


async def _block(settings: Settings, parsed: argparse.Namespace) -> None:
    duration_s = seconds_of(parsed.duration, "--for")
    async with open_desk(settings, announces=True) as desk:
        wanted = {"kind": parsed.kind, "id": parsed.id, "duration_s": duration_s, "reason": parsed.reason}
        done = await _verbs(desk).block({**wanted, "by": desk.by})
    print_fields({"blocked": done["id"], "until": when(done["until"])}, as_json=parsed.json)


async def _unblock(settings: Settings, parsed: argparse.Namespace) -> None:
    async with open_desk(settings, announces=True) as desk:
        done = await _verbs(desk).unblock({"kind": parsed.kind, "id": parsed.id, "by": desk.by})
    if not done["removed"]:
        raise NotFound(f"{parsed.kind} {parsed.id} is not blocked")
    print_fields({"unblocked": parsed.id}, as_json=parsed.json)


async def _print_blocked(settings: Settings, parsed: argparse.Namespace) -> None:
    async with open_desk(settings) as desk:
        blocks = await desk.blocks.current()
    rows = ({"kind": str(b.kind), "id": b.id, "until": when(b.until), "reason": b.reason} for b in blocks)
    print_rows(rows, as_json=parsed.json)


def _verbs(desk: Desk) -> BlockVerbs:
    return BlockVerbs(rows=desk.blocks, announcer=desk.announcer, audit=desk.audit)
