from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from hypha_artifacts.actor import Actor
from hypha_common.errors import NotFound
from hypha_common.rpc.caller import Caller
from hypha_common.rpc.service import rpc_method

from .sealing import Sealing
from .secret_rows import SecretRows
from .secret_values import check_secret_key, read_secrets

if TYPE_CHECKING:
    from hypha_artifacts.core import Core

__all__ = ["SecretMethods"]


class SecretMethods:
    """Secrets of artifacts: only ``get_secret`` ever tells one."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._rows = SecretRows(core.rows)
        self._sealing = Sealing(core.settings)

    @rpc_method
    async def set_secret(self, artifact_id: str, secret_key: str, secret_value: Any, *, context: Caller) -> None:
        """
        Set a secret of an artifact, at once.

        Args:
            artifact_id: The id, `workspace/alias`, or an alias in the workspace of the caller.
            secret_key: The name of the secret.
            secret_value: The value; null removes the secret.

        """
        artifact = await self._core.access.find(artifact_id, "set_secret", Actor.of(context))
        key = check_secret_key(secret_key)
        async with self._core.rows.shard(artifact.id).transaction() as connection:
            sealed = await self._rows.lock(connection, artifact.id)
            if sealed is None:
                raise NotFound(f"Artifact with ID '{artifact_id}' does not exist.")
            published, staged = sealed
            # A draft that has secrets of its own would undo this at its commit.
            new_staged = None if staged is None else self._changed(artifact.id, staged, key, secret_value)
            await self._rows.write(
                connection, artifact.id, self._changed(artifact.id, published, key, secret_value), new_staged
            )

    @rpc_method
    async def get_secret(self, artifact_id: str, secret_key: str | None = None, *, context: Caller) -> Any:
        """
        Return a secret of an artifact, null where there is none, or all of them.

        Args:
            artifact_id: The id, `workspace/alias`, or an alias in the workspace of the caller.
            secret_key: The name of the secret; null returns a map of all.

        """
        artifact = await self._core.access.find(artifact_id, "get_secret", Actor.of(context))
        values = self._sealing.open(artifact.id, await self._rows.read(artifact.id))
        return values if secret_key is None else values.get(secret_key)

    def _changed(self, artifact: UUID, sealed: bytes | None, key: str, value: object) -> bytes | None:
        values = self._sealing.open(artifact, sealed)
        if value is None:
            values.pop(key, None)
        else:
            values[key] = value
        return self._sealing.seal(artifact, read_secrets(values)) if values else None
