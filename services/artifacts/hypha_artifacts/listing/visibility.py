"""
Which artifacts somebody may list, in SQL, so that pages and totals are those of what is shown.

The same decisions as :mod:`hypha_artifacts.access` makes for one artifact.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypha_artifacts.actor import Actor
from hypha_artifacts.permissions import holds, levels_with, names
from hypha_artifacts.record import Artifact
from hypha_common.errors import BadRequest
from hypha_common.principal import Permission

from .bindings import Bindings
from .columns import Columns

__all__ = ["Visible", "in_collection", "in_workspace", "recipient_field"]

_OPERATION = "list"
_IS_INBOX = "@> '{\"private_children\": true}'"  # spelled as in the predicate of an index


@dataclass(frozen=True, slots=True)
class Visible:
    """Conditions on artifacts ``a``, and what has to be joined to them."""

    conditions: tuple[str, ...] = ()
    join: str = ""


def in_workspace(workspace: str, actor: Actor, columns: Columns, bindings: Bindings, *, roots_only: bool) -> Visible:
    """Return what somebody may list of a whole workspace, or of the artifacts in it that have no parent."""
    conditions, join = [], ""
    if not holds(actor, Permission.READ, workspace):
        config = "a.config"
        if not roots_only:
            # What a child has to say does not matter: the parent must let it be listed, and that is enough.
            config, join = "COALESCE(p.config, a.config)", "LEFT JOIN artifacts p ON p.id = a.parent_id"
        conditions.append(_granted(config, actor, bindings))
    if not roots_only and not holds(actor, Permission.ADMIN, workspace):
        conditions.append(_not_in_foreign_inbox(workspace, actor, columns, bindings))
    return Visible(tuple(conditions), join)


def in_collection(parent: Artifact, actor: Actor, columns: Columns, bindings: Bindings) -> Visible:
    """Return what somebody who may list a collection sees of it: everything, unless it is an inbox."""
    field = recipient_field(parent, actor)
    if field is None:
        return Visible()
    email = actor.principal.email
    return Visible((f"{columns.manifest} @> {bindings.json({field: email})}" if email else "false",))


def recipient_field(parent: Artifact, actor: Actor) -> str | None:
    """
    Return the key of manifests that names who may list a child of an inbox (contract 02 §1.9).

    None where anybody may, or this actor may list all of them. Raises BadRequest where the inbox does not tell.

    """
    if parent.config.get("private_children") is not True or holds(actor, Permission.ADMIN, parent.workspace):
        return None
    field = parent.config.get("recipient_field")
    if not isinstance(field, str) or not field:
        raise BadRequest("A collection with 'private_children' must have a 'recipient_field' in its config.")
    return field


def _granted(config: str, actor: Actor, bindings: Bindings) -> str:
    """Return what :func:`hypha_artifacts.permissions.grants` decides of the map in a config."""
    known, levels = bindings.texts(list(names(actor))), bindings.texts(levels_with(_OPERATION))
    entry = f"({config} -> 'permissions' -> n.name)"
    return f"""EXISTS (SELECT FROM unnest({known}) AS n (name) WHERE CASE jsonb_typeof({entry})
        WHEN 'string' THEN {entry} #>> '{{}}' = ANY ({levels})
        WHEN 'array' THEN {entry} ? '{_OPERATION}'
        ELSE false END)"""


def _not_in_foreign_inbox(workspace: str, actor: Actor, columns: Columns, bindings: Bindings) -> str:
    inboxes = f"SELECT i.id FROM artifacts i WHERE i.workspace = {bindings.text(workspace)} AND i.config {_IS_INBOX}"  # noqa: S608  # no values
    condition = f"a.parent_id IS NULL OR a.parent_id <> ALL (ARRAY({inboxes}))"
    if actor.principal.email:
        field = "SELECT i.config ->> 'recipient_field' FROM artifacts i WHERE i.id = a.parent_id"
        condition += f" OR {columns.manifest} -> ({field}) = to_jsonb({bindings.text(actor.principal.email)})"
    return f"({condition})"
