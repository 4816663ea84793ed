from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypha_artifacts.manager.sealing import Sealing
from hypha_artifacts.record import Artifact
from hypha_artifacts.reference import ArtifactName, parse_reference
from hypha_artifacts.transfer.safe_folder import SafeFolder, readable_name
from hypha_common.errors import BadRequest, NotFound

from . import export_rows
from .export_rows import ExportedFile

if TYPE_CHECKING:
    from hypha_artifacts.core import Core
    from hypha_common.db import Shard

__all__ = ["Exporter"]

_PIECE_BYTES = 8 * 2**20


class Exporter:
    """
    Writes artifacts to a folder: ``<workspace>/<alias>/artifact.json``, ``versions/<name>/files/…`` and ``draft/``.

    Secrets are left out unless ``with_secrets``. ``written`` counts artifacts, files and bytes; what could not be
    written is in ``failures``.

    """

    def __init__(self, core: Core, target: Path, *, with_secrets: bool = False) -> None:
        self._core = core
        self._folder = SafeFolder(target)
        self._with_secrets = with_secrets
        self.written: Counter[str] = Counter()
        self.failures: list[str] = []

    async def export(self, what: str) -> None:
        """Export ``WORKSPACE`` or ``WORKSPACE/ALIAS``. Raises NotFound where there is nothing of that name."""
        workspace, slash, alias = what.partition("/")
        if slash:
            reference = parse_reference(what, workspace)
            if not isinstance(reference, ArtifactName):
                raise BadRequest("Name the artifact as WORKSPACE/ALIAS")
            await self._artifact(reference)
            return
        async for alias in export_rows.aliases(self._core.database.for_workspace(workspace), workspace):
            with suppress(NotFound):  # deleted meanwhile
                await self._artifact(ArtifactName(workspace, alias))
        if not self.written["artifacts"]:
            raise NotFound(f"Workspace {workspace} has no artifacts")

    async def _artifact(self, name: ArtifactName) -> None:
        artifact = await self._core.access.known(name)
        shard = self._core.rows.shard(name)
        folder = f"{readable_name(name.workspace)}/{readable_name(name.alias)}"
        renamed: dict[str, str] = {}
        for version in await export_rows.versions(shard, artifact.id):
            below = f"{folder}/versions/{readable_name(version['name'])}"
            self._json(f"{below}/version.json", version)
            await self._files(export_rows.version_files(shard, artifact.id, version["seq"]), below, renamed)
        if artifact.draft is not None:
            removed = await export_rows.removed_in_draft(shard, artifact.id)
            self._json(f"{folder}/draft/draft.json", {**asdict(artifact.draft), "removed": removed})
            await self._files(export_rows.draft_files(shard, artifact.id), f"{folder}/draft", renamed)
        if self._with_secrets:
            await self._secrets(shard, artifact, folder)
        self._json(f"{folder}/artifact.json", {**_about(artifact), "renamed": renamed})
        self.written["artifacts"] += 1

    async def _files(self, files: AsyncIterator[ExportedFile], folder: str, renamed: dict[str, str]) -> None:
        async for file in files:
            if file.size is None and await self._core.store.head(file.key) is None:
                continue  # staged, and never uploaded
            try:
                place = self._folder.place(f"{folder}/files/{file.path}")
            except (NotADirectoryError, IsADirectoryError):
                # In a store `a` may be beside `a/b`.
                place = self._folder.place(f"{folder}/files/{readable_name(file.path)}%")
                renamed[f"{folder}/files/{file.path}"] = place.name
            try:
                self.written["bytes"] += await self._copy(file, place)
                self.written["files"] += 1
            except NotFound:
                self.failures.append(f"{folder}/files/{file.path}: its bytes are not in the store")

    async def _copy(self, file: ExportedFile, place: Path) -> int:
        """Write the bytes of a file, piece by piece, and only then give it its name. Raises NotFound."""
        stored = await self._core.store.head(file.key)
        if stored is None:
            raise NotFound(file.key)
        part = place.with_name(f".{place.name[:200]}.part")
        with self._folder.open(part) as target:
            for first in range(0, stored.size, _PIECE_BYTES):
                size = min(_PIECE_BYTES, stored.size - first)
                target.write(await self._core.store.read(file.key, first=first, size=size))
        part.replace(place)
        return stored.size

    async def _secrets(self, shard: Shard, artifact: Artifact, folder: str) -> None:
        sealing = Sealing(self._core.settings)
        published, staged = await export_rows.sealed_secrets(shard, artifact.id)
        secrets = {"secrets": sealing.open(artifact.id, published), "staged": sealing.open(artifact.id, staged)}
        if any(secrets.values()):
            self._json(f"{folder}/secrets.json", secrets, private=True)

    def _json(self, path: str, value: Any, *, private: bool = False) -> None:
        place = self._folder.place(path)
        place.unlink(missing_ok=True)  # an older one may be readable for others
        with self._folder.open(place, private=private) as target:
            target.write(json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n")


def _about(artifact: Artifact) -> dict[str, Any]:
    """Return what is known of an artifact besides its versions, files and secrets."""
    return {
        "id": str(artifact.name),
        "_id": str(artifact.id),
        "type": artifact.type,
        "parent": None if artifact.parent is None else str(artifact.parent.name),
        "manifest": artifact.manifest,
        "config": artifact.config,
        "created_by": artifact.created_by,
        "created_at": artifact.created_at,
        "last_modified": artifact.last_modified,
        "view_count": artifact.view_count,
        "download_count": artifact.download_count,
        "file_count": artifact.file_count,
        "versions": [version.dump() for version in artifact.versions],
    }
