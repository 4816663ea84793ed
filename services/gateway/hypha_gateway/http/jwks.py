from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hypha_common.errors import Unavailable

from .openapi import Answer, Operation, describes
from .openapi.schemas import reference

if TYPE_CHECKING:
    from hypha_gateway.state import GatewayState

__all__ = ["jwks"]

# A key signs for days before it is retired, and gateways hear of a new one at once; others may look every 5 minutes.
_HEADERS = {"Cache-Control": "public, max-age=300"}


@describes(
    Operation(
        "Public keys of this hub's tokens",
        {
            200: Answer.json("JSON Web Key Set (RFC 7517)", reference("KeySet")),
            503: Answer.error("Not able to tell right now; try again"),
        },
        "A token whose header names one of these keys can be verified with it by anybody.",
        tag="operation",
    )
)
async def jwks(request: Request) -> Response:
    """``GET /.well-known/jwks.json``: the public keys with which anybody can verify the cluster's tokens (RFC 7517)."""
    state: GatewayState = request.app.state.gateway
    if not state.revocations_known.is_set():
        raise Unavailable("The server does not know its keys yet, please retry")
    return JSONResponse({"keys": state.security.keys.jwks}, headers=_HEADERS)
