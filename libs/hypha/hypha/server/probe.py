from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

__all__ = ["is_ready", "status_of"]

_TIMEOUT_S = 2.0


async def is_ready(base_url: str) -> bool:
    """Tell whether ``GET /health/readiness`` below an http:// address answers 200."""
    return await status_of(base_url.rstrip("/") + "/health/readiness") == 200


async def status_of(url: str) -> int:
    """Return the status that ``GET`` of an http:// address answers with, 0 where nobody answers."""
    address = urlsplit(url)
    assert address.hostname is not None and address.port is not None
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
            try:
                request = f"GET {address.path or '/'} HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: close\r\n\r\n"
                writer.write(request.encode())
                words = (await reader.readline()).split()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return 0
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
