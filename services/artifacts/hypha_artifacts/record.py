from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from .permissions import expand
from .reference import ArtifactName

__all__ = ["Artifact", "Draft", "Parent", "Version", "draft_of", "load_json", "parent_of", "present"]

NEW_VERSION = "new_version"
EDIT_VERSION = "edit_version"

Json = dict[str, Any]

_LONG_NUMBER = re.compile(r"[0-9]{19}")


@dataclass(frozen=True, slots=True)
class Version:
    """A committed version. ``seq`` never changes; the place in the list is what clients call its index."""

    seq: int
    name: str
    comment: str | None
    created_at: int  # Unix time, seconds

    def dump(self) -> Json:
        return {"version": self.name, "comment": self.comment, "created_at": self.created_at}


@dataclass(frozen=True, slots=True)
class Draft:
    """What is staged, but its files; ``intent`` tells what a commit makes of it. None: as published."""

    intent: str
    manifest: Json | None = None
    config: Json | None = None
    type: str | None = None


@dataclass(frozen=True, slots=True)
class Parent:
    """What decisions about a child need of its collection."""

    id: UUID
    name: ArtifactName
    config: Json

    @property
    def permissions(self) -> Mapping[str, Any]:
        return self.config.get("permissions") or {}


@dataclass(frozen=True, slots=True)
class Artifact:
    """One row of ``artifacts``, with its versions and the parent that decisions need."""

    id: UUID
    workspace: str
    alias: str
    type: str | None
    manifest: Json
    config: Json
    created_by: str
    created_at: int  # Unix time, seconds
    last_modified: int
    download_count: float = 0.0
    view_count: float = 0.0
    file_count: int = 0
    child_count: int | None = None  # None: not counted
    parent: Parent | None = None
    draft: Draft | None = None
    versions: tuple[Version, ...] = field(default=())

    @property
    def name(self) -> ArtifactName:
        return ArtifactName(self.workspace, self.alias)

    @property
    def permissions(self) -> Mapping[str, Any]:
        return self.config.get("permissions") or {}


def parent_of(artifact: Artifact) -> Parent:
    """Return a collection as its children see it."""
    return Parent(artifact.id, artifact.name, artifact.config)


def load_json(text: str | None) -> Any:
    """Read a JSON column, which the driver hands out as text."""
    if text is None:
        return None
    # The database writes 1e20 as digits; what does not fit 64 bits no client could read as a whole number.
    return json.loads(text, parse_int=_number) if _LONG_NUMBER.search(text) else json.loads(text)


def _number(digits: str) -> int | float:
    number = int(digits)
    return number if -(2**63) <= number < 2**64 else float(number)


def draft_of(row: Mapping[str, Any]) -> Draft | None:
    """Read the draft's columns of a row of ``artifacts``."""
    if row["intent"] is None:
        return None
    return Draft(
        intent=row["intent"],
        manifest=load_json(row["staged_manifest"]),
        config=load_json(row["staged_config"]),
        type=row["staged_type"],
    )


def present(artifact: Artifact, staging: list[Json] | None = None) -> Json:
    """
    Return an artifact as clients see it (contract 02 §1.2).

    ``staging`` lists the staged files, ``{path[, download_weight][, _remove]}``; the intent is added.

    """
    config = artifact.config
    if artifact.child_count is not None:
        config = {**config, "child_count": artifact.child_count, "is_collection": True}
    return {
        "id": str(artifact.name),
        "_id": str(artifact.id),
        "type": artifact.type,
        "workspace": artifact.workspace,
        "parent_id": None if artifact.parent is None else str(artifact.parent.name),
        "alias": artifact.alias,
        "manifest": artifact.manifest,
        "staging": None if artifact.draft is None else [*(staging or ()), {"_intent": artifact.draft.intent}],
        "download_count": artifact.download_count,
        "view_count": artifact.view_count,
        "file_count": artifact.file_count,
        "created_at": artifact.created_at,
        "created_by": artifact.created_by,
        "last_modified": artifact.last_modified,
        "versions": [version.dump() for version in artifact.versions],
        "config": config,
        "_permissions": {name: expand(level) for name, level in artifact.permissions.items()},
    }
