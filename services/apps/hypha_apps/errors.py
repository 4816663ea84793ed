from __future__ import annotations

from hypha_common.errors import HyphaError

__all__ = ["StartFailed"]


class StartFailed(HyphaError):
    """An app did not start: its worker refused, its code failed, or its service did not come in time."""

    status, code, rpc_type = 500, "start_failed", "RuntimeError"
