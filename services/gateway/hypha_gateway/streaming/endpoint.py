from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from starlette.exceptions import HTTPException

from hypha_common.errors import BadRequest, HyphaError, NotFound, PermissionDenied, Unauthorized, Unavailable
from hypha_common.ids import MAX_ID_BYTES, PUBLIC_WORKSPACE, Address, check_client_id, new_id, personal_workspace
from hypha_common.scopes import is_specialized
from hypha_common.tokens import VerifiedToken
from hypha_gateway import metrics
from hypha_gateway.addresses import origin_of, peer_address
from hypha_gateway.http.arguments import query_parameters
from hypha_gateway.http.caller import token_of
from hypha_gateway.http.openapi import Answer, Body, Operation, Parameter, describes
from hypha_gateway.http.request_body import body_limits, read_body
from hypha_gateway.http.responses import Receive, Scope, Send, send_body, send_error

from .proof import Proof, StreamKey, cookie_name, digest
from .session import StreamSession
from .stateless import answer_stateless
from .stream_link import StreamLink

if TYPE_CHECKING:
    from hypha_gateway.gateway import Gateway

__all__ = ["RpcEndpoint"]

log = structlog.get_logger(__name__)

_NOT_NOW = "The server takes no connections at the moment, please retry"


_FRAMES = {"type": "string", "contentMediaType": "application/msgpack"}
_CLIENT_ID = Parameter("client_id", "id of the client in its workspace")
_WORKSPACE = Parameter("workspace", "workspace of the client; by default the one of its token, else its own")
_RECONNECTION = Parameter("reconnection_token", "token of an earlier stream of this client")
_REFUSED = {
    404: Answer.error("There is no such workspace, client or method"),
    409: Answer.error("The client id is in use, or the stream belongs to somebody else"),
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
            if scope["method"] == "GET":
                stream = await _open(gateway, scope, query)
            else:
                await _post(gateway, scope, query, receive, send)
                return
        except HyphaError as error:
            await send_error(send, error)
            return
        await stream.run(receive, send)


class _Stream:
    """A stream that has been let in, ready to run."""

    def __init__(self, link: StreamLink, session: StreamSession, cookie: bytes) -> None:
        self._link = link
        self._session = session
        self._cookie = cookie

    async def run(self, receive: Receive, send: Send) -> None:
        headers = [
            (b"content-type", b"application/x-msgpack-stream"),
            (b"cache-control", b"no-cache"),
            (b"connection", b"keep-alive"),
            (b"x-accel-buffering", b"no"),
            (b"set-cookie", self._cookie),
        ]
        try:
            await self._link.serve(receive, send, headers)
        finally:
            self._session.on_closed(self._link.code)


async def _open(gateway: Gateway, scope: Scope, query: dict[str, str]) -> _Stream:
    """Let a client in as every other one is. Raises HyphaError."""
    if not gateway.accepts():
        raise Unavailable(_NOT_NOW)
    token = _bearer(scope)
    reconnection_token = query.get("reconnection_token") or None
    workspace: str | None = query.get("workspace") or None
    if workspace == PUBLIC_WORKSPACE and reconnection_token is None:
        workspace = None
    client_id = query.get("client_id") or new_id()
    hello = {
        "client_id": client_id,
        "workspace": workspace,
        "token": token,
        "reconnection_token": reconnection_token,
    }
    remote = _remote(scope)
    abort = (scope.get("state") or {}).get("hypha.abort")
    link = StreamLink(gateway.settings, remote=remote, abort_transport=abort)
    key = StreamKey(token=token, address=remote)
    session = StreamSession(link, gateway, key)
    try:
        connection = await gateway.handshake.connect(session, hello)
        if connection is None:
            raise Unavailable(_NOT_NOW)
    except BaseException as error:
        session.on_closed(link.code)
        if isinstance(error, HyphaError):
            metrics.REFUSED.labels(str(error.status)).inc()
            log.info("stream_refused", status=error.status, reason=error.message)
            raise _as_told(error, reconnecting=reconnection_token is not None) from None
        raise
    name = cookie_name(connection.address)
    if name in _cookies(scope):  # of an earlier stream
        key.expect_cookie()
    path = gateway.settings.base_path.rstrip("/") + "/rpc"
    secure = "; Secure" if gateway.settings.public_base_url.startswith("https:") else ""
    cookie = f"{name}={key.cookie}; Path={path}; HttpOnly; SameSite=Strict{secure}"
    return _Stream(link, session, cookie.encode("latin-1"))


def _as_told(error: HyphaError, *, reconnecting: bool) -> HyphaError:
    """Return an error in the words of this transport."""
    if isinstance(error, Unauthorized) and reconnecting:
        return Unauthorized(f"Invalid reconnection token: {error.message}")
    if isinstance(error, PermissionDenied):
        error.message = error.message.replace("denied for workspace: ", "denied for workspace ", 1)
    return error


async def _post(gateway: Gateway, scope: Scope, query: dict[str, str], receive: Receive, send: Send) -> None:
    """Pass on what a client sent. Raises HyphaError."""
    body = await read_body(receive, dict(scope["headers"]), body_limits(gateway.settings))
    client_id = query.get("client_id")
    if not client_id:
        raise BadRequest("client_id is required")
    if not body:
        raise BadRequest("Empty request body")
    token = _bearer(scope) or query.get("reconnection_token")
    verified, bad_token = await _verify(gateway, token)
    client = Address(_workspace(query, verified), check_client_id(client_id))
    proof = Proof(
        token=digest(token),
        user=_speaker(verified, client),
        cookie=_cookies(scope).get(cookie_name(client), ""),
        address=_remote(scope),
    )
    try:
        taken = await gateway.posts.take(client, proof, body)
    except PermissionDenied:
        if bad_token is not None:
            raise bad_token from None
        raise
    if taken:
        await send_body(send, 200, b"", b"application/msgpack")
    else:
        await send_body(send, 200, await answer_stateless(gateway.state, scope, client, body))


async def _verify(gateway: Gateway, token: str | None) -> tuple[VerifiedToken | None, HyphaError | None]:
    """Return what a token says, or why it is no good: whoever opened a stream with it may go on after its expiry."""
    if token is None:
        return None, None
    if not gateway.state.revocations_known.is_set():
        raise Unavailable("The server does not know yet which tokens are revoked, please retry")
    try:
        return await gateway.authenticator.verify(token, None), None
    except HyphaError as error:
        return None, error


def _workspace(query: dict[str, str], verified: VerifiedToken | None) -> str:
    workspace = query.get("workspace")
    if not workspace and verified is not None:
        workspace = verified.workspace or personal_workspace(verified.principal.id)
    if not workspace:
        raise BadRequest("workspace is required")
    if len(workspace.encode()) > MAX_ID_BYTES or "/" in workspace or not workspace.isprintable():
        raise NotFound("There is no such workspace")
    return workspace


def _speaker(verified: VerifiedToken | None, client: Address) -> str:
    """Return the user that a token stands for, if it is one to speak for ``client`` with."""
    if verified is None or is_specialized(verified.extra_scopes):
        return ""
    bound = verified.workspace not in (None, client.workspace) or verified.client_id not in (None, client.client)
    return "" if bound else verified.principal.id


def _bearer(scope: Scope) -> str | None:
    """Return the token in ``Authorization``; cookies of people who look at pages do not open streams."""
    return token_of((name, value) for name, value in scope["headers"] if name == b"authorization")


def _cookies(scope: Scope) -> dict[str, str]:
    """Return the cookies of streams that a request brings."""
    crumbs = [crumb for name, value in scope["headers"] if name == b"cookie" for crumb in value.split(b";")]
    pairs = (crumb.decode("latin-1").strip().partition("=") for crumb in crumbs)
    return {name: value.strip('"')[:64] for name, _, value in pairs if name.startswith("hypha-stream-")}


def _remote(scope: Scope) -> str:
    return peer_address(*origin_of(scope))
