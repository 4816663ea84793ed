from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hypha_artifacts.files import BlobRows
from hypha_artifacts.record import Artifact
from hypha_common.errors import Conflict, NotFound

from .commits import Publication, publish

if TYPE_CHECKING:
    from hypha_artifacts.core import Core

__all__ = ["Publishing"]

_ATTEMPTS = 10


class Publishing:
    """Makes of a draft, or of what is given, what everybody sees."""

    def __init__(self, core: Core) -> None:
        self._rows = core.rows
        self._blobs = BlobRows(core)

    async def publish(self, artifact: Artifact, what: Publication, check: Callable[[Artifact], bool]) -> None:
        """
        Publish in one transaction, once the bytes of all staged files are known to be there.

        ``check`` sees the artifact as it is, locked: it raises what keeps it from being published, or returns False
        where there is nothing to do. Raises NotFound for the artifact and for staged files without bytes, BadRequest,
        Conflict where files come in faster than they can be looked for.

        """
        for _ in range(_ATTEMPTS):
            if artifact.draft is not None:
                await self._blobs.settle(artifact)
            async with self._rows.shard(artifact.id).transaction() as connection:
                locked = await self._rows.lock(connection, artifact.id)
                if locked is None:
                    raise NotFound(f"Artifact with ID '{artifact.name}' does not exist.")
                if not check(locked):
                    return
                if locked.draft is None or await self._blobs.seal(connection, locked):
                    await publish(connection, locked, what)
                    return
                artifact = locked
        raise Conflict("Files are still being written; commit again when they are.")
