from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hypha_apps.core import Core
    from hypha_apps.stopping import Stopper

__all__ = ["stop_kind"]


async def stop_kind(core: Core, stopper: Stopper, workspace: str, app_id: str, *, stage: bool, reason: str) -> None:
    """Stop what runs of the draft of an app, or of its versions."""
    sessions = await core.sessions.of_app(workspace, app_id)
    await asyncio.gather(
        *(stopper.stop_quietly(session, reason=reason) for session in sessions if session.stage is stage)
    )
