from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from hypha.workers.errors import WorkerError

if TYPE_CHECKING:
    from hypha.workers.config import WorkerConfig

__all__ = ["fetch_source"]

_TIMEOUT_S = 30.0


async def fetch_source(config: WorkerConfig, *, max_bytes: int) -> bytes:
    """Return the entry point of an app, read with the token of its instance. Raises WorkerError."""
    import httpx  # only who runs scripts needs it

    if not config.entry_point:
        raise WorkerError(f"App '{config.app_id}' has no entry point")
    query: dict[str, Any] = {"use_proxy": "true", "silent": "true"}
    version = "stage" if config.get("stage") else config.version
    if version:
        query["version"] = version
    url = f"{config.app_files_base_url}/{quote(config.entry_point)}"
    headers = {"Authorization": f"Bearer {config.token}"} if config.token else {}
    try:
        async with (
            httpx.AsyncClient(timeout=_TIMEOUT_S, verify=not config.disable_ssl) as client,
            client.stream("GET", url, params=query, headers=headers) as response,
        ):
            if response.status_code != 200:
                raise WorkerError(f"{config.entry_point} of app '{config.app_id}': HTTP {response.status_code}")
            source = b""
            async for chunk in response.aiter_bytes():
                source += chunk
                if len(source) > max_bytes:
                    raise WorkerError(f"{config.entry_point} is larger than {max_bytes} bytes")
    except httpx.HTTPError as error:
        raise WorkerError(f"{config.entry_point} of app '{config.app_id}' could not be fetched: {error!r}") from None
    return source
