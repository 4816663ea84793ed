from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from hypha_common.errors import BadRequest, HyphaError, PayloadTooLarge, UnsupportedMediaType
from hypha_common.ids import Address
from hypha_common.service_tree import Leaf

from .arguments import Arguments, body_arguments, query_arguments, query_parameters, request_media, response_media
from .caller import caller_in
from .denials import note_denial
from .errors import describe_failure
from .remote import MANAGER, MANAGER_NAMES, RemoteCaller, resolve
from .responses import Receive, Scope, Send, discard, encode, send_body, send_error
from .streaming import is_generator, send_stream

if TYPE_CHECKING:
    from hypha_gateway.state import GatewayState

__all__ = ["answer_call", "read_body"]


async def answer_call(
    state: GatewayState, workspace: str, service_id: str, name: str, scope: Scope, receive: Receive, send: Send
) -> None:
    """Answer ``GET|POST /{workspace}/services/{service_id}/{name}`` (contract 01 §5.4)."""
    headers = dict(scope["headers"])
    media = response_media(headers.get(b"content-type"), headers.get(b"accept"))
    try:
        parameters = query_parameters(scope["query_string"])
        arguments = await _arguments(scope, receive, headers, parameters, state.settings.max_message_bytes)
        caller = await caller_in(state, scope, workspace)
    except HyphaError as error:
        note_denial(state, scope, error)
        await send_error(send, error)
        return
    try:
        remote = await RemoteCaller.open(state, caller)
        if service_id in MANAGER_NAMES:
            provider = MANAGER
            result = await remote.manager(name, arguments)
        else:
            found = await resolve(state, caller, workspace, service_id, parameters.get("_mode"), function=name)
            provider = Address.parse(found["client"])
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
    scope: Scope, receive: Receive, headers: Mapping[bytes, bytes], parameters: dict[str, str], max_bytes: int
) -> Arguments:
    if scope["method"] != "POST":
        return query_arguments(parameters)
    body = await read_body(receive, headers, max_bytes)
    return body_arguments(body, request_media(headers.get(b"content-type")))


async def read_body(receive: Receive, headers: Mapping[bytes, bytes], max_bytes: int) -> bytes:
    """Return the whole body. Raises PayloadTooLarge beyond ``max_bytes``."""
    if headers.get(b"content-encoding", b"identity").strip().lower() not in (b"", b"identity"):
        raise UnsupportedMediaType("The body must not be compressed")
    pieces: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BadRequest("The request ended before its body")
        piece = message.get("body", b"")
        size += len(piece)
        if size > max_bytes:
            pieces.clear()
            if message.get("more_body"):
                await discard(receive)
            raise PayloadTooLarge(f"The request body is larger than {max_bytes} bytes")
        pieces.append(piece)
        more = message.get("more_body", False)
    return b"".join(pieces)
