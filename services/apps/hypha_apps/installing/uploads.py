from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hypha_apps.errors import prefixed
from hypha_common.errors import HyphaError, Unavailable

if TYPE_CHECKING:
    from hypha_apps.core import Core
    from hypha_apps.starting.progress import Progress
    from hypha_common.principal import Principal

__all__ = ["Uploads"]

_SMALL_BYTES = 2**20  # larger ones do not go through the bus
_AT_ONCE = 4
_TIMEOUT_S = 300.0


class Uploads:
    """Writes files into drafts of artifacts."""

    def __init__(self, core: Core) -> None:
        self._store = core.store
        self._base_url = core.settings.gateway_url or core.settings.local_base_url

    async def write(
        self,
        artifact_id: str,
        files: Mapping[str, bytes],
        *,
        user: Principal,
        workspace: str,
        progress: Progress | None = None,
    ) -> None:
        """Write files, by path. Raises the error of the one that failed, ``Failed to upload file …``."""
        slots = asyncio.Semaphore(_AT_ONCE)

        async def write(path: str, data: bytes) -> None:
            async with slots:
                try:
                    await self._write(artifact_id, path, data, user, workspace)
                except HyphaError as error:
                    raise prefixed(f"Failed to upload file '{path}'", error) from None
                if progress is not None:
                    progress.tell(f"Uploaded {path}")

        try:
            async with asyncio.TaskGroup() as group:
                for path, data in files.items():
                    group.create_task(write(path, data))
        except* HyphaError as failed:
            raise failed.exceptions[0] from None

    async def _write(self, artifact_id: str, path: str, data: bytes, user: Principal, workspace: str) -> None:
        async def call(method: str, **arguments: Any) -> Any:
            return await self._store.call(
                method, user=user, workspace=workspace, artifact_id=artifact_id, file_path=path, **arguments
            )

        if len(data) <= _SMALL_BYTES:
            await call("write_file", content=data, format="binary")
            return
        address = await call("put_file", use_proxy=True, use_local_url=self._base_url)
        await _put(address, data)


async def _put(address: str, data: bytes) -> None:
    import httpx  # most apps are small

    try:
        async with httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False) as client:
            answer = await client.put(address, content=data)
    except httpx.HTTPError as error:
        raise Unavailable(f"the store cannot be reached: {type(error).__name__}") from None
    if answer.status_code != 200:
        raise Unavailable(f"the store answered with status {answer.status_code}")
