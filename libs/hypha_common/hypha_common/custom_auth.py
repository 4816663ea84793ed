"""
Custom authentication: functions of a startup function that judge and make tokens (contract 01 §4.6).

The startup runner holds the functions. The auth service remembers that they are there, tells every process through the
security feed, and is the one that asks about tokens; gateways ask only where in a request the token is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from .errors import BadRequest
from .ids import PUBLIC_WORKSPACE, Address, is_text, personal_workspace
from .principal import Permission, Principal
from .scopes import check_extra_scopes

__all__ = ["GATEWAY_PART", "LOGIN", "PARTS", "PROVIDER_SERVICE", "REGISTRY_SERVICE", "CustomAuth", "checked_user"]

PROVIDER_SERVICE = "custom-auth-functions"  # of the runner: it is known to nobody but the cluster
REGISTRY_SERVICE = "custom-auth"  # of the auth service: where the runner says what it has

GATEWAY_PART = "get_token"
LOGIN = "login"  # the runner serves hypha-login
PARTS = ("parse_token", "generate_token", GATEWAY_PART, LOGIN)

MAX_TOKEN_BYTES = 8 * 1024
_MAX_ID_BYTES = 200


@dataclass(frozen=True, slots=True)
class CustomAuth:
    """Who provides custom authentication, and which parts of it."""

    client_id: str  # in workspace public
    parts: frozenset[str]

    @property
    def provider(self) -> Address:
        return Address(PUBLIC_WORKSPACE, self.client_id)

    def dump(self) -> dict[str, Any]:
        return {"client_id": self.client_id, "parts": sorted(self.parts)}

    @classmethod
    def load(cls, data: dict[str, Any] | None) -> CustomAuth | None:
        """Rebuild what :meth:`dump` wrote; None is none."""
        return None if data is None else cls(str(data["client_id"]), frozenset(data["parts"]))


def checked_user(data: dict[str, Any]) -> Principal:
    """
    Return the user that a custom function has described: what is written there, and its own workspace.

    Ids become workspaces, subjects and claims, so they are looked at. Raises BadRequest.

    """
    user = Principal.load(data)
    _check_id(user.id)
    if not all(isinstance(role, str) for role in user.roles):
        raise BadRequest("roles must be a list of text")
    for name in ("email", "parent", "current_workspace"):
        _check_text(name, getattr(user, name))
    for name in ("client_id", "current_workspace"):
        _check_text(name, getattr(user.scope, name))
    expires_at: object = user.expires_at
    if expires_at is not None and (isinstance(expires_at, bool) or not isinstance(expires_at, int | float)):
        raise BadRequest("expires_at must be a number of seconds")
    check_extra_scopes(user.scope.extra_scopes or ())
    return replace(user, scope=replace(user.scope, workspaces=_grants(user)))


def _grants(user: Principal) -> dict[str, Permission]:
    """As for tokens of the cluster: one that is bound to another workspace does not bring the personal one along."""
    grants = dict(user.scope.workspaces)
    own = personal_workspace(user.id)
    if user.scope.current_workspace in (None, own) and user.parent is None:
        grants[own] = Permission.ADMIN
    if "admin" in user.roles:
        grants["*"] = Permission.ADMIN
    return grants


def _check_id(user_id: object) -> None:
    if (
        not isinstance(user_id, str)
        or not user_id.isprintable()
        or not is_text(user_id)
        or not 0 < len(user_id.encode()) <= _MAX_ID_BYTES
        or any(character in user_id for character in "/*:@")
    ):
        raise BadRequest(f"Invalid user id {str(user_id)[:64]!r}: it must be text, without any of / * : @")
    if user_id == "root":
        raise BadRequest("Invalid user id 'root': that is the cluster itself; give a user the role 'admin' instead")


def _check_text(name: str, value: object) -> None:
    if value is not None and not (isinstance(value, str) and is_text(value)):
        raise BadRequest(f"{name} must be text")
