from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hypha_artifacts.actor import Actor
from hypha_artifacts.blobs import check_path
from hypha_common.errors import BadRequest, NotFound
from hypha_common.rpc.caller import Caller
from hypha_common.rpc.service import rpc_method

from .config_rows import write_configs
from .configs import read_config

if TYPE_CHECKING:
    from hypha_artifacts.core import Core

__all__ = ["CountMethods"]


class CountMethods:
    """What is counted of an artifact, and how much a download counts."""

    def __init__(self, core: Core) -> None:
        self._core = core

    @rpc_method
    async def reset_stats(self, artifact_id: str, *, context: Caller) -> None:
        """
        Begin to count views and downloads of an artifact anew.

        Args:
            artifact_id: The id, `workspace/alias`, or an alias in the workspace of the caller.

        """
        artifact = await self._core.access.find(artifact_id, "reset_stats", Actor.of(context))
        await self._core.counters.reset(artifact.id)

    @rpc_method
    async def set_download_weight(
        self, artifact_id: str, file_path: str, download_weight: float, *, context: Caller
    ) -> None:
        """
        Tell how much a download of a file counts.

        Args:
            artifact_id: The id, `workspace/alias`, or an alias in the workspace of the caller.
            file_path: The file, or `create-zip-file` for downloads of the whole.
            download_weight: The weight; 0 for downloads that do not count.

        """
        artifact = await self._core.access.find(artifact_id, "set_download_weight", Actor.of(context))
        path = check_path(file_path)
        if not math.isfinite(download_weight) or download_weight < 0:
            raise BadRequest(f"Download weight must be non-negative, got: {download_weight}")
        async with self._core.rows.shard(artifact.id).transaction() as connection:
            locked = await self._core.rows.lock(connection, artifact.id)
            if locked is None:
                raise NotFound(f"Artifact with ID '{artifact_id}' does not exist.")
            config = _weighted(locked.config, path, download_weight)
            # A draft that has a config of its own would undo this at its commit.
            staged = None if locked.draft is None else locked.draft.config
            if staged is not None:
                staged = _weighted(staged, path, download_weight)
            await write_configs(connection, artifact.id, config, staged)


def _weighted(config: dict[str, object], path: str, weight: float) -> dict[str, object]:
    before = config.get("download_weights")
    weights = dict(before) if isinstance(before, dict) else {}
    weights.pop(path, None)
    if weight:
        weights[path] = weight
    return read_config({**config, "download_weights": weights})
