from __future__ import annotations

import asyncio

from hypha_common.errors import BadRequest
from hypha_common.rpc.calls import OutgoingCall

from .responses import Receive

__all__ = ["end_on_hang_up"]


def end_on_hang_up(receive: Receive, call: OutgoingCall) -> None:
    """End a call when whoever made the request goes away: only ``receive()`` tells. For calls that take a while."""
    watching = asyncio.get_running_loop().create_task(_watch(receive, call))
    call.answer.add_done_callback(lambda _: watching.cancel())


async def _watch(receive: Receive, call: OutgoingCall) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    call.reject(BadRequest("The caller has hung up"))
