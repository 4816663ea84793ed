from __future__ import annotations

from typing import TYPE_CHECKING

from hypha_common.errors import HyphaError, PermissionDenied, Unauthorized, Unavailable
from hypha_common.ids import PUBLIC_WORKSPACE, Address, new_id
from hypha_common.settings import Settings
from hypha_gateway import metrics
from hypha_gateway.connection import Connection
from hypha_gateway.http.responses import Receive, Scope, Send

from .proof import StreamKey, cookie_name
from .request import bearer, remote, stream_cookies
from .session import StreamSession
from .stream_link import StreamLink

if TYPE_CHECKING:
    from hypha_gateway.gateway import Gateway

__all__ = ["OpenStream", "open_stream"]


_NOT_NOW = "The server takes no connections at the moment, please retry"


class OpenStream:
    """A stream whose client has been let in, ready to run."""

    def __init__(self, link: StreamLink, session: StreamSession, cookie: str) -> None:
        self._link = link
        self._session = session
        self._cookie = cookie

    async def run(self, receive: Receive, send: Send) -> None:
        """Answer with frames until the stream ends."""
        headers = [
            (b"content-type", b"application/x-msgpack-stream"),
            (b"cache-control", b"no-cache"),
            (b"connection", b"keep-alive"),
            (b"x-accel-buffering", b"no"),
            (b"set-cookie", self._cookie.encode("latin-1")),
        ]
        try:
            await self._link.serve(receive, send, headers)
        finally:
            self._session.on_closed(self._link.code)


async def open_stream(gateway: Gateway, scope: Scope, query: dict[str, str]) -> OpenStream:
    """Let a client in as every other one is. Raises HyphaError."""
    if not gateway.accepts():
        raise Unavailable(_NOT_NOW)
    hello = _hello(scope, query)
    address = remote(scope)
    abort = (scope.get("state") or {}).get("hypha.abort")  # our own server's; others have none
    link = StreamLink(gateway.settings, remote=address, abort_transport=abort)
    key = StreamKey(token=hello["token"], address=address)
    session = StreamSession(link, gateway, key)
    connection: Connection | None = None
    try:
        connection = await gateway.handshake.connect(session, hello)
        if connection is None:
            raise Unavailable(_NOT_NOW)
    except HyphaError as error:
        metrics.REFUSED.labels(str(error.status)).inc()
        session.note_refusal(status=error.status, reason=error.message)
        raise _as_told(error, reconnecting=hello["reconnection_token"] is not None) from None
    finally:
        if connection is None:
            session.on_closed(link.code)
    if cookie_name(connection.address) in stream_cookies(scope):  # of an earlier stream
        key.expect_cookie()
    return OpenStream(link, session, _cookie(gateway.settings, connection.address, key))


def _hello(scope: Scope, query: dict[str, str]) -> dict[str, str | None]:
    """Return what a websocket's first message would say."""
    reconnection_token = query.get("reconnection_token") or None
    workspace: str | None = query.get("workspace") or None
    if workspace == PUBLIC_WORKSPACE and reconnection_token is None:
        workspace = None
    return {
        "client_id": query.get("client_id") or new_id(),
        "workspace": workspace,
        "token": bearer(scope),
        "reconnection_token": reconnection_token,
    }


def _cookie(settings: Settings, client: Address, key: StreamKey) -> str:
    path = settings.base_path.rstrip("/") + "/rpc"
    secure = "; Secure" if settings.public_base_url.startswith("https:") else ""
    return f"{cookie_name(client)}={key.cookie}; Path={path}; HttpOnly; SameSite=Strict{secure}"


def _as_told(error: HyphaError, *, reconnecting: bool) -> HyphaError:
    """Return an error in the words of this transport."""
    if isinstance(error, Unauthorized) and reconnecting:
        return Unauthorized(f"Invalid reconnection token: {error.message}")
    if isinstance(error, PermissionDenied):
        error.message = error.message.replace("denied for workspace: ", "denied for workspace ", 1)
    return error
