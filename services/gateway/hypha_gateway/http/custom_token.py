from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypha_common.custom_auth import GATEWAY_PART, PROVIDER_SERVICE, CustomAuth
from hypha_common.errors import HyphaError, Unauthorized, Unavailable
from hypha_common.ids import PUBLIC_WORKSPACE

from .responses import Scope

if TYPE_CHECKING:
    from hypha_gateway.state import GatewayState

__all__ = ["custom_token"]

_TIMEOUT_S = 2.0
_PLAIN = ("type", "http_version", "method", "scheme", "path", "raw_path", "query_string", "root_path")


async def custom_token(state: GatewayState, custom: CustomAuth, scope: Scope) -> str | None:
    """
    Ask the startup function ``get_token`` for the token of a request; None: it found none.

    Raises Unauthorized where it refuses the request, Unavailable where it does not answer.

    """
    sender = await state.sender_for(PUBLIC_WORKSPACE)
    try:
        answer = await state.peer.call(
            custom.provider,
            f"services.{PROVIDER_SERVICE}.{GATEWAY_PART}",
            _plain(scope),
            sender=sender,
            workspace=PUBLIC_WORKSPACE,
            timeout=_TIMEOUT_S,
        )
    except HyphaError:
        raise Unavailable("Custom authentication is temporarily unavailable") from None
    if not isinstance(answer, dict) or "error" in answer:
        raise Unauthorized(str(answer.get("error") if isinstance(answer, dict) else answer))
    token = answer.get("result")
    return token if isinstance(token, str) and token else None


def _plain(scope: Scope) -> dict[str, Any]:
    """Return what of an ASGI scope can travel."""
    plain: dict[str, Any] = {name: scope[name] for name in _PLAIN if name in scope}
    plain["headers"] = [list(header) for header in scope["headers"]]
    for name in ("client", "server"):
        plain[name] = list(scope[name]) if scope.get(name) else None
    return plain
