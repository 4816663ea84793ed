"""The RPC protocol of contract 01 §2, for every process of the cluster that serves or calls RPC clients."""

from __future__ import annotations

from .caller import Caller
from .functions import RemoteFunction
from .host import RoleHost
from .peer import RpcPeer, SendFrame
from .remote import RemoteError, status_of_remote_text
from .router import Router
from .service import Packed, Service, rpc_method

__all__ = [
    "Caller",
    "Packed",
    "RemoteError",
    "RemoteFunction",
    "RoleHost",
    "Router",
    "RpcPeer",
    "SendFrame",
    "Service",
    "rpc_method",
    "status_of_remote_text",
]
