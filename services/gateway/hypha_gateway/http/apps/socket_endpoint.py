from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

from hypha_common.errors import DeadlineExceeded, HyphaError, PeerNotFound, Unavailable
from hypha_common.ids import Address
from hypha_gateway.http.arguments import query_parameters
from hypha_gateway.http.caller import caller_in, caller_inside, known_to
from hypha_gateway.http.lookup import Attentive, find
from hypha_gateway.http.responses import Receive, Scope, Send

from .app_call import AppCall, outcome
from .faults import AppFault, ClientGone
from .plain import PlainAnswer, failure
from .scope import app_scope
from .socket_answer import SocketAnswer, refuse
from .socket_events import End, SocketEvents
from .socket_identity import identify_socket
from .target import Target

if TYPE_CHECKING:
    from hypha_gateway.state import GatewayState

__all__ = ["SocketEndpoint"]

_ACCEPT_S = 60.0
_AFTER_HANG_UP_S = 10.0
_RESTART, _ERROR = 1012, 1011


class SocketEndpoint:
    """The endpoint of websockets to services of type ``asgi``: ``/{workspace}/apps/{service}/{path}``."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state: GatewayState = scope["app"].state.gateway
        receive = Attentive(receive)
        can_explain = "websocket.http.response" in (scope.get("extensions") or {})
        try:
            target = await _find(state, scope, receive)
        except HyphaError as error:
            await refuse(send, failure(state, scope, error), can_explain=can_explain)
            return
        await _Exchange(state, target, scope, receive, send, can_explain=can_explain).run()


async def _find(state: GatewayState, scope: Scope, receive: Attentive) -> Target:
    """Return the service of a websocket; who may use it is decided as for HTTP."""
    if state.draining:
        raise Unavailable("This server is about to stop, please connect again")
    names = scope["path_params"]
    workspace, service_id = names["workspace"], names["service"]
    await identify_socket(state, scope)
    inside = await caller_inside(state, scope, workspace)
    acting = await caller_in(state, scope, workspace)
    mode = query_parameters(scope["query_string"]).get("_mode")
    found = await find(state, acting, workspace, service_id, mode, receive)
    if str(found.get("type")).lower() != "asgi":
        raise AppFault(f"Invalid service type for websockets: {found.get('type')}")
    provider = Address.parse(found["client"])
    return Target(provider, found["service"], known_to(provider, inside, scope), "/" + names["path"])


class _Exchange:
    """One websocket from the call of its service to its end."""

    def __init__(
        self,
        state: GatewayState,
        target: Target,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        can_explain: bool,
    ) -> None:
        self._state = state
        self._scope = scope
        self._target = target
        self._raw_send = send
        self._can_explain = can_explain
        self._events = SocketEvents(receive, max_message_bytes=state.settings.max_message_bytes)
        self._answer = SocketAnswer(
            send,
            room=state.web_apps.room,
            subprotocols=scope.get("subprotocols") or (),
            can_explain=can_explain,
        )
        self._call = AppCall(state, target.caller, target.provider, target.service)

    async def run(self) -> None:
        """Serve until the client leaves, or the service ends it or is no longer there."""
        loop = asyncio.get_running_loop()
        base_path = self._state.settings.base_path.rstrip("/")
        told = app_scope(self._scope, self._target.path, self._target.provider, base_path=base_path)
        reading = loop.create_task(self._events.read())
        serving = self._call.start(told, self._events.next, self._answer.send)
        others = (loop.create_task(self._too_late()), loop.create_task(self._leave()))
        try:
            done = {reading, serving, self._answer.over, *others}
            await asyncio.wait(done, return_when=asyncio.FIRST_COMPLETED)
            if serving.done() and not reading.done():
                await self._answer.settled()  # what it sent last is on its way
            await self._end(reading, serving, *others)
        finally:
            for task in (reading, *others):
                task.cancel()
            self._call.let_end(_AFTER_HANG_UP_S)

    async def _end(
        self,
        reading: asyncio.Task[End],
        serving: asyncio.Task[Any],
        late: asyncio.Task[None],
        leaving: asyncio.Task[None],
    ) -> None:
        over = self._answer.over
        if over.done() and over.exception() is None:
            self._events.end(over.result())
            return
        if reading.done():
            end = reading.result()
            if end.code == 1009 and self._answer.accepted.is_set():
                await self._close(end)
            self._answer.gone()
            return
        error: HyphaError | None
        if over.done():
            failed = over.exception()
            error = failed if isinstance(failed, HyphaError) else None
        elif late.done():
            error = DeadlineExceeded("The service neither accepts nor denies the websocket")
        elif leaving.done():
            error = Unavailable("Server is shutting down")
        else:
            error = outcome(serving)
            if error is None and not self._answer.accepted.is_set():
                error = AppFault("the service has ended without accepting the websocket")
        await self._fail(error)

    async def _fail(self, error: HyphaError | None) -> None:
        end = _end_of(error)
        accepted, denied = self._answer.accepted.is_set(), self._answer.denied
        self._events.end(end)
        if accepted:
            await self._close(end)
        elif not denied and error is not None and not isinstance(error, ClientGone):
            answer: PlainAnswer = failure(self._state, self._scope, error)
            await refuse(self._raw_send, answer, can_explain=self._can_explain)
        self._answer.gone()

    async def _close(self, end: End) -> None:
        try:
            await self._answer.close(end)
        except ClientGone:
            return

    async def _too_late(self) -> None:
        """A service that does not decide keeps its client waiting, but not for ever."""
        try:
            async with asyncio.timeout(_ACCEPT_S):
                await self._answer.accepted.wait()
        except TimeoutError:
            return
        await asyncio.Event().wait()

    async def _leave(self) -> None:
        """Clients of a gateway that stops come back elsewhere, not all at once."""
        await self._state.web_apps.leaving.wait()
        await asyncio.sleep(random.uniform(0, self._state.settings.drain_window / 2))


def _end_of(error: HyphaError | None) -> End:
    """Return how a websocket is closed for what its service did."""
    if error is None:
        return End(1000)
    if isinstance(error, (PeerNotFound, Unavailable)):
        return End(_RESTART, error.message)
    if isinstance(error, AppFault):
        return End(_ERROR, f"Internal Server Error: {error.message}")
    return End(_ERROR, "Internal Server Error")
