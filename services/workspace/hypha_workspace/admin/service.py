from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypha_common.rpc.service import Service

from .blocks import BlockMethods
from .clients import ClientMethods
from .overview import OverviewMethods
from .workspaces import WorkspaceMethods

if TYPE_CHECKING:
    from .backend import AdminBackend

__all__ = ["create_admin_utils"]

_DOCS = (
    "For root and users of role `admin`. There is no terminal: a cluster of services has no single process to attach "
    "one to. The command lines `hypha-workspace`, `hypha-gateway` and `hypha-auth` do what these methods do, and more."
)


def create_admin_utils(backend: AdminBackend) -> Service:
    """Return the service ``ws-user-root/admin-utils`` (contract 03 §6.1)."""
    about: dict[str, Any] = {
        "name": "Admin utilities",
        "type": "admin-utils",
        "description": "Who is connected, what is loaded, and how to end it or keep it out.",
        "docs": _DOCS,
        "visibility": "protected",
    }
    return Service.of(
        "admin-utils",
        OverviewMethods(backend),
        ClientMethods(backend),
        WorkspaceMethods(backend),
        BlockMethods(backend),
        config={"require_context": False},
        **about,
    )
