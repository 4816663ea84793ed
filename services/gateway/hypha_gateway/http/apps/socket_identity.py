from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote_plus, urlsplit

from hypha_common.errors import Unauthorized
from hypha_gateway.http.arguments import query_parameters
from hypha_gateway.http.caller import identify, without_token
from hypha_gateway.http.responses import Scope

if TYPE_CHECKING:
    from hypha_gateway.state import GatewayState

__all__ = ["identify_socket"]

_TOKEN = "token"


async def identify_socket(state: GatewayState, scope: Scope) -> None:
    """
    Find out who opens a websocket: by the headers of HTTP, else by ``token`` in the query, else by cookie.

    Pages cannot give a websocket headers, so they may give it their token in the query; the service does not get to
    see it. A cookie is sent with websockets of any page, and no rule of browsers keeps the others from reading them:
    it counts only for pages of this hub, and of origins that are named in ``allow_origins``.

    Raises Unauthorized for a token that is no good; one in the query may be the service's own, and is left to it.

    """
    headers = scope["headers"]
    if not any(name in (b"authorization", b"x-local-auth") for name, _ in headers):
        token = query_parameters(scope["query_string"]).get(_TOKEN)
        if token and await _is_ours(state, scope, token):
            scope["query_string"] = _without_field(scope["query_string"], _TOKEN)
            return
        if not _is_trusted(state, scope):
            without_token(scope)
            return
    await identify(state, scope)


async def _is_ours(state: GatewayState, scope: Scope, token: str) -> bool:
    try:
        await identify(state, scope, token=token)
    except Unauthorized:
        return False
    return True


def _is_trusted(state: GatewayState, scope: Scope) -> bool:
    """Tell whether a page may use the cookies that its browser sends; other programs say of no page that they are."""
    headers = dict(scope["headers"])
    if b"origin" not in headers:
        return True
    origin = headers[b"origin"].decode("latin-1").rstrip("/").lower()
    own = {headers.get(b"host", b"").decode("latin-1").lower(), urlsplit(state.settings.public_base_url).netloc.lower()}
    named = {allowed.strip().rstrip("/").lower() for allowed in state.settings.allow_origins} - {"*"}
    return urlsplit(origin).netloc in own - {""} or origin in named


def _without_field(query: bytes, name: str) -> bytes:
    fields = query.split(b"&")
    return b"&".join(field for field in fields if _name_of(field) != name)


def _name_of(field: bytes) -> str:
    return unquote_plus(field.partition(b"=")[0].decode("latin-1"))
