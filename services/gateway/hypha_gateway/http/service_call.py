from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from hypha_common.errors import HyphaError
from hypha_common.ids import Address
from hypha_common.service_tree import Leaf

from .arguments import Arguments, body_arguments, query_arguments, query_parameters, request_media, response_media
from .caller import caller_in, known_to
from .denials import note_denial
from .errors import describe_failure
from .lookup import Attentive, find
from .openapi import Answer, Body, Operation, Parameter, describes
from .remote import MANAGER, MANAGER_NAMES, RemoteCaller
from .request_body import BodyLimits, body_limits, read_body
from .responses import Receive, Scope, Send, encode, send_body, send_error
from .streaming import is_generator, send_stream
from .workspaces import MODE

if TYPE_CHECKING:
    from hypha_gateway.state import GatewayState

__all__ = ["ServiceCalls", "answer_call"]

_BINARY = {"type": "string", "contentMediaType": "application/msgpack"}
_PLAIN = {"type": ["string", "number"]}


_REMOTE_FAILURES = {
    404: Answer.error("There is no such workspace, service or function, or the function found something missing"),
    406: Answer.error("JSON cannot express the result; ask for msgpack"),
    500: Answer.error("The function failed"),
    501: Answer.error("The service is of a kind that is not served"),
    504: Answer.error("The client that offers the service does not answer"),
}
_RESULT = {
    200: Answer(
        "The result. A generator's items come one by one: as events of JSON, ended by `[DONE]`, or as msgpack values",
        {"application/json": {}, "application/msgpack": _BINARY, "text/event-stream": {"type": "string"}},
    )
}
_CALL = Operation(
    "Call a function of a service",
    {**_RESULT, **_REMOTE_FAILURES},
    description=(
        "Fields of the query are its arguments: numbers where they look like one, maps where they begin with `{`, "
        "else text. A header `Content-Type: application/msgpack` asks for the result in that format. The app of a "
        "service `name@application` is started first, if it does not run."
    ),
    parameters=(
        Parameter(
            "arguments", "the arguments, each a field of its own", {"type": "object", "additionalProperties": _PLAIN}
        ),
        MODE,
    ),
    token=True,
)
_CALL_WITH_BODY = Operation(
    "Call a function of a service",
    {**_RESULT, **_REMOTE_FAILURES},
    description="The result comes in the format of the body.",
    parameters=(MODE,),
    body=Body(
        "A map of arguments by name, or a list of them; no body, no arguments. It may be compressed with gzip",
        {"application/json": {"examples": [{"name": "world"}]}, "application/msgpack": _BINARY},
    ),
    token=True,
)


@describes(_CALL, post=_CALL_WITH_BODY)
class ServiceCalls:
    """The endpoint of service calls: plain ASGI, for speed."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state: GatewayState = scope["app"].state.gateway
        names = scope["path_params"]
        await answer_call(state, names["workspace"], names["service"], names["keys"], scope, receive, send)


async def answer_call(
    state: GatewayState, workspace: str, service_id: str, name: str, scope: Scope, receive: Receive, send: Send
) -> None:
    """Answer ``GET|POST /{workspace}/services/{service_id}/{name}`` (contract 01 §5.4)."""
    receive = Attentive(receive)
    headers = dict(scope["headers"])
    media = response_media(headers.get(b"content-type"), headers.get(b"accept"))
    try:
        parameters = query_parameters(scope["query_string"])
        arguments = await _arguments(scope, receive, headers, parameters, body_limits(state.settings))
        caller = await caller_in(state, scope, workspace)
    except HyphaError as error:
        note_denial(state, scope, error)
        await send_error(send, error)
        return
    try:
        remote = await RemoteCaller.open(state, caller)
        remote.receive = receive
        if service_id in MANAGER_NAMES:
            provider = MANAGER
            result = await remote.manager(name, arguments)
        else:
            mode = parameters.get("_mode")
            found = await find(state, caller, workspace, service_id, mode, receive, function=name)
            provider = Address.parse(found["client"])
            remote.caller = known_to(provider, caller, scope)
            result = await remote.function(provider, found["service"], Leaf(found["leaf"]), name, arguments)
    except HyphaError as error:
        note_denial(state, scope, error)
        status, detail = describe_failure(error, detailed=state.settings.expose_detailed_errors)
        await send_error(send, error, status=status, detail=detail)
        return
    if is_generator(result):
        await send_stream(
            remote.items(provider, result), media, receive, send, detailed=state.settings.expose_detailed_errors
        )
        return
    try:
        encoded = encode(result, media)
    except HyphaError as error:
        await send_error(send, error)
        return
    await send_body(send, 200, encoded, media.value)


async def _arguments(
    scope: Scope, receive: Receive, headers: Mapping[bytes, bytes], parameters: dict[str, str], limits: BodyLimits
) -> Arguments:
    if scope["method"] != "POST":
        return query_arguments(parameters)
    body = await read_body(receive, headers, limits)
    return body_arguments(body, request_media(headers.get(b"content-type")))
