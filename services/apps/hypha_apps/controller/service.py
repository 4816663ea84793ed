from __future__ import annotations

from typing import TYPE_CHECKING

from hypha_common.rpc.service import Service

from .editing import EditMethods
from .files import FileMethods
from .installing import InstallMethods
from .listing import ListMethods
from .publishing import PublishMethods
from .running import RunningMethods
from .validating import ValidateMethods
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
        InstallMethods(core, starter, stopper),
        EditMethods(core, starter, stopper),
        FileMethods(core),
        ListMethods(core),
        PublishMethods(core),
        RunningMethods(core, starter, stopper),
        WorkerMethods(core, stopper),
        ValidateMethods(),
        name="Server Apps",
        type="server-apps",
        description="Apps that run on this server: install, start, stop.",
        visibility="public",
        config={"require_context": True},
    )
