from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

__all__ = ["is_ready"]

_TIMEOUT_S = 2.0


async def is_ready(base_url: str) -> bool:
    """Tell whether ``GET /health/readiness`` below an http:// address answers 200."""
    address = urlsplit(base_url)
    assert address.hostname is not None and address.port is not None
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
            try:
                path = address.path.rstrip("/") + "/health/readiness"
                request = f"GET {path} HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: close\r\n\r\n"
                writer.write(request.encode())
                words = (await reader.readline()).split()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
    return len(words) > 1 and words[1] == b"200"
