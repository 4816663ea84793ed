from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hypha_common.errors import HyphaError, RequestTimeout
from hypha_gateway.http.files.exchange import CutError
from hypha_gateway.http.responses import Receive, Scope, Send

from .app_call import AppCall, outcome
from .faults import AppFault
from .plain import PlainAnswer, failure
from .request_events import RequestEvents
from .response import AppResponse
from .scope import app_scope
from .target import Target

if TYPE_CHECKING:
    from hypha_gateway.state import GatewayState

__all__ = ["answer_asgi"]

_AFTER_HANG_UP_S = 10.0


async def answer_asgi(state: GatewayState, target: Target, scope: Scope, receive: Receive, send: Send) -> None:
    """
    Answer one request by a service of type ``asgi`` (contract 03 §4.2).

    The service may take as long as it likes: it ends, or its client does, or it is no longer there.

    """
    request = RequestEvents(receive)
    response = AppResponse(send, request, room=state.web_apps.room, is_head=scope["method"] == "HEAD")
    call = AppCall(state, target.caller, target.provider, target.service)
    told = app_scope(scope, target.path, target.provider, base_path=state.settings.base_path.rstrip("/"))
    reading = asyncio.get_running_loop().create_task(request.read())
    serving = call.start(told, request.next, response.send)
    state.web_apps.keep(reading)  # to the end of the request, which may come after its answer
    try:
        await asyncio.wait((reading, serving, response.over), return_when=asyncio.FIRST_COMPLETED)
        if serving.done() and not reading.done():
            await response.settled()  # what it sent last is on its way
    except asyncio.CancelledError:
        call.end()
        reading.cancel()
        raise
    if response.is_complete:
        call.let_end()
        return
    error = _reason(reading, serving, response)
    response.gone()
    request.end()
    call.let_end(_AFTER_HANG_UP_S)
    if reading.done() and reading.result():
        return  # there is nobody to tell
    if response.started:
        _cut(scope)
    else:
        await _tell(failure(state, scope, error), request, send)


def _reason(reading: asyncio.Task[bool], serving: asyncio.Task[Any], response: AppResponse) -> HyphaError:
    """Return why there is no complete answer."""
    if response.over.done():
        error = response.over.exception()
        assert isinstance(error, HyphaError)
        return error
    if reading.done():
        return RequestTimeout("The request body came too slowly")
    return outcome(serving) or AppFault("the service has ended without a complete answer")


async def _tell(answer: PlainAnswer, request: RequestEvents, send: Send) -> None:
    headers = answer.headers if not request.is_pending else [*answer.headers, (b"connection", b"close")]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body, "more_body": True})
    with suppress(TimeoutError):
        await request.settle()
    await send({"type": "http.response.body", "body": b""})


def _cut(scope: Scope) -> None:
    """End the connection without ending the answer, so that nobody takes it for a whole one."""
    abort = scope.get("state", {}).get("hypha.abort")
    if abort is None:  # another server: it ends a connection whose answer is broken off by an error
        raise CutError("The answer was cut short")
    abort()
