from __future__ import annotations

from typing import TYPE_CHECKING

from hypha_common.rpc.service import Service

from .running import RunningMethods
from .worker_methods import WorkerMethods

if TYPE_CHECKING:
    from hypha_apps.core import Core
    from hypha_apps.starting import Starter
    from hypha_apps.stopping import Stopper

__all__ = ["create_service"]


def create_service(core: Core, starter: Starter, stopper: Stopper) -> Service:
    """Return the controller that clients find as ``public/server-apps``."""
    return Service.of(
        "server-apps",
        RunningMethods(core, starter, stopper),
        WorkerMethods(core, stopper),
        name="Server Apps",
        type="server-apps",
        description="Apps that run on this server: install, start, stop.",
        visibility="public",
        config={"require_context": True},
    )
