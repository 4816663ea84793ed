"""
What an edit does, decided before anything is written (contract 02 §1.7). Nothing here does I/O.
"""

from __future__ import annotations

from typing import Any

from hypha_artifacts.actor import Actor
from hypha_artifacts.record import EDIT_VERSION, NEW_VERSION, Artifact
from hypha_artifacts.versions import LATEST, NEW, STAGE
from hypha_common.errors import BadRequest

from .configs import OWNER_LEVEL, inherited_config, read_config
from .gates import check_first_version, check_mutate, check_new_version
from .manifests import check_manifest, read_manifest, read_type
from .readings import as_draft
from .secret_values import read_secrets
from .values import Values

__all__ = ["becomes_new", "check_publishing", "read_intent", "read_values", "refuse_branch"]


def read_values(
    artifact: Artifact, actor: Actor, *, manifest: object, kind: object, config: object, secrets: object
) -> Values:
    """Check what an edit gives. Raises BadRequest, NotSupported, PayloadTooLarge."""
    drafted = as_draft(artifact)
    new_type = None if kind is None else read_type(kind)
    effective = new_type or drafted.type
    checked = None
    if manifest is not None:
        checked = read_manifest(manifest, effective)
    elif new_type is not None:
        check_manifest(drafted.manifest, new_type)
    return Values(
        type=new_type,
        manifest=checked,
        config=None if config is None else _read_config(config, artifact, actor, effective),
        secrets=None if secrets is None else read_secrets(secrets),
    )


def read_intent(artifact: Artifact, version: object) -> str | None:
    """
    Return what the version named in an edit makes of a draft; None where it says nothing.

    Raises BadRequest for a version that cannot be edited: only the newest can.

    """
    if version is None or version == STAGE:
        return None
    if version == NEW:
        return NEW_VERSION
    newest = artifact.versions[-1].name if artifact.versions else None
    if newest is not None and version in (LATEST, newest):
        return EDIT_VERSION
    supported = ["None", "'new'", "'stage'", *([f"'{newest}' (the latest version)"] if newest is not None else [])]
    raise BadRequest(f"Invalid version '{version!s:.80}'. Edit operation only supports: {', '.join(supported)}.")


def becomes_new(artifact: Artifact, intent: str | None) -> bool:
    """Tell whether publishing makes a new version."""
    if not artifact.versions:
        return True
    if intent is None and artifact.draft is not None:
        intent = artifact.draft.intent
    return intent == NEW_VERSION


def check_publishing(artifact: Artifact, intent: str | None, actor: Actor) -> None:
    """Raise PermissionDenied where the collection of an artifact forbids what an edit is about to publish."""
    if not artifact.versions:
        check_first_version(artifact, actor)
    elif becomes_new(artifact, intent):
        check_new_version(artifact, actor)
    else:
        check_mutate(artifact, actor)


def refuse_branch(artifact: Artifact, branch: object) -> None:
    """Raise BadRequest where a branch is named: no artifact of ours has any."""
    if branch is not None:
        raise BadRequest(f"Artifact '{artifact.name}' does not use git storage.")


def _read_config(given: object, artifact: Artifact, actor: Actor, kind: str | None) -> dict[str, Any]:
    config = inherited_config(read_config(given), artifact.config, kind)
    if artifact.parent is None:
        return config
    # Whoever edits a child does not lose it by leaving out the permissions.
    permissions = {actor.principal.id: OWNER_LEVEL, **(config.get("permissions") or {})}
    return {**config, "permissions": permissions}
