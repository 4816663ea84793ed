from __future__ import annotations

from hypha_common.errors import HyphaError

__all__ = ["AppFault", "ClientGone"]


class AppFault(HyphaError):
    """A web service does what the protocol does not allow; told to it, and to whoever it was to answer."""

    status, code, rpc_type = 500, "app_fault", "RuntimeError"


class ClientGone(HyphaError):
    """Whoever a web service wants to answer has left."""

    status, code, rpc_type = 499, "client_gone", "ConnectionResetError"
