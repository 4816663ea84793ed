from __future__ import annotations

from typing import TYPE_CHECKING

from hypha_common.errors import HyphaError
from hypha_gateway.denials import record_denial

from .caller import verified_of
from .rate_limit import request_address
from .responses import Scope

if TYPE_CHECKING:
    from hypha_gateway.state import GatewayState

__all__ = ["note_denial"]


def note_denial(state: GatewayState, scope: Scope, error: HyphaError) -> None:
    """Write down that a request was refused, if it was for who makes it."""
    if error.status not in (401, 403):
        return
    verified = verified_of(scope)
    record_denial(
        state.audit,
        error,
        address=request_address(scope),
        user=verified.principal.id if verified else "",
        workspace=scope.get("path_params", {}).get("workspace", ""),
    )
