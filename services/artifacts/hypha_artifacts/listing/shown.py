from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hypha_artifacts.manager.readings import as_draft
from hypha_artifacts.record import present

from .columns import Stage

if TYPE_CHECKING:
    from hypha_artifacts.counters import Counters
    from hypha_artifacts.record import Artifact

__all__ = ["shown"]


def shown(
    artifact: Artifact,
    stage: Stage,
    staged_files: list[dict[str, Any]],
    counters: Counters,
    fields: Sequence[str] | None,
) -> dict[str, Any]:
    """
    Return an artifact as a listing has it: as published, or where drafts are asked for as its draft has it.

    ``fields`` are those that its collection lets be listed, None: all.

    """
    with_draft = artifact.draft is not None and stage is not Stage.COMMITTED
    if with_draft and (stage is Stage.DRAFTS or not artifact.versions):
        artifact = as_draft(artifact)
    whole = present(artifact, staged_files)
    if not with_draft:
        whole["staging"] = None  # no word of a draft to those who ask for what is published
    views, downloads = counters.pending(artifact.id)
    whole["view_count"] += views
    whole["download_count"] += downloads
    if fields is None:
        return whole
    return {name: whole[name] for name in ("id", *fields) if name in whole}
