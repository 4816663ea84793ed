from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hypha_artifacts.record import NEW_VERSION, Artifact, Version, load_json
from hypha_artifacts.repository import LONG_S, LONGER
from hypha_artifacts.versions import LATEST, NEW, STAGE
from hypha_common.errors import BadRequest

from .configs import inherited_config
from .documents import check_line, read_map
from .readings import as_draft
from .schemas import check_against
from .values import Values, dump_json, unix_now

if TYPE_CHECKING:
    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

__all__ = ["FIRST_COMMENT", "Publication", "automatic_name", "publish", "read_version_name"]

FIRST_COMMENT = "Initial version"

_STAGED_WEIGHTS = """
    SELECT json_object_agg(path, download_weight) FROM artifact_staged_files
    WHERE artifact_id = $1 AND blob_id IS NOT NULL AND download_weight > 0
"""
_FREEZE = """
    UPDATE artifact_versions v SET type = a.type, manifest = a.manifest, config = a.config
    FROM artifacts a WHERE a.id = $1 AND v.artifact_id = $1 AND v.seq = $2
"""
_TAKE_SEQ = """
    UPDATE artifacts SET next_seq = next_seq + 1, version_count = version_count + 1
    WHERE id = $1 RETURNING next_seq - 1
"""
_ADD_VERSION = """
    INSERT INTO artifact_versions (artifact_id, seq, name, comment, created_at, type, manifest, config)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""
_COMMENT = "UPDATE artifact_versions SET comment = $3 WHERE artifact_id = $1 AND seq = $2"
_REMOVE_FILES = """
    DELETE FROM artifact_files f USING artifact_staged_files s
    WHERE s.artifact_id = $1 AND f.artifact_id = $1 AND f.seq = $2 AND f.path = s.path
"""
_ADD_FILES = """
    INSERT INTO artifact_files (artifact_id, seq, path, blob_id)
    SELECT artifact_id, $2, path, blob_id FROM artifact_staged_files WHERE artifact_id = $1 AND blob_id IS NOT NULL
"""
_CLEAR_FILES = "DELETE FROM artifact_staged_files WHERE artifact_id = $1"
_PUBLISH = """
    UPDATE artifacts SET type = $2, manifest = $3, config = $4, secrets = coalesce($5, staged_secrets, secrets),
        intent = NULL, staged_type = NULL, staged_manifest = NULL, staged_config = NULL, staged_secrets = NULL,
        last_modified = $6,
        file_count = (SELECT count(*) FROM artifact_files WHERE artifact_id = $1 AND seq = $7)
    WHERE id = $1
"""


@dataclass(frozen=True, slots=True)
class Publication:
    """What a commit is to do, besides what the draft says."""

    values: Values = field(default_factory=Values)
    secrets: bytes | None = None  # sealed
    new_version: bool | None = None  # None: as the draft intends
    version: str | None = None  # the name of a new version
    comment: str | None = None


async def publish(connection: PoolConnectionProxy[Record], artifact: Artifact, what: Publication) -> None:
    """
    Publish a locked artifact, draft and given values together: readers see all of it or nothing.

    The staged files must be sealed. Raises BadRequest where the manifest is not what the collection wants, or the
    version's name is taken.

    """
    drafted, given = as_draft(artifact), what.values
    kind = given.type or drafted.type
    manifest = drafted.manifest if given.manifest is None else given.manifest
    if artifact.parent is not None:
        check_against(artifact.parent.config.get("collection_schema"), manifest)
    config = inherited_config(drafted.config if given.config is None else given.config, artifact.config, kind)
    if artifact.draft is not None:
        config = _with_weights(config, await connection.fetchval(_STAGED_WEIGHTS, artifact.id))
    manifest_text, config_text = dump_json(manifest), dump_json(config)
    seq = await _version(connection, artifact, what, kind, manifest_text, config_text)
    if artifact.draft is not None:
        await _publish_files(connection, artifact, seq)
    await connection.execute(_PUBLISH, artifact.id, kind, manifest_text, config_text, what.secrets, unix_now(), seq)


def read_version_name(given: object) -> str | None:
    """Return the name that somebody wants for a version; None: an automatic one. Raises BadRequest."""
    if given is None or given in (NEW, STAGE):
        return None
    name = check_line(given, "Version name")
    if name == LATEST or not name.isprintable():
        raise BadRequest(f"Invalid version name: {name!r}")
    return name


def automatic_name(versions: tuple[Version, ...]) -> str:
    """Return ``v<count>``, or the next number that no version has."""
    taken = {version.name for version in versions}
    number = len(versions)
    while f"v{number}" in taken:
        number += 1
    return f"v{number}"


async def _version(
    connection: PoolConnectionProxy[Record],
    artifact: Artifact,
    what: Publication,
    kind: str | None,
    manifest: str | None,
    config: str | None,
) -> int:
    """Return the number of the version that is published: the newest one, or one that is made here."""
    intended = artifact.draft is not None and artifact.draft.intent == NEW_VERSION
    is_new = intended if what.new_version is None else what.new_version
    newest = artifact.versions[-1] if artifact.versions else None
    if newest is not None and not is_new:
        if what.comment is not None:
            await connection.execute(_COMMENT, artifact.id, newest.seq, what.comment)
        return newest.seq
    name = what.version or automatic_name(artifact.versions)
    names = [version.name for version in artifact.versions]
    if name in names:
        raise BadRequest(f"Version '{name}' already exists. Existing versions: {names}")
    if newest is not None:  # until now the artifact's own values were its
        await connection.execute(_FREEZE, artifact.id, newest.seq)
    seq: int = await connection.fetchval(_TAKE_SEQ, artifact.id)
    comment = what.comment if newest is not None or what.comment is not None else FIRST_COMMENT
    await connection.execute(_ADD_VERSION, artifact.id, seq, name, comment, unix_now(), kind, manifest, config)
    return seq


async def _publish_files(connection: PoolConnectionProxy[Record], artifact: Artifact, seq: int) -> None:
    """Lay the staged files over those of a version."""
    await connection.execute(LONGER)
    for statement in (_REMOVE_FILES, _ADD_FILES):
        await connection.execute(statement, artifact.id, seq, timeout=LONG_S)
    await connection.execute(_CLEAR_FILES, artifact.id, timeout=LONG_S)


def _with_weights(config: dict[str, Any], weights: str | None) -> dict[str, Any]:
    if weights is None:
        return config
    merged = {**(config.get("download_weights") or {}), **load_json(weights)}
    return read_map({**config, "download_weights": merged}, "Config with the download weights of the staged files")
