from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from .memory import MemoryWindow
from .processes import ProcessTree

__all__ = ["measure_bulk"]

_PIECE = os.urandom(2**20)


async def measure_bulk(
    http: aiohttp.ClientSession, url: str, *, mebibytes: int, server: ProcessTree | None
) -> dict[str, Any]:
    """Send one large file to an address and get it back, neither kept here."""

    async def body() -> AsyncIterator[bytes]:
        for _ in range(mebibytes):
            yield _PIECE

    results: dict[str, Any] = {"mebibytes": mebibytes}
    with MemoryWindow(server) as window:
        started = time.perf_counter()
        async with http.put(url, data=body(), headers={"Content-Length": str(mebibytes * 2**20)}) as answer:
            if answer.status != 200:
                raise RuntimeError(f"PUT: {answer.status} {(await answer.text())[:300]}")
            await answer.read()
        results["put"] = _rate(mebibytes, started)
    results["put"]["growth_MiB"] = window.report()
    with MemoryWindow(server) as window:
        started = time.perf_counter()
        size = 0
        async with http.get(url, params={"stage": "true"}) as answer:
            if answer.status != 200:
                raise RuntimeError(f"GET: {answer.status} {(await answer.text())[:300]}")
            async for piece in answer.content.iter_any():
                size += len(piece)
        if size != mebibytes * 2**20:
            raise RuntimeError(f"GET: {size} bytes")
        results["get"] = _rate(mebibytes, started)
    results["get"]["growth_MiB"] = window.report()
    return results


def _rate(mebibytes: int, started: float) -> dict[str, Any]:
    seconds = time.perf_counter() - started
    return {"MiB_per_s": round(mebibytes / seconds, 1), "seconds": round(seconds, 2)}
