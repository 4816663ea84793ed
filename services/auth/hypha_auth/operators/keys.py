from __future__ import annotations

import argparse
import asyncio

from hypha_common.settings import Settings

from .desk import open_desk
from .output import print_fields, print_rows, when

__all__ = ["print_keys", "rotate"]


def print_keys(settings: Settings, parsed: argparse.Namespace) -> None:
    """Print each signing key: id, algorithm, what it does, when it was made and retired, its last token's expiry."""
    asyncio.run(_print_keys(settings, parsed))


def rotate(settings: Settings, parsed: argparse.Namespace) -> None:
    """Make a new signing key, or drop one that has leaked."""
    asyncio.run(_rotate(settings, parsed))


async def _print_keys(settings: Settings, parsed: argparse.Namespace) -> None:
    async with open_desk(settings) as desk:
        rows = await desk.keys.all()
    print_rows(
        (
            {
                "key_id": row.id,
                "algorithm": row.algorithm,
                "state": "signs" if row.retired_at is None else "verifies",
                "created_at": when(row.created_at),
                "retired_at": when(row.retired_at),
                "last_expiry": when(row.last_expiry),
            }
            for row in rows
        ),
        as_json=parsed.json,
    )


async def _rotate(settings: Settings, parsed: argparse.Namespace) -> None:
    async with open_desk(settings, announces=True) as desk:
        rotation = desk.rotation()
        if parsed.drop:
            await rotation.drop(parsed.drop, by=desk.by)
            done = {"dropped": parsed.drop}
        else:
            done = {"signs": await rotation.rotate(by=desk.by)}
    print_fields(done, as_json=parsed.json)
