from __future__ import annotations

from typing import TYPE_CHECKING

from hypha_common.errors import BadRequest, HyphaError, NotFound, PermissionDenied, Unavailable
from hypha_common.ids import MAX_ID_BYTES, Address, check_client_id, personal_workspace
from hypha_common.scopes import is_specialized
from hypha_common.tokens import VerifiedToken
from hypha_gateway.http.request_body import body_limits, read_body
from hypha_gateway.http.responses import Receive, Scope, Send, send_body

from .proof import Proof, cookie_name, digest
from .request import bearer, remote, stream_cookies
from .stateless import answer_stateless

if TYPE_CHECKING:
    from hypha_gateway.gateway import Gateway

__all__ = ["take_post"]


async def take_post(gateway: Gateway, scope: Scope, query: dict[str, str], receive: Receive, send: Send) -> None:
    """Pass on what a client sent, or call a function for somebody without a stream. Raises HyphaError."""
    body = await read_body(receive, dict(scope["headers"]), body_limits(gateway.settings))
    client_id = query.get("client_id")
    if not client_id:
        raise BadRequest("client_id is required")
    if not body:
        raise BadRequest("Empty request body")
    token = bearer(scope) or query.get("reconnection_token")
    verified, bad_token = await _verify(gateway, token)
    client = Address(_workspace(query, verified), check_client_id(client_id))
    proof = Proof(
        token=digest(token),
        user=_speaker(verified, client),
        cookie=stream_cookies(scope).get(cookie_name(client), ""),
        address=remote(scope),
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
