from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException

from hypha_common.errors import HyphaError
from hypha_gateway.http.arguments import query_parameters
from hypha_gateway.http.denials import note_denial
from hypha_gateway.http.openapi import Answer, Body, Operation, Parameter, describes
from hypha_gateway.http.responses import Receive, Scope, Send, send_error

from .opening import open_stream
from .posting import take_post

if TYPE_CHECKING:
    from hypha_gateway.gateway import Gateway

__all__ = ["RpcEndpoint"]

_FRAMES = {"type": "string", "contentMediaType": "application/msgpack"}
_CLIENT_ID = Parameter("client_id", "id of the client in its workspace")
_WORKSPACE = Parameter("workspace", "workspace of the client; by default the one of its token, else its own")
_RECONNECTION = Parameter("reconnection_token", "token of an earlier stream of this client")
_REFUSED = {
    404: Answer.error("There is no such workspace, client or method"),
    409: Answer.error("The client id is in use"),
    500: Answer.error("The function that was called failed"),
    504: Answer.error("Who was called does not answer"),
}
_STREAM = Operation(
    "Connect as a client, without a websocket",
    {200: Answer("Frames, each after its length in 4 bytes", {"application/x-msgpack-stream": _FRAMES}), **_REFUSED},
    description="What `hypha-rpc` does for `transport: http`. The stream lasts as long as the client is connected.",
    parameters=(_CLIENT_ID, _WORKSPACE, _RECONNECTION),
    tag="rpc",
    token=True,
)
_SEND = Operation(
    "Send a frame as a client that is connected, or call a function without being connected",
    {
        200: Answer("Nothing, or `{success, result}` of a call without a stream", {"application/json": {}}),
        **_REFUSED,
    },
    parameters=(_CLIENT_ID, _WORKSPACE, _RECONNECTION),
    body=Body("A frame, or a control message", {"application/msgpack": _FRAMES}),
    tag="rpc",
    token=True,
)


@describes(_STREAM, post=_SEND)
class RpcEndpoint:
    """``/rpc``: GET opens a client's stream, POST brings what the client sends (contract 01 §1.13)."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gateway: Gateway = scope["app"].state.owner
        if scope["method"] not in ("GET", "POST"):
            raise HTTPException(405, headers={"Allow": "GET, POST"})
        try:
            query = query_parameters(scope["query_string"])
            if scope["method"] == "POST":
                await take_post(gateway, scope, query, receive, send)
                return
            stream = await open_stream(gateway, scope, query)
        except HyphaError as error:
            if scope["method"] == "POST":  # of streams the handshake has written it down
                note_denial(gateway.state, scope, error)
            await send_error(send, error)
            return
        await stream.run(receive, send)
