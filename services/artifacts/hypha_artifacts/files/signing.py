from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TypeVar

__all__ = ["sign_all"]

Item = TypeVar("Item")

_AT_ONCE = 200  # 10 ms


async def sign_all(sign: Callable[[Item], str], items: Iterable[Item]) -> list[str]:
    """Return an address for each item; others have their turn in between, because there may be ten thousand."""
    addresses = []
    for number, item in enumerate(items, start=1):
        addresses.append(sign(item))
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)
    return addresses
