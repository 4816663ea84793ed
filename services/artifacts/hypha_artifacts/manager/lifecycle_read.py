from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypha_artifacts.access import check
from hypha_artifacts.actor import Actor
from hypha_artifacts.addresses import as_switch
from hypha_artifacts.reference import parse_reference
from hypha_artifacts.versions import find_version, is_stage
from hypha_common.rpc.caller import Caller
from hypha_common.rpc.service import rpc_method

from .answers import answer_draft, answer_published
from .readings import Reading, Readings

if TYPE_CHECKING:
    from hypha_artifacts.core import Core

__all__ = ["ReadMethods", "read_artifact"]


class ReadMethods:
    """Reading one artifact."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._readings = Readings(core.rows)

    @rpc_method
    async def read(
        self,
        artifact_id: str,
        silent: bool | str = False,
        version: str | int | None = None,
        stage: bool | str = False,
        *,
        context: Caller,
    ) -> dict[str, Any]:
        """
        Return an artifact: its manifest, config, versions and counts.

        Args:
            artifact_id: The id, `workspace/alias`, or an alias in the workspace of the caller.
            silent: Do not count this as a view.
            version: The name or index of a version, `latest`, or `stage` for the draft; by default the latest.
            stage: Return the draft; the same as version `stage`.

        """
        actor = Actor.of(context)
        is_silent = bool(as_switch("silent", silent))
        wants_stage = bool(as_switch("stage", stage))
        return await read_artifact(
            self._core, self._readings, artifact_id, actor, version=version, stage=wants_stage, silent=is_silent
        )


async def read_artifact(
    core: Core,
    readings: Readings,
    artifact_id: object,
    actor: Actor,
    *,
    version: object = None,
    stage: bool = False,
    silent: bool = False,
) -> dict[str, Any]:
    """Return what ``read`` answers. Raises NotFound, PermissionDenied, BadRequest for a version there is not."""
    reference = parse_reference(artifact_id, actor.workspace)
    flushes = core.counters.flushes
    reading = await readings.find(reference, artifact_id)
    if core.counters.flushes != flushes:
        reading = await readings.find(reference, artifact_id)
    artifact = reading.artifact
    check(artifact, "read", actor)
    # What was never published is nothing but a draft.
    if is_stage(artifact, version, stage) or (version in (None, "latest") and not artifact.versions):
        shown: Reading | None = reading
    else:
        shown = None
        found = find_version(artifact, version)
        if found is not None:
            artifact = await readings.published(artifact, found)
    if not silent:
        core.counters.viewed(artifact.id)
    if shown is not None:
        return answer_draft(shown, core.counters)
    return answer_published(artifact, core.counters)
