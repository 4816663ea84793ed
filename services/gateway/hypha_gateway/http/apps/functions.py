from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from hypha_common.errors import HyphaError
from hypha_common.ids import Address
from hypha_common.service_tree import Leaf, find_in_schema, find_in_service, is_function
from hypha_gateway.http.arguments import Arguments
from hypha_gateway.http.errors import last_error
from hypha_gateway.http.remote import RemoteCaller
from hypha_gateway.http.request_body import body_limits, read_body

from .faults import AppFault
from .headers import checked, for_app
from .plain import PlainAnswer, failure
from .scope import common_scope
from .target import Target

if TYPE_CHECKING:
    from hypha_gateway.state import GatewayState

__all__ = ["answer_function"]

_OURS = frozenset({b"connection", b"content-length", b"keep-alive", b"transfer-encoding", b"upgrade"})


async def answer_function(
    state: GatewayState, target: Target, found: Mapping[str, Any], request: Request
) -> Response | PlainAnswer:
    """
    Answer one request by a service of type ``functions`` (contract 03 §4.3).

    A PlainAnswer, or the HyphaError that is raised where the service cannot be asked, comes before the body is read.

    """
    remote = await RemoteCaller.open(state, target.caller)
    function = await _find_function(remote, found, target.path)
    if function is None:
        return PlainAnswer(404, f"Function not found: {target.path.strip('/')}")
    headers = dict(request.scope["headers"])
    # As it was sent: the function is told of the encoding as well.
    try:
        body = await read_body(request.receive, headers, body_limits(state.settings), inflate=False)
    except HyphaError as error:
        return _response_of(failure(state, request.scope, error))
    event = _event(state, request, target, body or None)
    if function == "default":
        event["function_path"] = target.path
    remote.receive = request.receive
    try:
        reply = await remote.call(target.provider, f"services.{target.service}.{function}", Arguments(args=[event]))
        return _response(reply, request)
    except AppFault as error:
        return _response_of(failure(state, request.scope, error))
    except HyphaError as error:
        text = last_error(getattr(error, "text", "") or error.rpc_text())
        return _response_of(PlainAnswer(500, f"Internal Server Error: {text}"))


async def _find_function(remote: RemoteCaller, found: Mapping[str, Any], path: str) -> str | None:
    """Return the dotted name of the function that answers ``path``."""
    parts = [part for part in path.split("/") if part]
    names = [".".join(parts) or "index", "default"]
    if len(parts) >= 2:
        names.insert(1, f"{names[0]}.index")
    schema = found.get("service_schema")
    if schema:
        return next((name for name in names if find_in_schema(schema, name) is Leaf.FUNCTION), None)
    tree = await remote.service(Address.parse(found["client"]), found["service"])
    return next((name for name in names if is_function(find_in_service(tree, name)[1])), None)


def _event(state: GatewayState, request: Request, target: Target, body: bytes | None) -> dict[str, Any]:
    scope = request.scope
    event = common_scope(scope, target.path, base_path=state.settings.base_path.rstrip("/"))
    return {
        **event,
        "method": scope["method"],
        "raw_path": event["raw_path"].decode("latin-1"),
        "query_string": scope["query_string"].decode("latin-1"),
        "headers": {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in for_app(scope["headers"], target.provider)
        },
        "body": body,
        "user": target.caller.user,
    }


def _response(reply: Any, request: Request) -> Response:
    """Turn ``{status, headers, body}`` into an answer. Raises AppFault."""
    if not isinstance(reply, dict) or "_rtype" in reply:
        raise AppFault(f"a function must return a map with status, headers and body, not {type(reply).__name__}")
    status, headers, body = reply.get("status", 200), reply.get("headers") or {}, reply.get("body")
    if isinstance(status, bool) or not isinstance(status, int) or not 200 <= status <= 599:
        raise AppFault(f"invalid status {status!r}")
    if not isinstance(headers, dict):
        raise AppFault("headers must be a map")
    if isinstance(body, dict) and body.get("_rtype") == "memoryview":
        body = body.get("_rvalue")
    if body is not None and not isinstance(body, (str, bytes)):
        raise AppFault(f"the body must be text or bytes, not {type(body).__name__}")
    response = Response(None if status in (204, 304) else body, status)
    forced = _cors_headers(request)
    for name, value in headers.items():
        for item in value if isinstance(value, list) else [value]:
            raw_name, raw_value = checked(name, item if isinstance(item, bytes) else str(item))
            if raw_name not in _OURS and raw_name not in forced:
                response.raw_headers.append((raw_name, raw_value))
    response.raw_headers.extend(forced.items())
    return response


def _cors_headers(request: Request) -> dict[bytes, bytes]:
    origin = next((value for name, value in request.scope["headers"] if name == b"origin"), b"")
    return {
        b"access-control-allow-origin": origin or b"*",
        b"access-control-allow-credentials": b"true",
        b"access-control-allow-methods": b"GET,POST,PUT,DELETE,OPTIONS",
        b"access-control-allow-headers": b"Authorization,Content-Type",
        b"access-control-expose-headers": b"Content-Disposition",
    }


def _response_of(answer: PlainAnswer) -> Response:
    response = Response(answer.body, answer.status)
    response.raw_headers = answer.headers
    return response
