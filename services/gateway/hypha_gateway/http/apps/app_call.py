from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from hypha_common.errors import HyphaError
from hypha_common.ids import Address
from hypha_gateway import metrics
from hypha_gateway.http.caller import Caller

if TYPE_CHECKING:
    from hypha_common.rpc.calls import OutgoingCall
    from hypha_gateway.state import GatewayState

__all__ = ["AppCall"]

SILENCE_S = 30.0  # without a heartbeat or an event, after which a service is given up
_AFTERWARDS_S = 60.0  # for what a service does when its answer is complete, such as background tasks


class AppCall:
    """
    One call of a service's ``serve``: it lasts as long as the request or the websocket.

    ``receive`` and ``send`` are called from afar, once an event. The service ends by itself when it is told that its
    client has left; after a while it is left alone, and its ``receive`` and ``send`` are no more.

    """

    def __init__(self, state: GatewayState, caller: Caller, provider: Address, service: str) -> None:
        self._state = state
        self._caller = caller
        self._provider = provider
        self._method = f"services.{service}.serve"
        self._call: OutgoingCall | None = None
        self._task: asyncio.Task[Any] | None = None

    def start(
        self,
        scope: Mapping[str, Any],
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> asyncio.Task[Any]:
        """Call; the task ends when ``serve`` has returned, and raises what it raised (a HyphaError)."""

        # Names and signatures are what the service sees.
        async def next_event() -> Any:
            self._alive()
            return await receive()

        async def send_event(event: Any) -> None:
            self._alive()
            await send(event)

        next_event.__name__, send_event.__name__ = "receive", "send"
        event = {"scope": scope, "receive": next_event, "send": send_event}
        self._task = asyncio.get_running_loop().create_task(self._run(event))
        self._state.web_apps.keep(self._task)
        return self._task

    def let_end(self, within_s: float = _AFTERWARDS_S) -> None:
        """Nobody waits for it any more; it may come to its end."""
        if self._task is not None and not self._task.done():
            timer = asyncio.get_running_loop().call_later(within_s, self._task.cancel)
            self._task.add_done_callback(lambda _: timer.cancel())  # most end at once; timers would pile up

    def end(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self, event: dict[str, Any]) -> Any:
        with metrics.WEB_CALLS.track_inprogress():
            return await self._serve(event)

    async def _serve(self, event: dict[str, Any]) -> Any:
        async with self._state.client.holding(self._caller.workspace) as sender:
            return await self._state.peer.call(
                self._provider,
                self._method,
                event,
                sender=sender,
                workspace=self._caller.workspace,
                user=self._caller.user,
                timeout=SILENCE_S,
                decode=False,
                on_open=self._opened,
            )

    def _opened(self, call: OutgoingCall) -> None:
        self._call = call

    def _alive(self) -> None:
        """Whoever sends events is there, also where it sends no heartbeats."""
        if self._call is not None:
            self._call.heartbeat()


def outcome(task: asyncio.Task[Any]) -> HyphaError | None:
    """Return why a finished call failed, if it did."""
    if task.cancelled():
        return None
    error = task.exception()
    if error is None or isinstance(error, HyphaError):
        return error
    raise error
