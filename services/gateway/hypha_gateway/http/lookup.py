from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

from hypha_common.errors import BadRequest, DeadlineExceeded, NotFound, StartFailed, Unavailable
from hypha_common.lazy_start import ensure_app
from hypha_common.principal import Permission

from .caller import Caller
from .remote import resolve
from .responses import Message, Receive

if TYPE_CHECKING:
    from hypha_gateway.state import GatewayState

__all__ = ["Attentive", "find"]

START_TIMEOUT_S = 65.0  # an app has 60 s to start

_MISSING_S = 5.0
_PAUSE_S = 0.25
_AHEAD_BYTES = 256 * 1024


class Attentive:
    """
    The ``receive`` of a request or a websocket, which also tells when the client leaves before anything is read.

    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._kept: deque[Message] = deque()

    async def __call__(self) -> Message:
        return self._kept.popleft() if self._kept else await self._receive()

    async def gone(self) -> None:
        """Wait until the client has left. What it sends is kept, up to some size: from then on there is no telling."""
        size = 0
        while size < _AHEAD_BYTES:
            message = await self._receive()
            self._kept.append(message)
            if message["type"].endswith(".disconnect"):
                return
            size += len(message.get("body") or message.get("bytes") or message.get("text") or b"")
        await asyncio.Event().wait()


async def find(
    state: GatewayState,
    caller: Caller,
    workspace: str,
    service_id: str,
    mode: str | None,
    receive: Attentive,
    *,
    function: str = "",
) -> Mapping[str, Any]:
    """
    Return the service of a request as :func:`~.remote.resolve` does; an app that serves it and does not run is started.

    Whether the caller may use the service has been decided by then. Whoever hangs up waits no longer. Raises what
    resolving and starting raise, and Unavailable where that takes too long.

    """
    now = asyncio.get_running_loop().time
    give_up = 0.0
    pauses = chain((0.0,), repeat(_PAUSE_S))  # most often it is there once the app has started
    while True:
        found = await resolve(state, caller, workspace, service_id, mode, function=function, lazy=True)
        if "idle" not in found:
            return found
        # It was stopped in between, or serves this one some time after others.
        give_up = give_up or now() + START_TIMEOUT_S + _MISSING_S
        await _start(state, caller, found["idle"], receive)
        give_up = min(give_up, now() + _MISSING_S)
        pause_s = next(pauses)
        if now() + pause_s >= give_up:
            raise NotFound(f"Service not found: {workspace}/{service_id} (its application runs without it)")
        await asyncio.sleep(pause_s)


async def _start(state: GatewayState, caller: Caller, idle: Mapping[str, str], receive: Attentive) -> None:
    workspace, app_id = idle["workspace"], idle["app_id"]
    starting = asyncio.create_task(ensure_app(state.bus, workspace, app_id, idle["service"], timeout_s=START_TIMEOUT_S))
    leaving = asyncio.create_task(receive.gone())
    try:
        await asyncio.wait((starting, leaving), return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
        if not starting.done():
            starting.cancel()
    if not starting.done():
        raise BadRequest("The caller has hung up")
    try:
        served = starting.result()
    except DeadlineExceeded:
        raise Unavailable(f"App '{app_id}' is being started, please retry") from None
    except StartFailed as error:
        if caller.principal.permission(workspace) >= Permission.READ:
            raise
        # What an app has logged is for those who may read its workspace.
        raise StartFailed(error.message.partition(", logs:\n")[0]) from None
    if not served:
        raise NotFound(f"Service not found: {workspace}/{idle['service']}@{app_id} (this server starts no apps)")
