"""
What a collection lets happen to its children, beyond the artifact's own permissions (contract 02 §1.6). Pure.

Where the collection's map does not grant, a permission in its workspace does.
"""

from __future__ import annotations

from hypha_artifacts.actor import Actor
from hypha_artifacts.permissions import grants, holds
from hypha_artifacts.record import Artifact, Parent
from hypha_common.errors import PermissionDenied
from hypha_common.principal import Permission

__all__ = [
    "check_attach",
    "check_child",
    "check_detach",
    "check_first_version",
    "check_mutate",
    "check_new_version",
    "check_root",
    "is_recipient",
]


def check_root(workspace: str, actor: Actor) -> None:
    """Raise PermissionDenied unless somebody may create an artifact that is in no collection."""
    if not holds(actor, Permission.READ_WRITE, workspace):
        raise PermissionDenied(
            f"User does not have permission to create an orphan artifact in the workspace '{workspace}'."
        )


def check_child(parent: Parent, actor: Actor, *, stage: bool) -> None:
    """Raise PermissionDenied unless somebody may create a child, as a draft or at once."""
    if _lets(parent, "draft" if stage else "attach", actor, Permission.READ_WRITE):
        return
    action = "create a draft in" if stage else "attach an artifact to"
    raise PermissionDenied(f"User does not have permission to {action} the collection '{parent.name.alias}'.")


def check_first_version(artifact: Artifact, actor: Actor) -> None:
    """Raise PermissionDenied unless somebody may publish a child that was a draft until now."""
    parent = artifact.parent
    if parent is not None and not artifact.versions:
        check_attach(parent, actor)


def check_attach(parent: Parent, actor: Actor) -> None:
    if not _lets(parent, "attach", actor, Permission.READ_WRITE):
        raise PermissionDenied(
            f"User does not have permission to attach artifact to the collection '{parent.name.alias}'."
        )


def check_detach(parent: Parent, actor: Actor) -> None:
    if not _lets(parent, "detach", actor, Permission.ADMIN):
        raise PermissionDenied(
            f"User does not have permission to detach artifact from the collection '{parent.name.alias}'."
        )


def check_mutate(artifact: Artifact, actor: Actor) -> None:
    """Raise PermissionDenied unless somebody may change what a child has published."""
    parent = artifact.parent
    if parent is None or not artifact.versions:
        return
    if not _lets(parent, "mutate", actor, Permission.ADMIN):
        raise PermissionDenied(
            f"Collection '{parent.name.alias}' does not allow modification of committed versions "
            "(no mutate permission)."
        )


def check_new_version(artifact: Artifact, actor: Actor) -> None:
    """Raise PermissionDenied unless somebody may add a version to a child without a draft."""
    parent = artifact.parent
    if parent is not None and not _lets(parent, "commit", actor, Permission.READ_WRITE):
        raise PermissionDenied(
            f"User does not have permission to commit an artifact to collection '{parent.name.alias}'."
        )


def is_recipient(artifact: Artifact, actor: Actor) -> bool:
    """Tell whether a child is addressed to somebody in a collection whose recipients may delete what they get."""
    config = {} if artifact.parent is None else artifact.parent.config
    if config.get("private_children") is not True or config.get("recipient_can_delete") is not True:
        return False
    field, email = config.get("recipient_field"), actor.email
    return isinstance(field, str) and bool(email) and artifact.manifest.get(field) == email


def _lets(parent: Parent, operation: str, actor: Actor, fallback: Permission) -> bool:
    return grants(parent.permissions, operation, actor) or holds(actor, fallback, parent.name.workspace)
