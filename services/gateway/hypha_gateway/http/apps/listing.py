from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from hypha_common.errors import HyphaError, NotFound
from hypha_common.ids import PUBLIC_WORKSPACE, Address
from hypha_common.principal import Permission, authorize
from hypha_common.rpc.remote import RemoteError
from hypha_gateway.http.arguments import Arguments, Media
from hypha_gateway.http.caller import caller_in, caller_inside
from hypha_gateway.http.denials import note_denial
from hypha_gateway.http.errors import last_error
from hypha_gateway.http.openapi import Answer, Operation, describes
from hypha_gateway.http.remote import RemoteCaller, resolve
from hypha_gateway.http.responses import encode_json, error_body

if TYPE_CHECKING:
    from hypha_gateway.state import GatewayState

__all__ = ["list_apps"]

_SERVICE = "server-apps"


@describes(
    Operation(
        "The apps of a workspace",
        {
            200: Answer.json("Their manifests", {"type": "array", "items": {"type": "object"}}),
            404: Answer.error("The caller may not see them, or this server runs no apps"),
        },
        tag="apps",
        token=True,
    )
)
async def list_apps(request: Request) -> Response:
    """``GET /{workspace}/apps`` (contract 03 §1.13): whatever is in the way, there is nothing here."""
    state: GatewayState = request.app.state.gateway
    workspace = request.path_params["workspace"]
    try:
        body = encode_json(await _apps_of(state, request, workspace))
    except HyphaError as error:
        note_denial(state, request.scope, error)
        text = last_error(error.text) if isinstance(error, RemoteError) else error.message
        return _json(404, error_body(NotFound(text)))
    return _json(200, body)


async def _apps_of(state: GatewayState, request: Request, workspace: str) -> object:
    caller = await caller_in(state, request.scope, workspace)
    if caller.workspace != workspace:  # a token that is bound elsewhere, or nobody's
        if workspace != PUBLIC_WORKSPACE:
            authorize(caller.principal, Permission.READ, workspace)
        caller = await caller_inside(state, request.scope, workspace)
    try:
        found = await resolve(state, caller, PUBLIC_WORKSPACE, _SERVICE, None)
    except NotFound:
        raise NotFound("This server runs no apps") from None
    remote = await RemoteCaller.open(state, caller)
    return await remote.call(Address.parse(found["client"]), f"services.{found['service']}.list_apps", Arguments())


def _json(status: int, body: bytes) -> Response:
    return Response(body, status, headers={"Content-Type": Media.JSON.value.decode()})
