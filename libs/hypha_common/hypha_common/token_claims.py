from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from typing import Any

from .errors import BadRequest
from .ids import personal_workspace
from .principal import Permission, Principal
from .scopes import parse_scope
from .verified_token import TokenKind, VerifiedToken

__all__ = ["principal_of_claims", "read_claims"]

_TOKEN_ID = re.compile(r"[\w.-]{1,128}", re.ASCII)  # without a colon: it cannot be the mark of a key


def read_claims(claims: dict[str, Any], namespace: str, *, token: str, key_id: str) -> VerifiedToken:
    """Return what the verified claims of ``token`` say. Raises BadRequest, TypeError or ValueError."""
    principal = principal_of_claims(claims, namespace)
    scope = principal.scope
    generation, jti = claims.get(f"{namespace}gen"), claims.get("jti")
    return VerifiedToken(
        principal=principal,
        workspace=scope.current_workspace,
        client_id=scope.client_id,
        extra_scopes=scope.extra_scopes or (),
        expires_at=principal.expires_at,
        token_id=jti if isinstance(jti, str) and _TOKEN_ID.fullmatch(jti) else _digest(token),
        kind=TokenKind(claims.get(f"{namespace}typ", TokenKind.UNTYPED)),
        generation=None if generation is None else int(generation),
        key_id=key_id,
        origins=_origins(claims.get(f"{namespace}origin")),
    )


def principal_of_claims(claims: dict[str, Any], namespace: str) -> Principal:
    """
    Return the user that verified claims describe (contract 01 §4.1).

    A user owns its personal workspace, and an administrator everything. A token bound to another workspace does not
    bring the personal one along: whoever holds it would not be limited to the workspace it was made for.

    """
    user_id, roles = claims["sub"], claims.get(f"{namespace}roles") or []
    granted = claims.get("scope") or ""
    if not user_id or not isinstance(roles, list) or not all(isinstance(role, str) for role in roles):
        raise BadRequest("a subject and a list of roles are needed")
    if not isinstance(granted, str):
        raise BadRequest("the scope must be text")
    scope = parse_scope(granted)
    grants = dict(scope.workspaces)
    own = personal_workspace(user_id)
    if scope.current_workspace in (None, own):
        grants[own] = Permission.ADMIN
    if "admin" in roles:
        grants["*"] = Permission.ADMIN
    return Principal(
        id=user_id,
        roles=tuple(roles),
        is_anonymous="anonymous" in roles,
        scope=replace(scope, workspaces=grants),
        email=claims.get(f"{namespace}email"),
        parent=claims.get(f"{namespace}parent"),
        expires_at=float(claims["exp"]),
    )


def _origins(claim: object) -> tuple[str, ...]:
    """Read a list of ids, or the single id that older replicas write."""
    ids = [claim] if isinstance(claim, str) else claim or []
    if not isinstance(ids, list) or not all(isinstance(token_id, str) for token_id in ids):
        raise BadRequest("the origins must be a list of token ids")
    return tuple(ids)


def _digest(token: str) -> str:
    # Only the signed part: base64 lets one signature be written in several ways.
    return hashlib.sha256(token.rpartition(".")[0].encode()).hexdigest()
