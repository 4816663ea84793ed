from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypha_common.errors import BadRequest, HyphaError, InternalError, NotAcceptable, NotFound, PermissionDenied
from hypha_common.ids import Address
from hypha_common.principal import Permission, authorize
from hypha_common.rpc.remote import RemoteError
from hypha_common.service_tree import Leaf
from hypha_common.wire import split_frame
from hypha_gateway.http.arguments import Arguments
from hypha_gateway.http.caller import caller_in
from hypha_gateway.http.errors import FunctionNotFound, describe_failure
from hypha_gateway.http.remote import RemoteCaller, resolve
from hypha_gateway.http.responses import Scope, encode_json
from hypha_gateway.http.streaming import is_generator

if TYPE_CHECKING:
    from hypha_gateway.state import GatewayState

__all__ = ["answer_stateless"]


async def answer_stateless(state: GatewayState, scope: Scope, client: Address, body: bytes) -> bytes:
    """
    Call a service for somebody who has no stream, and return the JSON of the answer (contract 01 §1.13).

    The body is one map: ``{"type": "method", "to": "CLIENT:SERVICE", "method", "args", "kwargs"}``. Raises BadRequest,
    PermissionDenied, NotFound or InternalError.

    """
    message, _ = split_frame(body)
    workspace, service_id, name, arguments = _parse(message, client)
    caller = await caller_in(state, scope, client.workspace)
    authorize(caller.principal, Permission.READ_WRITE, client.workspace)
    try:
        found = await resolve(state, caller, workspace, service_id, None, function=name)
        remote = await RemoteCaller.open(state, caller)
        provider = Address.parse(found["client"])
        result = await remote.function(provider, found["service"], Leaf(found["leaf"]), name, arguments)
    except FunctionNotFound:
        raise NotFound(f"Method '{name}' not found") from None
    except RemoteError as error:
        status, detail = describe_failure(error, detailed=state.settings.expose_detailed_errors)
        raise (PermissionDenied if status == PermissionDenied.status else InternalError)(detail) from None
    except HyphaError as error:
        error.message = describe_failure(error)[1]
        raise
    if is_generator(result):
        raise NotAcceptable("The method returns a generator, which needs a stream")
    return b'{"success":true,"result":' + encode_json(result) + b"}"


def _parse(message: dict[str, Any], client: Address) -> tuple[str, str, str, Arguments]:
    """Return workspace and id of the service, the method and its arguments. Raises BadRequest."""
    if message.get("type") != "method":
        raise BadRequest("Stateless calls require type='method'")
    target, name = message.get("to"), message.get("method")
    if not isinstance(target, str) or target.count("/") > 1:
        raise BadRequest(f"Invalid target: {target!r:.128}; it must be like 'client:service'")
    workspace, slash, service_id = target.rpartition("/")
    provider, _, service = service_id.partition(":")
    if not provider or not service or (slash and not workspace):
        # Most likely a frame of a client whose stream has just ended; it tries again.
        raise BadRequest(f"No stream is open for client {client}, and {target!r:.128} is no service to call without")
    if not isinstance(name, str) or not name:
        raise BadRequest("method is required")
    args, kwargs = message.get("args") or [], message.get("kwargs") or {}
    if not isinstance(args, list) or not isinstance(kwargs, dict) or not all(isinstance(key, str) for key in kwargs):
        raise BadRequest("args must be a list and kwargs a map")
    return workspace or client.workspace, service_id, name, Arguments(args=args, kwargs=kwargs)
