from __future__ import annotations

import argparse
import asyncio
import time
from dataclasses import dataclass
from typing import Any

import jwt

from hypha_auth.revoking import MAX_LIFE_S, revocation_of
from hypha_common.blocks import BlockList
from hypha_common.errors import BadRequest, PermissionDenied, Unauthorized
from hypha_common.keys import RING_ALGORITHM
from hypha_common.settings import Settings
from hypha_common.token_claims import read_claims
from hypha_common.token_flags import seconds_of, token_principal
from hypha_common.tokens import EXPIRED, TokenCodec, VerifiedToken
from hypha_common.verifier import RootToken

from .desk import Desk, open_desk
from .output import print_fields, read_token, when

__all__ = ["inspect", "issue", "revoke"]


def issue(settings: Settings, parsed: argparse.Namespace) -> None:
    """Print a new token."""
    asyncio.run(_issue(settings, parsed))


def inspect(settings: Settings, parsed: argparse.Namespace) -> None:
    """Print what a token says and what it is worth."""
    asyncio.run(_inspect(settings, parsed))


def revoke(settings: Settings, parsed: argparse.Namespace) -> None:
    """Revoke a token, and what came of it."""
    if (parsed.token is None) == (parsed.token_id is None):
        raise BadRequest("Name a token, - for standard input, or --token-id; one of them")
    asyncio.run(_revoke(settings, parsed))


async def _issue(settings: Settings, parsed: argparse.Namespace) -> None:
    principal, life_s = token_principal(parsed), seconds_of(parsed.expires_in, "--expires-in")
    async with open_desk(settings) as desk:
        codec = desk.codec()
        codec.signer = ring = desk.ring(codec)
        await ring.start()
        try:
            token = codec.sign(principal, life_s=life_s)
        finally:
            await ring.close()
        desk.audit.record(
            "token_issued",
            user=desk.by,
            workspace=principal.scope.current_workspace or "",
            subject=principal.id,
            permission=parsed.permission,
            expires_in=round(life_s),
        )
        print(token)  # noqa: T201


async def _inspect(settings: Settings, parsed: argparse.Namespace) -> None:
    token = read_token(parsed.token)
    async with open_desk(settings) as desk:
        codec = desk.codec()
        await desk.ring(codec).refresh()
        found = _read(settings, codec, token)
        fields = await _fields(desk, found)
    print_fields(fields, as_json=parsed.json)


@dataclass(frozen=True, slots=True)
class _Found:
    verified: VerifiedToken | None  # also for a token that does not verify: what it claims; None: it cannot be read
    verifies: str  # "yes", or why not
    algorithm: str | None
    key_id: str | None
    issued_at: float | None = None


def _read(settings: Settings, codec: TokenCodec, token: str) -> _Found:
    root = RootToken(settings.root_token).verify(token)
    if root is not None:
        return _Found(root, "yes", None, None)
    try:
        header = jwt.get_unverified_header(token)
        claims = jwt.decode(token, options={"verify_signature": False})
    except (jwt.InvalidTokenError, UnicodeEncodeError):
        raise BadRequest("That is no token (JWT)") from None
    algorithm, key_id, issued_at = header.get("alg"), header.get("kid"), claims.get("iat")
    issued_at = issued_at if isinstance(issued_at, (int, float)) else None
    try:
        return _Found(codec.verify(token), "yes", algorithm, key_id, issued_at)
    except Unauthorized as error:
        ring_key = str(key_id) if algorithm == RING_ALGORITHM else ""
        said = _claimed(settings, claims, token, ring_key)
        return _Found(said, f"no: {error.message}", algorithm, key_id, issued_at)


def _claimed(settings: Settings, claims: dict[str, Any], token: str, key_id: str) -> VerifiedToken | None:
    """Return what a token says that nobody vouches for."""
    try:
        return read_claims(claims, settings.auth0_namespace, token=token, key_id=key_id)
    except (BadRequest, KeyError, TypeError, ValueError):
        return None


async def _fields(desk: Desk, found: _Found) -> dict[str, Any]:
    said = found.verified
    fields: dict[str, Any] = {"verifies": found.verifies, "algorithm": found.algorithm, "key_id": found.key_id}
    if said is None:
        return fields
    user = said.principal
    names = [name for name in (user.id, user.parent) if name]
    return {
        **fields,
        "revoked": bool(await desk.revoked.among(said.revocable)),
        "blocked": await _blocked(desk, names),
        "kind": str(said.kind),
        "user": user.id,
        "parent": user.parent,
        "email": user.email,
        "roles": list(user.roles),
        "workspace": said.workspace,
        "client_id": said.client_id,
        "permissions": {name: permission.wire for name, permission in user.scope.workspaces.items()},
        "extra_scopes": list(said.extra_scopes),
        "token_id": said.token_id,
        "origins": list(said.origins),
        "issued_at": when(found.issued_at),
        "expires_at": when(said.expires_at),
        "expires_in": None if said.expires_at is None else round(said.expires_at - time.time()),
    }


async def _blocked(desk: Desk, names: list[str]) -> str | bool:
    blocks = BlockList()
    blocks.replace(await desk.blocks.current())
    try:
        blocks.check(names, "")
    except PermissionDenied as error:
        return error.message
    return False


async def _revoke(settings: Settings, parsed: argparse.Namespace) -> None:
    async with open_desk(settings, announces=True) as desk:
        if parsed.token_id is not None:
            token_id, until, subject = parsed.token_id, time.time() + MAX_LIFE_S, ""
        else:
            verified = await _good(desk, read_token(parsed.token))
            token_id, until = revocation_of(verified, desk.settings.reconnection_token_life_time)
            subject = verified.principal.id
        await desk.revoked.add(token_id, until, desk.by)
        desk.announcer.revoked([(token_id, until)])
        desk.audit.record("token_revoked", user=desk.by, subject=subject, token_id=token_id)
    print_fields({"revoked": token_id}, as_json=parsed.json)


async def _good(desk: Desk, token: str) -> VerifiedToken:
    if RootToken(desk.settings.root_token).verify(token) is not None:
        raise BadRequest("The root token cannot be revoked, only changed in the configuration")
    codec = desk.codec()
    await desk.ring(codec).refresh()
    try:
        return codec.verify(token)
    except Unauthorized as error:
        text = "The token has already expired" if error.message == EXPIRED else f"Invalid token: {error.message}"
        raise BadRequest(text) from None
