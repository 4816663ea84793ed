from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hypha_artifacts.manager.answers import answer_draft, answer_published
from hypha_artifacts.manager.readings import Reading

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
    if stage is Stage.DRAFTS or (stage is Stage.ALL and not artifact.versions):
        whole = answer_draft(Reading(artifact, staged_files), counters)
    else:
        whole = answer_published(artifact, counters)
        if stage is Stage.ALL and artifact.draft is not None:
            whole["staging"] = [*staged_files, {"_intent": artifact.draft.intent}]
    if fields is None:
        return whole
    return {name: whole[name] for name in ("id", *fields) if name in whole}
