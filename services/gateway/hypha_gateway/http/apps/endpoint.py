from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from hypha_common.errors import HyphaError, Unauthorized
from hypha_common.ids import PUBLIC_WORKSPACE, Address
from hypha_gateway.http.caller import Caller, caller_in, caller_inside, known_to, without_token
from hypha_gateway.http.lookup import Attentive, find
from hypha_gateway.http.openapi import ANY_STATUS, Answer, Body, Operation, Parameter, describes
from hypha_gateway.http.responses import Receive, Scope, Send, discard

from .asgi import answer_asgi
from .functions import answer_function
from .plain import PlainAnswer, failure
from .target import Target

if TYPE_CHECKING:
    from hypha_gateway.state import GatewayState

__all__ = ["METHODS", "AppEndpoint", "acting_inside"]

METHODS = ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"]

_LOGIN = "hypha-login"
_REFUSALS = (400, 401, 403, 404, 408, 413, 415, 429, 503)
_REFUSED = Answer("What the service answers, or the reason of this server", {"*/*": {}, "application/json": {}})


@describes(
    Operation(
        "A client's web service",
        {ANY_STATUS: Answer("What the service answers", {"*/*": {}}), **dict.fromkeys(_REFUSALS, _REFUSED)},
        description=(
            "A service of type `asgi` is given the request as an ASGI application is, and both bodies flow as they "
            "come. Of one of type `functions` the path names the function that answers, else `default`. A service "
            "`name@application` of an app that does not run is started first."
        ),
        parameters=(Parameter("_mode", "which of several services that match"),),
        body=Body("Whatever the service takes", {"*/*": {}}),
        tag="apps",
        token=True,
    )
)
class AppEndpoint:
    """The endpoint of web services: plain ASGI, because nothing is held in memory whole."""

    def __init__(self, service: str | None = None) -> None:
        self._service = service  # where the path does not name it

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state: GatewayState = scope["app"].state.gateway
        if self._service is not None:
            scope["path_params"] = {**scope["path_params"], "service": self._service}
        names = scope["path_params"]
        receive = Attentive(receive)
        request = Request(scope, receive)
        inside = await acting_inside(state, scope, names["workspace"], names["service"])
        try:
            acting = await caller_in(state, scope, names["workspace"])
            mode = request.query_params.get("_mode")
            found = await find(state, acting, names["workspace"], names["service"], mode, receive)
            kind = str(found.get("type"))
            provider = Address.parse(found["client"])
            caller = known_to(provider, inside, scope)
            target = Target(provider, found["service"], caller, "/" + names["path"])
            if kind.lower() == "asgi":
                await answer_asgi(state, target, scope, receive, send)
                return
            if kind == "functions":
                answer = await answer_function(state, target, found, request)
                if isinstance(answer, Response):
                    await answer(scope, receive, send)
                    return
                refused = answer
            else:
                refused = PlainAnswer(500, f"Invalid service type: {kind}")
        except HyphaError as error:
            refused = failure(state, scope, error)
        await _refuse(refused, scope, receive, send)


async def acting_inside(state: GatewayState, scope: Scope, workspace: str, service_id: str) -> Caller:
    """Return who calls a web service: somebody inside its workspace, with no more rights than the token gives."""
    try:
        return await caller_inside(state, scope, workspace)
    except Unauthorized:
        if workspace != PUBLIC_WORKSPACE or service_id.rpartition(":")[2] != _LOGIN:
            raise
        # A browser sends its cookie until somebody takes it away, and this is where that happens.
        without_token(scope)
        return await caller_inside(state, scope, workspace)


async def _refuse(answer: PlainAnswer, scope: Scope, receive: Receive, send: Send) -> None:
    headers = dict(scope["headers"])
    has_body = headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
    closing = [(b"connection", b"close")] if has_body else []
    await send({"type": "http.response.start", "status": answer.status, "headers": [*answer.headers, *closing]})
    await send({"type": "http.response.body", "body": answer.body, "more_body": True})
    if has_body:
        await discard(receive)
    await send({"type": "http.response.body", "body": b""})
