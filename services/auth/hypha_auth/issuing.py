from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from hypha_common.errors import BadRequest, PermissionDenied
from hypha_common.ids import check_client_id
from hypha_common.names import readable_name
from hypha_common.principal import Permission, Principal, Scope
from hypha_common.scopes import check_extra_scopes
from hypha_common.tokens import TokenCodec

from .revoking import MAX_LIFE_S

__all__ = ["DEFAULT_LIFE_S", "TokenConfig", "child_of", "issue", "life_of"]

DEFAULT_LIFE_S = 3600

_PERMISSIONS = {"read": Permission.READ, "read_write": Permission.READ_WRITE, "admin": Permission.ADMIN}


@dataclass(frozen=True, slots=True)
class TokenConfig:
    """What a caller of ``generate_token`` asks for (contract 01 §3.1)."""

    workspace: str
    permission: Permission = Permission.READ_WRITE
    expires_in: int = DEFAULT_LIFE_S
    extra_scopes: tuple[str, ...] = ()
    client_id: str | None = None
    email: str | None = None

    @classmethod
    def parse(cls, config: object, *, workspace: str) -> TokenConfig:
        """Read the argument map; ``workspace`` is where the caller is. Raises BadRequest."""
        if config is None:
            config = {}
        if not isinstance(config, Mapping):
            raise BadRequest("config must be a map", rpc_type="TypeError")
        permission = _or_default(config, "permission", "read_write")
        if not isinstance(permission, str) or permission not in _PERMISSIONS:
            raise BadRequest(f"Invalid permission: {permission}, it must be one of {', '.join(_PERMISSIONS)}")
        client_id, email = config.get("client_id"), config.get("email")
        if email is not None and not isinstance(email, str):
            raise BadRequest("email must be text")
        target = _or_default(config, "workspace", workspace)
        if not isinstance(target, str) or not target:
            raise BadRequest("workspace must be text")
        return cls(
            workspace=target,
            permission=_PERMISSIONS[permission],
            expires_in=life_of(config.get("expires_in")),
            extra_scopes=check_extra_scopes(_or_default(config, "extra_scopes", ())),
            client_id=None if client_id is None else check_client_id(client_id),
            email=email,
        )


def life_of(expires_in: object, default: int = DEFAULT_LIFE_S) -> int:
    """Return a token's life in whole seconds; None is the default. Raises BadRequest (AssertionError)."""
    if expires_in is None:
        return default
    if isinstance(expires_in, bool) or not isinstance(expires_in, (int, float)) or math.isnan(expires_in):
        raise BadRequest("expires_in must be a number of seconds")
    if expires_in <= 0:
        raise BadRequest("expires_in should be greater than 0", rpc_type="AssertionError")
    return max(1, int(min(expires_in, MAX_LIFE_S)))


def issue(codec: TokenCodec, caller: Principal, config: TokenConfig, *, owner: bool = False) -> str:
    """Return a token for :func:`child_of` the caller. Raises what that does."""
    return codec.sign(child_of(caller, config, owner=owner), life_s=config.expires_in)


def child_of(caller: Principal, config: TokenConfig, *, owner: bool = False) -> Principal:
    """
    Return the child of the caller that a token is asked for, limited to one workspace. Raises PermissionDenied.

    ``owner`` says that the workspace's record names the caller. That counts only for a caller who acts directly: a
    child token gives what is written in it, however mighty its parent is. The child is never an administrator of the
    cluster, so that the permission asked for is all it has.

    """
    direct_owner = owner and caller.parent is None
    held = Permission.ADMIN if direct_owner else caller.permission(config.workspace)
    if held < Permission.READ:
        raise PermissionDenied(f"You do not have any permission for workspace: {config.workspace}")
    if held < Permission.ADMIN:
        raise PermissionDenied("Only admin can generate token.")
    if config.email is not None and config.email != caller.email and not caller.is_admin:
        raise PermissionDenied("Only admin can set the email of a token.")
    return replace(
        caller,
        id=readable_name(),
        parent=caller.parent or caller.id,
        roles=tuple(role for role in caller.roles if role != "admin"),
        email=caller.email if config.email is None else config.email,
        scope=Scope(
            workspaces={config.workspace: min(config.permission, held)},
            current_workspace=config.workspace,
            client_id=config.client_id,
            extra_scopes=config.extra_scopes,
        ),
    )


def _or_default(config: Mapping[str, Any], name: str, default: Any) -> Any:
    value = config.get(name)
    return default if value is None else value
