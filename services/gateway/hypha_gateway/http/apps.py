from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from hypha_common.errors import HyphaError, Unauthorized
from hypha_common.ids import PUBLIC_WORKSPACE, Address
from hypha_common.service_tree import Leaf, find_in_schema, find_in_service, is_function

from .arguments import Arguments
from .caller import Caller, caller_in, caller_inside, known_to, without_token
from .denials import note_denial
from .errors import describe_failure, last_error
from .openapi import ANY_STATUS, Answer, Body, Operation, Parameter, describes
from .remote import RemoteCaller, resolve
from .request_body import body_limits, read_body
from .responses import Scope

if TYPE_CHECKING:
    from hypha_gateway.state import GatewayState

__all__ = ["METHODS", "app"]

METHODS = ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"]

_LOGIN = "hypha-login"
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[^\x00\r\n]*")
_OURS = frozenset({"connection", "content-length", "keep-alive", "transfer-encoding", "upgrade"})  # the server's own


_REFUSALS = (400, 401, 403, 404, 408, 413, 415, 429, 503)
_REFUSED = Answer("What the service answers, or the reason of this server", {"*/*": {}, "application/json": {}})


@describes(
    Operation(
        "A client's web service",
        {ANY_STATUS: Answer("What the service answers", {"*/*": {}}), **dict.fromkeys(_REFUSALS, _REFUSED)},
        description="Every method is passed on: to the function that the path names, else to `default`.",
        parameters=(Parameter("_mode", "which of several services that match"),),
        body=Body("Whatever the service takes", {"*/*": {}}),
        tag="apps",
        token=True,
    )
)
async def app(request: Request) -> Response:
    """Answer ``/{workspace}/apps/{service_id}/{path}`` by a client's web service (contract 01 §5.6, 03 §4)."""
    state: GatewayState = request.app.state.gateway
    name, service_id = request.path_params["workspace"], request.path_params["service"]
    inside = await _inside(state, request, name, service_id)
    try:
        acting = await caller_in(state, request.scope, name)
        found = await resolve(state, acting, name, service_id, request.query_params.get("_mode"))
        kind = str(found.get("type"))
        if kind.lower() == "asgi":
            return _text(501, "Services of type asgi are not served by this server; type functions is")
        if kind != "functions":
            return _text(500, f"Invalid service type: {kind}")
        provider = Address.parse(found["client"])
        remote = await RemoteCaller.open(state, known_to(provider, inside, request.scope))
        path = "/" + request.path_params["path"]
        function = await _find_function(remote, found, path)
    except HyphaError as error:
        note_denial(state, request.scope, error)
        status, detail = describe_failure(error, detailed=state.settings.expose_detailed_errors)
        return _text(status, detail)
    if function is None:
        return _text(404, f"Function not found: {path.strip('/')}")
    headers = dict(request.scope["headers"])
    # As it was sent: the function is told of the encoding as well.
    body = await read_body(request.receive, headers, body_limits(state.settings), inflate=False)
    event = _event(request, path, body or None, user=inside.user)
    if function == "default":
        event["function_path"] = path
    return await _reply(remote, provider, f"services.{found['service']}.{function}", event, request)


async def _inside(state: GatewayState, request: Request, name: str, service_id: str) -> Caller:
    try:
        return await caller_inside(state, request.scope, name)
    except Unauthorized:
        if name != PUBLIC_WORKSPACE or service_id.rpartition(":")[2] != _LOGIN:
            raise
        # A browser sends its cookie until somebody takes it away, and this is where that happens.
        without_token(request.scope)
        return await caller_inside(state, request.scope, name)


async def _reply(
    remote: RemoteCaller, provider: Address, method: str, event: dict[str, Any], request: Request
) -> Response:
    try:
        return _response(await remote.call(provider, method, Arguments(args=[event])), request)
    except HyphaError as error:
        return _text(500, f"Internal Server Error: {last_error(getattr(error, 'text', '') or error.rpc_text())}")
    except BadReplyError as error:
        return _text(500, f"Internal Server Error: {error}")


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


def _event(request: Request, path: str, body: bytes | None, *, user: dict[str, Any]) -> dict[str, Any]:
    scope = request.scope
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": scope.get("http_version", "1.1"),
        "server": list(scope["server"]) if scope.get("server") else None,
        "client": list(scope["client"]) if scope.get("client") else None,
        "scheme": scope.get("scheme", "http"),
        "method": scope["method"],
        "root_path": "",
        "path": path,
        "raw_path": _raw_remainder(scope) or path,
        "query_string": scope["query_string"].decode("latin-1"),
        "headers": {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]},
        "state": {},
        "body": body,
        "workspace": request.path_params["workspace"],
        "service_id": request.path_params["service"],
        "user": user,
    }


def _raw_remainder(scope: Scope) -> str:
    """Return the path after the service id as the client wrote it, before percent-decoding."""
    raw: bytes = scope.get("raw_path") or b""
    _, _, tail = raw.partition(b"?")[0].partition(b"/apps/")
    return "/" + tail.partition(b"/")[2].decode("latin-1") if tail else ""


class BadReplyError(ValueError):
    """What a function returned is no HTTP answer."""


def _response(reply: Any, request: Request) -> Response:
    """Turn ``{status, headers, body}`` into an answer. Raises BadReplyError."""
    if not isinstance(reply, dict) or "_rtype" in reply:
        raise BadReplyError(f"a function must return a map with status, headers and body, not {type(reply).__name__}")
    status, headers, body = reply.get("status", 200), reply.get("headers") or {}, reply.get("body")
    if isinstance(status, bool) or not isinstance(status, int) or not 200 <= status <= 599:
        raise BadReplyError(f"invalid status {status!r}")
    if not isinstance(headers, dict):
        raise BadReplyError("headers must be a map")
    if isinstance(body, dict) and body.get("_rtype") == "memoryview":
        body = body.get("_rvalue")
    if body is not None and not isinstance(body, (str, bytes)):
        raise BadReplyError(f"the body must be text or bytes, not {type(body).__name__}")
    response = Response(None if status in (204, 304) else body, status)
    forced = _cors_headers(request)
    for name, value in headers.items():
        lower = str(name).lower()
        if lower not in _OURS and lower not in forced:
            _add_header(response, lower, value)
    for name, value in forced.items():
        response.headers[name] = value
    return response


def _add_header(response: Response, name: str, value: Any) -> None:
    for item in value if isinstance(value, list) else [value]:
        text = str(item)
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(text) or not _is_latin(text):
            raise BadReplyError(f"invalid header {name[:64]!r}")
        response.raw_headers.append((name.encode("latin-1"), text.strip().encode("latin-1")))


def _is_latin(text: str) -> bool:
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return True


def _cors_headers(request: Request) -> dict[str, str]:
    return {
        "access-control-allow-origin": request.headers.get("origin") or "*",
        "access-control-allow-credentials": "true",
        "access-control-allow-methods": "GET,POST,PUT,DELETE,OPTIONS",
        "access-control-allow-headers": "Authorization,Content-Type",
        "access-control-expose-headers": "Content-Disposition",
    }


def _text(status: int, text: str) -> Response:
    return Response(text, status, media_type="text/plain")
