from __future__ import annotations

from hypha_common.errors import BadRequest

from .record import NEW_VERSION, Artifact, Version

__all__ = ["LATEST", "NEW", "STAGE", "base_of_draft", "find_version", "is_stage"]

# Words for versions that no version can be called.
STAGE = "stage"
LATEST = "latest"
NEW = "new"


def is_stage(artifact: Artifact, version: object, stage: object = False) -> bool:
    """
    Tell whether the draft is meant: ``stage``, or ``version="stage"``, of an artifact that has one.

    Raises BadRequest where both are given and differ.

    """
    if stage and version not in (None, STAGE):
        raise BadRequest("You cannot specify a version when using stage mode.", rpc_type="AssertionError")
    return bool(stage or version == STAGE) and artifact.draft is not None


def find_version(artifact: Artifact, version: object) -> Version | None:
    """
    Return the committed version that clients call ``version`` (contract 02 §1.7); None where nothing is committed.

    None and ``latest`` are the newest, a number is an index, other text a name. For ``stage``: the version that a draft
    edits, or the newest. Raises BadRequest.

    """
    versions = artifact.versions
    if version is None or version in (LATEST, STAGE):
        return versions[-1] if versions else None
    if isinstance(version, bool) or not isinstance(version, (str, int)):
        raise BadRequest("Version must be a string or an integer.", rpc_type="AssertionError")
    if isinstance(version, int):
        if not 0 <= version < len(versions):
            raise BadRequest(f"Version index {version} is out of range.", rpc_type="AssertionError")
        return versions[version]
    for known in versions:
        if known.name == version:
            return known
    raise BadRequest(f"Artifact version '{version}' does not exist.")


def base_of_draft(artifact: Artifact) -> Version | None:
    """Return the version whose files a draft begins with: none where it becomes a new version."""
    if artifact.draft is None or artifact.draft.intent == NEW_VERSION:
        return None
    return artifact.versions[-1] if artifact.versions else None
