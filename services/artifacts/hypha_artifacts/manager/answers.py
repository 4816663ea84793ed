from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hypha_artifacts.record import present

from .readings import Reading, as_draft

if TYPE_CHECKING:
    from hypha_artifacts.counters import Counters
    from hypha_artifacts.record import Artifact

__all__ = ["answer_draft", "answer_published"]


def answer_draft(reading: Reading, counters: Counters) -> dict[str, Any]:
    """Return an artifact as its draft has it; without a draft, as it is published."""
    return present(_counted(as_draft(reading.artifact), counters), reading.staging)


def answer_published(artifact: Artifact, counters: Counters) -> dict[str, Any]:
    """Return an artifact as everybody sees it: no word of a draft."""
    return present(replace(_counted(artifact, counters), draft=None))


def _counted(artifact: Artifact, counters: Counters) -> Artifact:
    views, downloads = counters.pending(artifact.id)
    return replace(artifact, view_count=artifact.view_count + views, download_count=artifact.download_count + downloads)
