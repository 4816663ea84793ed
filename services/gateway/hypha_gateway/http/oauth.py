from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from hypha_common.errors import BadRequest, UnsupportedMediaType
from hypha_common.subjects import role_verb

from .openapi import Answer, Body, Operation, describes
from .request_body import BodyLimits, read_body
from .responses import encode_json

if TYPE_CHECKING:
    from hypha_gateway.state import GatewayState

__all__ = ["authorize", "token"]

_TIMEOUT_S = 12.0  # the auth service gives up on the provider before
_LIMITS = BodyLimits(max_bytes=64 * 1024, timeout_s=10.0)
_MAX_CREDENTIALS = 8192
_FORM = "application/x-www-form-urlencoded"
_NOT_STORED = {"Cache-Control": "no-store", "Pragma": "no-cache"}

_FAILURES = {
    404: Answer.error("No identity provider is configured on this server"),
    503: Answer.error("The identity provider cannot be reached"),
    504: Answer.error("The identity provider does not answer"),
}
_AUTHORIZE = Operation(
    "Begin an authorization at the identity provider",
    {307: Answer.redirect("On to the provider's own address, with the same query"), **_FAILURES},
    tag="login",
)
_ANSWER: dict[str, Any] = {"type": "object", "description": "RFC 6749 §5"}
_TOKEN = Operation(
    "Exchange a grant for tokens at the identity provider",
    {
        200: Answer.json("The provider's answer", _ANSWER),
        400: Answer.json("The provider refuses the request", _ANSWER),
        401: Answer.json("The provider refuses the client", _ANSWER),
        415: Answer.error("The body is no form"),
        **_FAILURES,
    },
    description="The form is passed on as it is, with the header `Authorization` if that is of type Basic.",
    body=Body("A token request of RFC 6749", {_FORM: {"type": "object"}}),
    tag="login",
)


@describes(_AUTHORIZE)
async def authorize(request: Request) -> Response:
    """``GET /oauth/authorize``: on to the identity provider's own address, with the same query (contract 01 §5.1)."""
    endpoint: str = (await _ask(request, "oauth_endpoints", {}))["authorization_endpoint"]
    query = request.url.query
    separator = "&" if "?" in endpoint else "?"
    return RedirectResponse(f"{endpoint}{separator}{query}" if query else endpoint, 307, headers=_NOT_STORED)


@describes(_TOKEN)
async def token(request: Request) -> Response:
    """``POST /oauth/token``: the identity provider's answer to the same form."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _FORM:
        raise UnsupportedMediaType(f"The request must be of type {_FORM}")
    body = await read_body(request.receive, dict(request.scope["headers"]), _LIMITS)
    try:
        form = body.decode("ascii")
    except UnicodeDecodeError:
        raise UnsupportedMediaType(f"The request is not of type {_FORM}") from None
    authorization = request.headers.get("authorization", "")
    if len(authorization) > _MAX_CREDENTIALS:
        raise BadRequest("The header Authorization is too long")
    answer = await _ask(request, "oauth_token", {"form": form, "authorization": authorization})
    return Response(
        encode_json(answer["content"]), answer["status"], media_type="application/json", headers=_NOT_STORED
    )


async def _ask(request: Request, verb: str, message: dict[str, Any]) -> dict[str, Any]:
    state: GatewayState = request.app.state.gateway
    answer: dict[str, Any] = await state.bus.request(role_verb("auth", 0, verb), message, timeout=_TIMEOUT_S)
    return answer
