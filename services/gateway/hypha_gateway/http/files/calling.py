from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote_to_bytes

from hypha_common.errors import BadRequest, NobodyServes, NotFound, Unavailable
from hypha_common.ids import PUBLIC_WORKSPACE
from hypha_common.plans import HttpCall, Plan, Reply, Stored, load_plan
from hypha_common.subjects import partition_of, role_verb
from hypha_gateway.addresses import is_proxy
from hypha_gateway.http.caller import anonymous_caller, caller_in
from hypha_gateway.http.request_body import BodyLimits, read_body

if TYPE_CHECKING:
    from hypha_gateway.state import GatewayState

    from .exchange import Exchange
    from .kinds import Kind

__all__ = ["ask", "call_of", "tell_stored"]

_ROLE = "artifacts"
_TIMEOUT_S = 10.0
_PATIENCE_S = 300.0  # while the store joins parts or copies: gigabytes, perhaps
_PASSED = (
    *("accept", "content-length", "content-type", "if-match", "if-modified-since", "if-none-match", "if-range"),
    *("if-unmodified-since", "range"),
)
_TOKEN = "token"
_HOST = re.compile(r"[\w.-]+(:\d+)?|\[[0-9A-Fa-f:.]+\](:\d+)?", re.ASCII)
_MAX_FIELDS = 1000
_ARTIFACTS = "artifacts"  # the first part of keys of artifacts' files; of all others it is the workspace


async def call_of(state: GatewayState, kind: Kind, exchange: Exchange) -> HttpCall:
    """Return the request as the artifacts service is to see it, its caller identified."""
    scope = exchange.scope
    raw_path: bytes = scope.get("raw_path", b"").partition(b"?")[0]
    raw_path = raw_path.removeprefix(state.settings.base_path.rstrip("/").encode())
    _check_encoding(raw_path)
    raw_query: bytes = scope["query_string"]
    query = _fields(raw_query)
    params = {name: str(value) for name, value in scope["path_params"].items()}
    caller = anonymous_caller()
    if not kind.signed:
        token = next((value for name, value in query if name == _TOKEN and value), None)
        token = token if kind.token_in_query else None
        caller = await caller_in(state, scope, params["workspace"], token=token, scopes=kind.scopes)
        query = [(name, value) for name, value in query if name != _TOKEN]
    return HttpCall(
        route=kind.name,
        method=exchange.method,
        params=params,
        query=query,
        headers=_headers(exchange, kind, raw_path, raw_query),
        user=caller.user,
        workspace=caller.workspace,
        base_url=_base_url(state, exchange),
        body=await _body(state, kind, exchange, params),
    )


async def ask(state: GatewayState, call: HttpCall) -> Plan:
    """Ask the artifacts service what to do. Raises what it raised, NotFound where this server keeps no files."""
    attempts = 2 if call.method in ("GET", "HEAD") else 1
    timeout_s = _PATIENCE_S if _moves_bytes(call) else _TIMEOUT_S
    return await _request(state, call, "http", call.dump(), attempts, timeout_s)


async def tell_stored(state: GatewayState, call: HttpCall, stored: Stored) -> Reply:
    """Tell the artifacts service that the store has a body, and return what it answers the client."""
    plan = await _request(state, call, "stored", stored.dump(), 2)  # writing it down twice does no harm
    if not isinstance(plan, Reply):
        raise Unavailable("The artifacts service answered with an unknown plan")
    return plan


def _moves_bytes(call: HttpCall) -> bool:
    """Tell whether the store may have much to do before this is answered."""
    joins = call.route.endswith("_complete_upload") or (call.method == "POST" and bool(call.first("uploadId")))
    return joins or "x-amz-copy-source" in call.headers


async def _request(
    state: GatewayState,
    call: HttpCall,
    verb: str,
    message: dict[str, object],
    attempts: int,
    timeout_s: float = _TIMEOUT_S,
) -> Plan:
    subject = role_verb(_ROLE, partition_of(_workspace_of(call)), verb)
    try:
        return load_plan(await state.bus.request(subject, message, timeout=timeout_s, attempts=attempts))
    except NobodyServes:
        if state.settings.disable_s3:
            raise NotFound("This server keeps no files") from None
        raise Unavailable("The service that keeps files is not available, please retry") from None


def _workspace_of(call: HttpCall) -> str:
    if "workspace" in call.params:
        return call.params["workspace"]
    first, _, rest = call.params.get("key", "").partition("/")
    return (rest.partition("/")[0] if first == _ARTIFACTS else first) or PUBLIC_WORKSPACE


def _check_encoding(raw_path: bytes) -> None:
    """What is no UTF-8 would become a replacement character, and two names one file."""
    try:
        unquote_to_bytes(raw_path).decode()
    except UnicodeDecodeError:
        raise BadRequest("The path is not UTF-8") from None


def _fields(raw_query: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(raw_query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise BadRequest("The query cannot be understood") from None


def _headers(exchange: Exchange, kind: Kind, raw_path: bytes, raw_query: bytes) -> dict[str, str]:
    """Return the headers that matter. Signatures are over path and query as they were sent, and redirects keep them."""
    names = exchange.headers if kind.signed else (name.encode() for name in _PASSED)
    found = {name.decode("latin-1"): exchange.headers[name] for name in names if name in exchange.headers}
    found |= {"x-hypha-raw-path": raw_path, "x-hypha-raw-query": raw_query}
    return {name: value.decode("latin-1") for name, value in found.items()}


def _base_url(state: GatewayState, exchange: Exchange) -> str:
    """Return how the caller reaches this server: what a proxy of ours says of the scheme is believed."""
    host = exchange.headers.get(b"host", b"").decode("latin-1")
    if not _HOST.fullmatch(host):
        return state.settings.public_base_url.rstrip("/")
    peer = exchange.scope.get("client")
    scheme = exchange.headers.get(b"x-forwarded-proto", b"").decode("latin-1")
    if scheme not in ("http", "https") or not is_proxy(peer[0] if peer else ""):
        scheme = exchange.scope.get("scheme", "http")
    return f"{scheme}://{host}{state.settings.base_path.rstrip('/')}"


async def _body(state: GatewayState, kind: Kind, exchange: Exchange, params: dict[str, str]) -> bytes:
    """Return the body, where it is for the artifacts service to read."""
    is_read = exchange.method == "POST" or (kind.signed and exchange.method == "PUT" and not params.get("key"))
    if not is_read:
        return b""
    limits = BodyLimits(kind.max_body_bytes, state.settings.http_body_timeout)
    try:
        return await read_body(exchange.receive, exchange.headers, limits, inflate=not kind.signed)
    finally:
        exchange.body.taken()  # what was too much of it, too
