from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from hypha_artifacts.record import Artifact
from hypha_artifacts.versions import base_of_draft, find_version, is_stage

__all__ = ["View", "view_of"]


@dataclass(frozen=True, slots=True)
class View:
    """
    Which files somebody sees: those of the version ``seq`` (None: of no version), overlaid by the staged ones.

    Only a draft's view is overlaid.

    """

    artifact: UUID
    seq: int | None
    staged: bool = False


def view_of(artifact: Artifact, version: object = None, stage: object = False) -> View:
    """Return what ``version`` and ``stage`` mean (contract 02 §1.7). Raises BadRequest."""
    if is_stage(artifact, version, stage):
        base = base_of_draft(artifact)
        return View(artifact.id, None if base is None else base.seq, staged=True)
    found = find_version(artifact, version)
    return View(artifact.id, None if found is None else found.seq)
