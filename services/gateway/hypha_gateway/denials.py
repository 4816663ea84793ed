from __future__ import annotations

from hypha_common.audit import Audit
from hypha_common.errors import HyphaError, PermissionDenied, Unauthorized

__all__ = ["record_denial"]

_MAX_REASON = 100


def record_denial(audit: Audit, error: HyphaError, *, address: str, user: str = "", workspace: str = "") -> None:
    """Write down that somebody was refused, if it was for who he or she is."""
    if isinstance(error, (Unauthorized, PermissionDenied)):
        # What follows a colon are ids and claims: they would keep apart what is counted together.
        reason = error.message.partition(":")[0][:_MAX_REASON]
        audit.record("denied", user=user, workspace=workspace, address=address, reason=reason)
