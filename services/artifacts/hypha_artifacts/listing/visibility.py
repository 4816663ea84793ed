"""
Which artifacts somebody may list, in SQL, so that pages and totals are those of what is shown.

The same decisions as :mod:`hypha_artifacts.access` makes for one artifact.
"""

from __future__ import annotations

from hypha_artifacts.actor import Actor
from hypha_artifacts.permissions import holds, levels_with, names
from hypha_artifacts.record import Artifact
from hypha_common.errors import BadRequest
from hypha_common.principal import Permission

from .bindings import Bindings
from .columns import Columns

__all__ = ["in_collection", "in_workspace", "recipient_field"]

_OPERATION = "list"
_IS_INBOX = "@> '{\"private_children\": true}'"  # spelled as in the predicate of an index


def in_workspace(workspace: str, actor: Actor, columns: Columns, bindings: Bindings, *, roots_only: bool) -> list[str]:
    """Return conditions on what somebody may list of a workspace, or of the artifacts in it that have no parent."""
    reads = holds(actor, Permission.READ, workspace)
    if holds(actor, Permission.ADMIN, workspace) or (roots_only and reads):
        return []
    if roots_only:
        return [_granted("a.config", actor, bindings)]
    within = bindings.text(workspace)
    if reads:
        addressed = _addressed(actor, columns, bindings)
        return [f"(a.parent_id IS NULL OR a.parent_id NOT IN ({_inboxes(within)}) OR {addressed})"]
    return [_for_strangers(within, actor, columns, bindings)]


def in_collection(parent: Artifact, actor: Actor, columns: Columns, bindings: Bindings) -> list[str]:
    """Return conditions on the children of a collection that somebody may list: none, unless it is an inbox."""
    field = recipient_field(parent, actor)
    if field is None:
        return []
    email = actor.email
    return [f"{columns.manifest} @> {bindings.json({field: email})}" if email else "false"]


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


def _for_strangers(within: str, actor: Actor, columns: Columns, bindings: Bindings) -> str:
    """
    What a child has to say does not matter: its parent must let it be listed, and that is enough.

    Collections are judged once each. They are found by going from one to the next in an index, past their children.

    """
    collections = f"""
        WITH RECURSIVE parents (id) AS (
            (SELECT c.parent_id FROM artifacts c WHERE c.workspace = {within} AND c.parent_id IS NOT NULL
             ORDER BY c.parent_id LIMIT 1)
            UNION ALL
            SELECT (SELECT c.parent_id FROM artifacts c WHERE c.workspace = {within} AND c.parent_id > parents.id
                    ORDER BY c.parent_id LIMIT 1)
            FROM parents WHERE parents.id IS NOT NULL
        )
        SELECT p.id FROM parents JOIN artifacts p ON p.id = parents.id
        WHERE (p.config {_IS_INBOX}) IS NOT TRUE AND {_granted("p.config", actor, bindings)}
    """  # noqa: S608  # no values
    inboxes = f"{_inboxes(within)} AND {_granted('i.config', actor, bindings)}"
    return f"""CASE WHEN a.parent_id IS NULL THEN {_granted("a.config", actor, bindings)}
        ELSE a.parent_id IN ({collections})
          OR a.parent_id IN ({inboxes}) AND {_addressed(actor, columns, bindings)} END"""


def _inboxes(within: str) -> str:
    return f"SELECT i.id FROM artifacts i WHERE i.workspace = {within} AND i.config {_IS_INBOX}"  # noqa: S608  # no values


def _granted(config: str, actor: Actor, bindings: Bindings) -> str:
    """Return what :func:`hypha_artifacts.permissions.grants` decides of the map in a config."""
    known, levels = bindings.texts(list(names(actor))), bindings.texts(levels_with(_OPERATION))
    entry = f"({config} -> 'permissions' -> n.name)"
    return f"""EXISTS (SELECT FROM unnest({known}) AS n (name) WHERE CASE jsonb_typeof({entry})
        WHEN 'string' THEN {entry} #>> '{{}}' = ANY ({levels})
        WHEN 'array' THEN {entry} ? '{_OPERATION}'
        ELSE false END)"""


def _addressed(actor: Actor, columns: Columns, bindings: Bindings) -> str:
    """Return whether an inbox, the parent of an artifact, would show it to somebody."""
    email = actor.email
    if not email:
        return "false"
    field = "SELECT i.config ->> 'recipient_field' FROM artifacts i WHERE i.id = a.parent_id"
    return f"{columns.manifest} -> ({field}) = to_jsonb({bindings.text(email)})"
