from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypha_artifacts.access import check
from hypha_artifacts.actor import Actor
from hypha_artifacts.addresses import as_switch
from hypha_artifacts.record import NEW_VERSION, Artifact
from hypha_artifacts.versions import STAGE
from hypha_common.errors import NotFound
from hypha_common.rpc.caller import Caller
from hypha_common.rpc.service import rpc_method

from .answers import answer_draft
from .commits import Publication
from .documents import check_text
from .drafts import Drafts
from .edits import check_publishing, read_intent, read_values, refuse_branch
from .publishing import Publishing
from .readings import Readings
from .sealing import Sealing

if TYPE_CHECKING:
    from hypha_artifacts.core import Core

    from .values import Values

__all__ = ["EditMethods"]


class EditMethods:
    """Changing what an artifact says, at once or in a draft."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._drafts = Drafts(core.rows)
        self._publishing = Publishing(core)
        self._readings = Readings(core.rows)
        self._sealing = Sealing(core.settings)

    @rpc_method
    async def edit(
        self,
        artifact_id: str,
        manifest: dict[str, Any] | None = None,
        type: str | None = None,  # noqa: A002  # the word of the protocol
        config: dict[str, Any] | None = None,
        secrets: dict[str, Any] | None = None,
        version: str | None = None,
        comment: str | None = None,
        stage: bool | str = False,
        branch: str | None = None,
        *,
        context: Caller,
    ) -> dict[str, Any]:
        """
        Change an artifact and return it. What is given replaces what was there; the rest stays.

        Args:
            artifact_id: The id, `workspace/alias`, or an alias in the workspace of the caller.
            manifest: The new manifest, whole.
            type: The new type.
            config: The new config, whole.
            secrets: The new secrets, all of them.
            version: `new` makes another version; by default the latest one is changed.
            comment: What to say of the version.
            stage: Change the draft, which `commit` publishes; otherwise everything is published, a draft included.
            branch: Of artifacts in git, which this server does not have.

        """
        actor = Actor.of(context)
        artifact = await self._core.access.find(artifact_id, "edit", actor)
        refuse_branch(artifact, branch)
        is_draft = bool(as_switch("stage", stage)) or version == STAGE
        intent = read_intent(artifact, version)
        values = read_values(artifact, actor, manifest=manifest, kind=type, config=config, secrets=secrets)
        sealed = None if values.secrets is None else self._sealing.seal(artifact.id, values.secrets)
        if is_draft:
            if not await self._drafts.stage(artifact, values, sealed, intent):
                raise NotFound(f"Artifact with ID '{artifact_id}' does not exist.")
        else:
            said = None if comment is None else check_text(comment, "Comment")
            await self._publish(artifact, values, sealed, intent, said, actor)
        return answer_draft(await self._readings.find(artifact.id), self._core.counters)

    async def _publish(
        self, artifact: Artifact, values: Values, sealed: bytes | None, intent: str | None, comment: str | None,
        actor: Actor,
    ) -> None:  # fmt: skip
        def check_all(locked: Artifact) -> bool:
            check(locked, "edit", actor)
            check(locked, "commit", actor)
            check_publishing(locked, intent, actor)
            return True

        check_all(artifact)  # before the bytes of a draft are looked for
        new_version = None if intent is None else intent == NEW_VERSION
        what = Publication(values, sealed, new_version=new_version, comment=comment)
        await self._publishing.publish(artifact, what, check_all)
