from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

from hypha_common.errors import HyphaError, NotFound, StartFailed
from hypha_common.lazy_start import ensure_app
from hypha_workspace.registry.idle import NotRunning

if TYPE_CHECKING:
    from hypha_common.bus import Bus

    from .service_info import ServiceInfo

__all__ = ["START_TIMEOUT_S", "wake"]

START_TIMEOUT_S = 65.0  # an app has 60 s to start

_ATTEMPTS = 3  # an app that was started may be stopped before it is looked up again

Find: TypeAlias = Callable[[], Awaitable["ServiceInfo"]]


async def wake(bus: Bus, find: Find, *, timeout_s: float = START_TIMEOUT_S) -> ServiceInfo:
    """
    Return what ``find`` finds; where that is a service of an app that does not run, have the app started first.

    ``find`` decides who may use what, before and after. Raises what it raises, what the start raises, and
    DeadlineExceeded; where this cluster runs no apps, NotRunning.

    """
    try:
        return await find()
    except NotRunning as error:
        missing = error
    if not missing.startable:
        raise missing
    now = asyncio.get_running_loop().time
    deadline = now() + timeout_s
    for _ in range(_ATTEMPTS):
        if not await _start(bus, missing, deadline - now()):
            break
        try:
            return await find()
        except NotRunning as error:
            missing = error
    raise missing


async def _start(bus: Bus, missing: NotRunning, timeout_s: float) -> bool:
    """Return whether there are apps here at all."""
    try:
        return await ensure_app(bus, missing.workspace, missing.app, missing.service, timeout_s=timeout_s)
    except StartFailed as error:
        raise error if missing.member else _without_logs(error) from None
    except NotFound as error:
        if error.rpc_type != NotFound.rpc_type:
            raise  # there is no worker for it
        # Clients match the beginning.
        raise NotFound(f"{missing.message} ({error.message})") from None


def _without_logs(error: HyphaError) -> HyphaError:
    """What an app has logged is for those who may read its workspace."""
    return StartFailed(error.message.partition(", logs:\n")[0])
