from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hypha_artifacts.record import Artifact, Version, load_json
from hypha_artifacts.reference import ArtifactName, Reference
from hypha_artifacts.repository import COLUMNS, artifact_of
from hypha_common.errors import NotFound

if TYPE_CHECKING:
    from hypha_artifacts.repository import ArtifactRows

__all__ = ["STAGED_FILES", "Reading", "Readings", "as_draft", "staged_files"]

# The staged files of artifact `a`; read it with staged_files().
STAGED_FILES = """
    CASE WHEN a.intent IS NOT NULL THEN (
        SELECT json_agg(json_build_array(f.path, f.blob_id IS NULL, f.download_weight) ORDER BY f.path)
        FROM artifact_staged_files f WHERE f.artifact_id = a.id
    ) END AS staged_files
"""
_CHILD_COUNT = """
    CASE WHEN a.config @> '{"is_collection": true}' THEN (
        SELECT count(*) FROM artifacts c WHERE c.parent_id = a.id
    ) END AS child_count
"""
_FROM = f"SELECT {COLUMNS}, {STAGED_FILES}, {_CHILD_COUNT} FROM artifacts a LEFT JOIN artifacts p ON p.id = a.parent_id"  # noqa: S608  # columns, no values
_BY_NAME = f"{_FROM} WHERE a.workspace = $1 AND a.alias = $2"
_BY_ID = f"{_FROM} WHERE a.id = $1"
_PUBLISHED = "SELECT type, manifest, config FROM artifact_versions WHERE artifact_id = $1 AND seq = $2"


@dataclass(frozen=True, slots=True)
class Reading:
    """An artifact with what only its own answer tells."""

    artifact: Artifact
    staging: list[dict[str, Any]]  # the staged files, as clients see them


class Readings:
    """Artifacts with everything there is to tell of them, in one query each."""

    def __init__(self, rows: ArtifactRows) -> None:
        self._rows = rows

    async def find(self, reference: Reference, shown: object = None) -> Reading:
        """Return an artifact, whoever asks. Raises NotFound."""
        shard = self._rows.shard(reference)
        if isinstance(reference, ArtifactName):
            row = await shard.fetchrow(_BY_NAME, reference.workspace, reference.alias)
        else:
            row = await shard.fetchrow(_BY_ID, reference)
        if row is None:
            raise NotFound(f"Artifact with ID '{shown or reference}' does not exist.")
        return Reading(replace(artifact_of(row), child_count=row["child_count"]), staged_files(row["staged_files"]))

    async def published(self, artifact: Artifact, version: Version) -> Artifact:
        """Return an artifact with what it said in one of its versions. Raises NotFound where that is gone."""
        if version == artifact.versions[-1]:
            return artifact
        row = await self._rows.shard(artifact.id).fetchrow(_PUBLISHED, artifact.id, version.seq)
        if row is None:
            raise NotFound(f"Artifact version '{version.name}' does not exist.")
        return replace(artifact, type=row["type"], manifest=load_json(row["manifest"]), config=load_json(row["config"]))


def as_draft(artifact: Artifact) -> Artifact:
    """Return an artifact with what its draft says."""
    draft = artifact.draft
    if draft is None:
        return artifact
    return replace(
        artifact,
        type=draft.type or artifact.type,
        manifest=artifact.manifest if draft.manifest is None else draft.manifest,
        config=artifact.config if draft.config is None else draft.config,
    )


def staged_files(column: str | None) -> list[dict[str, Any]]:
    """Read :data:`STAGED_FILES`: ``{path[, download_weight][, _remove]}`` each."""
    listed = []
    for path, removed, weight in load_json(column) or ():
        entry: dict[str, Any] = {"path": path}
        if removed:
            entry["_remove"] = True
        elif weight:
            entry["download_weight"] = weight
        listed.append(entry)
    return listed
