from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any

from .errors import BadRequest, PermissionDenied
from .ids import ROOT_WORKSPACE, personal_workspace

__all__ = ["Permission", "Principal", "Scope", "authorize", "root_principal"]


class Permission(IntEnum):
    """What a principal may do in a workspace; a higher one includes the lower ones."""

    NONE = 0
    READ = 1
    READ_WRITE = 2
    ADMIN = 3

    @property
    def wire(self) -> str:
        """The short name used in scopes: ``r``, ``rw``, ``a``."""
        return ("", "r", "rw", "a")[self]

    @classmethod
    def from_wire(cls, text: str) -> Permission:
        """Parse ``r``/``rw``/``a`` or the long names ``read``/``read_write``/``admin``. Raises BadRequest."""
        try:
            return _BY_NAME[text]
        except (KeyError, TypeError):
            raise BadRequest(f"Invalid permission: {text}") from None


_BY_NAME = {
    "r": Permission.READ,
    "rw": Permission.READ_WRITE,
    "a": Permission.ADMIN,
    "read": Permission.READ,
    "read_write": Permission.READ_WRITE,
    "admin": Permission.ADMIN,
}


@dataclass(frozen=True, slots=True)
class Scope:
    """What a token grants. ``workspaces`` maps an id (or ``*``) to a permission."""

    workspaces: dict[str, Permission] = field(default_factory=dict)
    current_workspace: str | None = None
    client_id: str | None = None
    extra_scopes: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Principal:
    """Who acts: the UserInfo of contract 01 §4.1. Immutable, so that one may be shared by every frame."""

    id: str
    roles: tuple[str, ...] = ()
    is_anonymous: bool = False
    scope: Scope = field(default_factory=Scope)
    email: str | None = None
    parent: str | None = None
    expires_at: float | None = None  # Unix time, seconds
    current_workspace: str | None = None

    @property
    def is_admin(self) -> bool:
        return "admin" in self.roles

    @property
    def is_root(self) -> bool:
        """Tell whether root itself acts, not somebody whom root gave a token."""
        return self.id == "root" and self.is_admin and self.parent is None

    def permission(self, workspace: str) -> Permission:
        """Return the maximum over the grants for ``workspace`` (``*`` included)."""
        grants = self.scope.workspaces
        return max(grants.get("*", Permission.NONE), grants.get(workspace, Permission.NONE))

    def owns(self, workspace: str, owners: list[str] | tuple[str, ...] = ()) -> bool:
        """Tell whether this user is an owner (contract 01 §3.2 "owner test")."""
        names = {self.id, self.email, self.parent} - {None}
        if any(name in owners for name in names):
            return True
        return workspace in {personal_workspace(name) for name in (self.id, self.parent) if name}

    def with_scope(self, **changes: Any) -> Principal:
        return replace(self, scope=replace(self.scope, **changes))

    def dump(self) -> dict[str, Any]:
        """Return the UserInfo map that clients see."""
        extra = self.scope.extra_scopes
        return {
            "id": self.id,
            "roles": list(self.roles),
            "is_anonymous": self.is_anonymous,
            "scope": {
                "current_workspace": self.scope.current_workspace,
                "workspaces": {name: p.wire for name, p in self.scope.workspaces.items()},
                "client_id": self.scope.client_id,
                "extra_scopes": None if extra is None else list(extra),
            },
            "email": self.email,
            "parent": self.parent,
            "expires_at": self.expires_at,
            "current_workspace": self.current_workspace,
        }

    @classmethod
    def load(cls, data: dict[str, Any]) -> Principal:
        """Rebuild what :meth:`dump` wrote. Raises BadRequest."""
        try:
            scope = data.get("scope") or {}
            extra = scope.get("extra_scopes")
            return cls(
                id=data["id"],
                roles=tuple(data.get("roles") or ()),
                is_anonymous=bool(data.get("is_anonymous")),
                scope=Scope(
                    workspaces={name: Permission.from_wire(p) for name, p in (scope.get("workspaces") or {}).items()},
                    current_workspace=scope.get("current_workspace"),
                    client_id=scope.get("client_id"),
                    extra_scopes=None if extra is None else tuple(extra),
                ),
                email=data.get("email"),
                parent=data.get("parent"),
                expires_at=data.get("expires_at"),
                current_workspace=data.get("current_workspace"),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise BadRequest(f"Invalid user information: {error!r}") from None


def authorize(principal: Principal, needed: Permission, workspace: str) -> None:
    """
    Raise PermissionDenied unless ``principal`` holds ``needed`` on ``workspace``.

    The only place that decides: callers name the *target* workspace, parsed from the id they act on.

    """
    if principal.permission(workspace) < needed:
        raise PermissionDenied(f"Permission denied for workspace: {workspace}")


def root_principal(current_workspace: str | None = ROOT_WORKSPACE) -> Principal:
    """Return the principal that the cluster itself acts as."""
    return Principal(
        id="root",
        roles=("admin",),
        scope=Scope(workspaces={"*": Permission.ADMIN}, current_workspace=current_workspace),
        current_workspace=current_workspace,
    )
