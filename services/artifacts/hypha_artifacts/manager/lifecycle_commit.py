from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypha_artifacts.access import check
from hypha_artifacts.actor import Actor
from hypha_artifacts.versions import STAGE
from hypha_common.errors import BadRequest
from hypha_common.rpc.caller import Caller
from hypha_common.rpc.service import rpc_method

from .answers import answer_draft
from .commits import Publication, read_version_name
from .documents import check_text
from .drafts import Drafts
from .edits import refuse_branch
from .gates import check_first_version
from .publishing import Publishing
from .readings import Readings

if TYPE_CHECKING:
    from hypha_artifacts.core import Core
    from hypha_artifacts.record import Artifact

__all__ = ["CommitMethods"]


class CommitMethods:
    """What becomes of drafts."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._drafts = Drafts(core.rows)
        self._publishing = Publishing(core)
        self._readings = Readings(core.rows)

    @rpc_method
    async def commit(
        self,
        artifact_id: str,
        version: str | None = None,
        comment: str | None = None,
        branch: str | None = None,
        *,
        context: Caller,
    ) -> dict[str, Any]:
        """
        Publish the draft of an artifact with its files, and return the artifact. One without a draft stays as it is.

        Args:
            artifact_id: The id, `workspace/alias`, or an alias in the workspace of the caller.
            version: The name of a new version; by default `v1`, `v2`, and so on.
            comment: What to say of the version.
            branch: Of artifacts in git, which this server does not have.

        """
        if version == STAGE:
            raise BadRequest("Version cannot be 'stage' when committing.", rpc_type="AssertionError")
        actor = Actor.of(context)
        artifact = await self._core.access.find(artifact_id, "commit", actor)
        refuse_branch(artifact, branch)

        def is_due(locked: Artifact) -> bool:
            check(locked, "commit", actor)
            if locked.draft is None and locked.versions:
                return False
            if locked.draft is None:
                raise BadRequest("Artifact must be in staging mode to commit.", rpc_type="AssertionError")
            check_first_version(locked, actor)
            return True

        name = read_version_name(version)
        said = None if comment is None else check_text(comment, "Comment")
        if is_due(artifact):
            await self._publishing.publish(artifact, Publication(version=name, comment=said), is_due)
        return answer_draft(await self._readings.find(artifact.id), self._core.counters)

    @rpc_method
    async def discard(self, artifact_id: str, *, context: Caller) -> dict[str, Any]:
        """
        Drop the draft of an artifact with its files, and return the artifact as it is published.

        Args:
            artifact_id: The id, `workspace/alias`, or an alias in the workspace of the caller.

        """
        artifact = await self._core.access.find(artifact_id, "edit", Actor.of(context))
        if artifact.draft is None or not await self._drafts.discard(artifact):
            raise BadRequest("No staged changes to discard. Artifact is not in staging mode.")
        return answer_draft(await self._readings.find(artifact.id), self._core.counters)

    @rpc_method
    async def discard_changes(self, artifact_id: str, branch: str | None = None, *, context: Caller) -> dict[str, Any]:
        """
        Drop the draft of an artifact with its files, if there is one.

        Args:
            artifact_id: The id, `workspace/alias`, or an alias in the workspace of the caller.
            branch: Of artifacts in git, which this server does not have.

        """
        artifact = await self._core.access.find(artifact_id, "edit", Actor.of(context))
        refuse_branch(artifact, branch)
        if artifact.draft is None or not await self._drafts.discard(artifact):
            return {"status": "nothing_to_discard"}
        return {"status": "discarded", "branch": "all"}

    @rpc_method
    async def get_status(self, artifact_id: str, branch: str | None = None, *, context: Caller) -> dict[str, Any]:
        """
        Tell whether an artifact has a draft, and which files are staged.

        Args:
            artifact_id: The id, `workspace/alias`, or an alias in the workspace of the caller.
            branch: Of artifacts in git, which this server does not have.

        """
        artifact = await self._core.access.find(artifact_id, "get_file", Actor.of(context))
        refuse_branch(artifact, branch)
        reading = await self._readings.find(artifact.id)
        if reading.artifact.draft is None:
            return {"staged": False}
        return {"staged": True, "files": reading.staging}
